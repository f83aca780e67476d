"""The model of many processes: its limits, its least time, a schedule against all others; what is shown."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.report import forecast, scaling
from mamlkit.report.costs import Link, Work, makespan, seconds

works = st.builds(Work, st.floats(0.01, 100), st.integers(1, 40), st.integers(1, 16), st.floats(1e3, 1e7))
links = st.builds(Link, st.floats(1e-6, 1e-2), st.floats(1e7, 1e11))
FREE = Link(0.0, math.inf)


@given(works, links, st.integers(1, 64))
def test_one_rank_takes_its_time_and_more_take_no_less_than_their_share(work, link, ranks):
    assert seconds(work, 1, link) == pytest.approx(work.seconds)
    taken = seconds(work, ranks, link)
    assert taken >= work.seconds / ranks * (1 - 1e-9) and taken >= seconds(work, ranks, FREE)
    chunks = math.ceil(work.tasks / work.chunk)
    assert seconds(work, max(ranks, chunks), FREE) == pytest.approx(seconds(work, chunks, FREE))


@given(works, links)
def test_single_tasks_have_the_best_ranks_of_the_formula(work, link):
    work = work._replace(chunk=1, tasks=10_000)  # which are as good as divisible at will
    ranks = math.sqrt(work.seconds / (link.latency + work.bytes / link.rate))
    # without the messages of more than one chunk, as in the formula
    of = lambda r: work.seconds / r + (r - 1) * (link.latency + work.bytes / link.rate)
    assert all(of(ranks) <= of(ranks * factor) + 1e-12 for factor in (0.5, 0.9, 1.1, 2.0))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.integers(1, 3))
def test_a_schedule_is_no_worse_than_the_bound_of_longest_first(hours, workers):
    found = makespan([lambda _, h=h: h for h in hours], workers)
    loads = lambda which: max(
        sum(h for h, w in zip(hours, which) if w == worker) for worker in range(workers)
    )
    best = min(map(loads, itertools.product(range(workers), repeat=len(hours))))
    assert best - 1e-9 <= found <= best * (4 / 3 - 1 / (3 * workers)) + 1e-9  # Graham, 1969


@given(st.lists(works, min_size=1, max_size=3), st.integers(1, 6))
def test_workers_that_are_left_go_where_they_help_most(given_works, left):
    runs = [lambda r, w=w: seconds(w, r, FREE) for w in given_works]
    workers = len(runs) + left
    shares = itertools.product(range(1, workers + 1), repeat=len(runs))
    best = min(max(run(r) for run, r in zip(runs, share)) for share in shares if sum(share) <= workers)
    assert makespan(runs, workers) == pytest.approx(best)


def kept(repository):
    """A repository with the committed measurements."""
    source, target = scaling_folder(), repository / "data" / "benchmarks" / "cluster"
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def scaling_folder():
    return Path(__file__).parents[2] / "data" / "benchmarks" / "cluster"


def test_every_training_of_table_1_was_measured():
    assert set(forecast._runs("Table 1")) == scaling.works_of_rows().keys()
    for name, work in scaling.works_of_rows().items():
        assert work.tasks == paper.get(name).meta_batch_size


def test_what_is_measured_lies_by_the_line(repository):
    target = kept(repository)
    (target / "gather.csv").write_text(
        "ranks,bytes,ms\n2,0,0.1\n2,1000000,1.1\n2,2000000,2.1\n3,1000000,2.5\n"
    )
    assert scaling.link_of_two() == pytest.approx((1e-4, 1e9))
    assert (
        "ρ = 1.00 GB/s" in scaling.gathers()
        and "| 1,000,000 | 1.10 | 1.10 | 2.50 | 2.20 |" in scaling.gathers()
    )


def test_a_model_stands_beside_what_it_was_not_fitted_to(repository):
    target = kept(repository)
    (target / "ranks.csv").write_text("row,alone_ms,two_ms\nomniglot-20way-1shot,1000,600\n")
    (target / "gather.csv").write_text("ranks,bytes,ms\n2,0,0.0000001\n2,1000000,1\n")
    line = next(line for line in scaling.beside().splitlines() if line.startswith("| Omniglot"))
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == ["1000", "600", "501", "1.67", "2.00"]


def test_what_policies_tell_each_other_stands_beside_the_model(repository):
    target = kept(repository)
    line = "half-cheetah-velocity-maml,10000,6000,40000000,20000000"
    (target / "policies.csv").write_text(f"row,alone_ms,two_ms,episodes,sums\n{line}\n")
    slope = 1e-9  # seconds of a byte
    lines = [f"2,{size},{1e3 * size * slope + 1e-9}" for size in (0, 10**6)]
    (target / "gather.csv").write_text("\n".join(["ranks,bytes,ms", *lines]) + "\n")
    text = scaling.policies()
    cells = next(line for line in text.splitlines() if line.startswith("| HalfCheetah")).strip("|").split("|")
    wanted = ["40", "40.0", "20.0", "10.00", "6.00", "5.03", "1.67"]
    assert [cell.strip() for cell in cells][1:] == wanted and "at most 1.0" in text


def test_the_plan_asks_for_results(repository):
    kept(repository)
    assert forecast.plan() == scaling.ABSENT


def test_the_plan_gets_shorter_with_more_machines_and_never_below_the_longest_run():
    text = forecast.plan()
    hours = [
        float(line.split("|")[2].replace(",", ""))
        for line in text.splitlines()
        if re.match(r"\| \d+ (CPU|GPU)", line)
    ]
    assert hours[0] > hours[1] and hours[2] > hours[3] and text.count("not measured") == 2
    link = scaling.link_of_two()
    longest = max(
        min(seconds(work, r, link) for r in range(1, 17)) * paper.get(name).iterations / 3600
        for name, work in scaling.works_of_rows().items()
    )
    assert hours[1] == pytest.approx(longest, abs=0.5)


def test_the_figure_has_a_text_and_its_measured_points():
    text = forecast.figure()
    assert 'aria-label="Speed-up against ranks.' in text and "not measured" in text
    first = text.split("<g data-frame=")[1]
    chunks = [
        math.ceil(w.tasks / w.chunk) for name, w in scaling.works_of_rows().items() if name in forecast.DRAWN
    ]
    assert re.search(r"chunks and is level or falls slowly after it: ([\d, and]+)\.", text)
    said = re.search(r"after it: ([\d, and]+)\.", text).group(1)
    assert sorted(map(int, re.findall(r"\d+", said))) == sorted(chunks)
    assert first.count("<circle") == scaling.measured("ranks").row.isin(forecast.DRAWN).sum() > 0


def test_chunks_come_first_where_a_message_costs_little(monkeypatch):
    assert "$C$ comes first in all of these" in forecast.which_comes_first()
    works = {"a": Work(0.1, 16, 1, 0.0), "b": Work(10.0, 16, 1, 0.0)}
    monkeypatch.setattr(forecast, "works_of_rows", lambda: works)
    monkeypatch.setattr(forecast, "link_of_two", lambda: Link(0.001, 1e9))
    text = forecast.which_comes_first()  # R* is 10 and 100, C is 16
    assert "100 to 10,000 times" in text and "is 10 or more, and $C$ comes first in 1 of these 2" in text


def test_measurements_say_where_they_are_from():
    origin = json.loads((places.repository() / "data/benchmarks/cluster/origin.json").read_text())
    assert origin.keys() == {"rows", "gather", "ranks", "policies", "ray"}
    assert all(
        np.isfinite(
            scaling.measured(name).select_dtypes("number").drop(columns="gflop", errors="ignore")
        ).all(axis=None)
        for name in origin
    )
