"""The queue: what is left and in which order, going on exactly, and that nothing stops it but time and
people."""

import dataclasses
import functools
import itertools
import os
import re
import signal
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import pytest
import torch

import made_results
from made_runs import same
from mamlkit import __main__
from mamlkit.experiments import paper
from mamlkit.report import results
from mamlkit.runs import checkpoints, folders, keeping, plan, queue, supervised_training, train, trainings

SINUSOID = paper.get("sinusoid-maml")
FIRST = dataclasses.replace(
    SINUSOID,
    iterations=120,
    meta_batch_size=2,
    quick={},
    evaluations=(dataclasses.replace(SINUSOID.evaluations[0], tasks=20),),
)
SECOND = dataclasses.replace(
    paper.get("2d-navigation-maml"), meta_batch_size=2, rollouts=2, iterations=4, evaluations=(
        dataclasses.replace(paper.get("2d-navigation-maml").evaluations[0], rollouts=2, tasks=3),
    )
)  # fmt: skip
NAMES = (FIRST.name, SECOND.name)
CPU = torch.device("cpu")
pytestmark = [pytest.mark.queue, pytest.mark.usefixtures("one_by_one")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository without results, and a queue of two short rows: a supervised one and one of policies."""
    made_results.queued(tmp_path, monkeypatch, FIRST, SECOND)
    # for good: the tests that follow would have it too
    monkeypatch.setattr(__main__.os, "nice", lambda by: by)
    return tmp_path


def work(place, machine="here", seeds=(0,), said=None, **more):
    base = place / machine
    say = (lambda line: None) if said is None else said.append
    return queue.work(plan.jobs(seeds=seeds, base=base), CPU, 1, base=base, tell=say, **more)


def result(place, name, seed=0):
    (found,) = (r for r in results.load(name) if r["seed"] == seed)
    return found["iterations_done"], checkpoints.load_params(results.checkpoint(name, seed))


def test_another_queue_of_the_repository_keeps_its_run(place):
    said = []
    with folders.keeping_alone(FIRST, 0):
        work(place, "elsewhere", said=said)
    assert results.load(FIRST.name) == [] and len(results.load(SECOND.name)) == 1
    assert any(FIRST.name in line and "another queue of this repository" in line for line in said)
    work(place, "elsewhere")
    assert result(place, FIRST.name)[0] == FIRST.iterations


def test_the_queue_has_every_row_of_the_paper_once():
    stand_ins = {name for name in paper.ROWS if "glyphs" in name or "textures" in name}
    assert sorted(paper.QUEUE) == sorted(paper.ROWS.keys() - stand_ins)


def test_every_row_comes_once_before_any_comes_twice(place):
    assert [(job.row.name, job.seed) for job in plan.jobs(seeds=(0, 1))] == [
        (name, seed) for seed in (0, 1) for name in NAMES
    ]
    assert [job.row.name for job in plan.jobs("2d-*", (0,))] == [SECOND.name]
    with pytest.raises(
        ValueError,
        match="only='ant', but no experiment of the queue has such a name; All are listed by",
    ):
        plan.jobs("ant")


def test_a_row_that_is_not_in_the_queue_is_not_said_to_be_missing(place):
    with pytest.raises(ValueError, match="but glyphs-5way-1shot is not in the queue, .* mamlkit run glyphs-"):
        plan.jobs("glyphs-5way-1shot")
    with pytest.raises(ValueError, match="but glyphs-5way-1shot and [0-9]+ more are not in the queue"):
        plan.jobs("*glyphs-*")


def test_where_nothing_is_left_the_command_says_so(place, capsys):
    assert work(place) == []
    command = ["paper", "--seeds", "0", "--no-nice", "--device", "cpu", "--runs", str(place / "here")]
    for more in ([], ["--dry-run"], ["--dry-run", "--trials"]):
        assert __main__.main([*command, *more]) == 0
        assert capsys.readouterr().out == "nothing is left to do\n"
    assert plan.table([]) == "nothing is left to do"


def test_what_it_reaches_is_what_straight_runs_reach(place):
    said = []
    assert work(place, said=said) == []
    for row, fit in ((FIRST, train.fit), (SECOND, train.fit)):
        done, params = result(place, row.name)
        assert done == row.iterations and same(params, fit(row).params)
    assert not list((place / "repository" / "data" / "partial").glob("*/*/*"))
    assert plan.jobs(seeds=(0,), base=place / "here") == []
    tested = [line for line in said if line.startswith(f"{FIRST.name}, seed 0:") and "mse" in line]
    assert (
        len(tested) == queue.MILESTONES and "60 of 120; mse" in tested[0] and "120 of 120; mse" in tested[-1]
    )


def test_when_the_time_is_over_another_machine_goes_on(place, monkeypatch):
    clock, said = itertools.count(), []  # that moves by a second at each look, so by two in an iteration
    with monkeypatch.context() as patched:
        patched.setattr(queue, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert work(place, said=said, hours=200 / 3600) == []
    (job, *_) = plan.jobs(seeds=(0,), base=place / "elsewhere")
    assert said[-1] == f"{FIRST.name}, seed 0: time is over at 98 of 120" and job.done == 98
    assert results.load(SECOND.name) == [] and result(place, FIRST.name)[0] == 60
    assert work(place, "elsewhere") == []
    assert same(result(place, FIRST.name)[1], train.fit(FIRST).params)


def test_a_machine_that_vanishes_loses_half_an_hour_and_the_next_one_may_be_an_earlier_one(
    place, monkeypatch
):
    clock, kept = itertools.count(), []
    keep_state = keeping.keep_state
    with monkeypatch.context() as patched:
        patched.setattr(queue, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        patched.setattr(queue, "KEEP_SECONDS", 30)  # looks at the clock: two an iteration
        patched.setattr(
            keeping,
            "keep_state",
            lambda folder: kept.append(folders.iterations_done(folder)) or keep_state(folder),
        )
        assert work(place, hours=100 / 3600) == []
    assert len(kept) > 2 and kept == sorted(set(kept))
    with monkeypatch.context() as patched:
        patched.setattr(queue, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert work(place, "elsewhere", hours=60 / 3600) == []
    assert work(place) == []  # back on the first machine, whose own folder is behind
    assert same(result(place, FIRST.name)[1], train.fit(FIRST).params)


def test_a_finished_run_whose_tests_have_changed_is_not_trained_again(place, monkeypatch):
    assert work(place) == []
    (test,) = FIRST.evaluations
    changed = dataclasses.replace(FIRST, evaluations=(dataclasses.replace(test, tasks=21),))
    monkeypatch.setitem(paper.ROWS, FIRST.name, changed)
    monkeypatch.setattr(train, "fit", None)
    (message,) = work(place)
    assert "the result of sinusoid-maml, seed 0, is of other tests (evaluation K=5)" in message


def test_no_time_at_all_begins_nothing(place):
    assert work(place, hours=0.0) == [] and not (place / "here").exists()


def test_a_run_that_fails_does_not_stop_the_others(place, monkeypatch):
    fit = train.fit

    def fails(row, **how):
        if row is FIRST:
            raise FloatingPointError("the meta-loss is nan at iteration 7")
        return fit(row, **how)

    monkeypatch.setattr(train, "fit", fails)
    assert work(place) == ["sinusoid-maml, seed 0: the meta-loss is nan at iteration 7"]
    assert result(place, SECOND.name)[0] == SECOND.iterations


def test_a_run_that_another_process_is_at_work_on_is_left_to_it(place):
    said = []
    with folders.open_run(FIRST, 0, "cpu", base=place / "here"):
        assert work(place, said=said) == []
    assert any("left out, another process is at work" in line for line in said)
    assert results.load(FIRST.name) == [] and result(place, SECOND.name)[0] == SECOND.iterations


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("row", [FIRST, SECOND], ids=NAMES)
def test_a_signal_leaves_a_state_that_another_machine_goes_on_from(place, monkeypatch, number, row):
    straight = train.fit(row).params
    fit, left = train.fit, [row.iterations // 2 + 1]

    def signalled(row, *, stop, **more):
        def asked():
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(number)
            return stop()

        return fit(row, stop=asked, **more)

    monkeypatch.setattr(train, "fit", signalled)
    monkeypatch.setattr(paper, "QUEUE", (row.name,))
    with pytest.raises(KeyboardInterrupt):
        work(place)
    partial = place / "repository" / "data" / "partial" / row.name / "seed0"
    assert {path.name for path in partial.iterdir()} == {"run.json", "metrics.csv", "state.safetensors"}
    monkeypatch.setattr(train, "fit", fit)
    assert work(place, "elsewhere") == []
    assert same(result(place, row.name)[1], straight) and not partial.exists()


def test_a_signal_between_trainings_counts_too(place, monkeypatch):
    monkeypatch.setattr(queue, "evaluate_run", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        work(place)
    assert (place / "repository" / "data" / "partial" / FIRST.name / "seed0" / "state.safetensors").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_signal_handlers_that_were_not_pythons_give_way_to_the_systems(monkeypatch):
    given = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: given.append(handler))  # there was None
    assert queue.work([], CPU) == [] and given[2:] == [signal.SIG_DFL, signal.SIG_DFL]


def test_a_test_that_was_cut_short_comes_first_the_next_time(place, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(queue, "evaluate_run", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        work(place)
    assert results.load(FIRST.name) == []
    clock = itertools.count()
    monkeypatch.setattr(queue, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert work(place, hours=10 / 3600) == [] and result(place, FIRST.name)[0] == 60


@pytest.mark.parametrize("made_of_it", [ImportError, None])
def test_a_signal_counts_whatever_the_interrupted_make_of_it(place, monkeypatch, made_of_it):
    begin, said = trainings.begin, []

    def importing(*given, **more):  # as a compiled module that is interrupted in its first import
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if made_of_it:
                raise made_of_it("initialization failed") from None
        return begin(*given, **more)

    monkeypatch.setattr(train, "begin", importing)
    with pytest.raises(KeyboardInterrupt):
        work(place, said=said)
    assert results.load(FIRST.name) == results.load(SECOND.name) == []
    assert not any(line.startswith(SECOND.name) for line in said)
    assert bool(made_of_it) == (said[-1] == f"failed:\n  {FIRST.name}, seed 0: initialization failed")


@pytest.mark.parametrize("full", [True, False])
def test_a_signal_and_a_full_disk_end_the_queue_too(place, monkeypatch, full):
    fit = train.fit

    def stopped(row, *, stop, **more):
        fit(row, **{**more, "until": 5})
        if full:
            raise KeyboardInterrupt
        raise FloatingPointError("the meta-loss is nan")

    def kept(folder):
        if full:
            raise OSError(28, "No space left on device")
        signal.raise_signal(signal.SIGTERM)  # while a failed run is put away

    said = []
    monkeypatch.setattr(train, "fit", stopped)
    monkeypatch.setattr(keeping, "keep_state", kept)
    with pytest.raises(KeyboardInterrupt):
        work(place, said=said)
    assert not any(line.startswith(SECOND.name) for line in said)


def test_a_damaged_result_stops_its_own_run_only(place):
    kept = place / "repository" / "data" / "results" / FIRST.name
    kept.mkdir(parents=True)
    (kept / "seed0.json").write_text("{")
    (failure,) = work(place)
    assert failure.startswith(f"{FIRST.name}, seed 0: ") and "seed0.json is not a whole result" in failure
    assert result(place, SECOND.name)[0] == SECOND.iterations


@pytest.mark.parametrize(
    "text", ["", "iteration\n1\n", "iteration,seconds\na,b\n1,x\n", '"', "\x00,\xff\n1,2,3\n"]
)
def test_a_damaged_log_or_state_stops_no_plan(place, text):
    folder = place / "here" / FIRST.name / "seed0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(text, encoding="latin-1")
    (folder / "state.safetensors").mkdir()
    (job, _) = plan.jobs(seeds=(0,), base=place / "here")
    assert (job.done, job.seconds) == (0, None)


def test_speed_is_that_of_the_last_lines_of_its_own_log_or_of_another_seeds(place, monkeypatch):
    monkeypatch.setattr(supervised_training, "LOG_EVERY", 4)
    with folders.open_run(FIRST, 1, "cpu", base=place / "here") as folder:
        log = train.fit(FIRST, seed=1, folder=folder, until=103).log
    (job, *_) = plan.jobs(seeds=(1,), base=place / "here")
    assert (job.done, job.measured) == (103, "this run")
    assert job.seconds == pytest.approx(log.seconds.diff().iloc[-plan.RATE_LINES :].median() / 4)
    assert job.hours == pytest.approx(17 * job.seconds / 3600)
    assert work(place, seeds=(1,)) == []
    (job, *_) = plan.jobs(FIRST.name, (0,), base=place / "here")
    assert job.done == 0 and job.seconds > 0 and job.measured == "another seed"


def test_the_plan_answers_from_logs_alone(place, monkeypatch, capsys):
    monkeypatch.setattr(train, "fit", None)
    words = ["paper", "--dry-run", "--seeds", "0", "--runs", str(place / "here")]
    assert __main__.main(words) == 0
    out = capsys.readouterr().out
    assert "0.0 hours in all, for 2 runs\nwithout the 2 whose speed is not known\nno log tells it" in out
    assert "a trial" not in out and "cannot run" not in out


def test_trials_are_for_the_plan(place, capsys):
    assert __main__.main(["paper", "--trials"]) == 1
    assert "--trials is for --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(("at_once", "wanted"), [(1, 1.0), (100, 0.01)])
def test_a_trial_counts_iterations_and_not_calls(at_once, wanted, monkeypatch):
    """A call takes a second of this clock, whether of one iteration or of a hundred of a small network."""

    class Training:
        every, closed = 100, False

        def advance(self, iteration, last):
            return min(last, iteration + at_once)

        def line(self, iteration):
            assert iteration % 100 == 0
            return {}

        def close(self):
            Training.closed = True

    monkeypatch.setattr(plan.trainings, "begin", lambda row, **_: Training())
    monkeypatch.setattr(plan.time, "perf_counter", functools.partial(next, itertools.count()))
    row = dataclasses.replace(FIRST, iterations=1000)
    assert plan.seconds_per_iteration(row) == pytest.approx(wanted)
    assert Training.closed


def test_a_trial_that_takes_its_process_with_it_leaves_the_others(place, monkeypatch):
    monkeypatch.setattr(plan, "seconds_per_iteration", ends_its_process)
    tried = plan.trials(plan.jobs(seeds=(0,)), CPU, 1, say=lambda line: None)
    assert (
        tried.pop(SECOND.name) == 2.0 and isinstance(tried.pop(FIRST.name), BrokenProcessPool) and not tried
    )


def ends_its_process(row, *, device, threads):
    """As a trial that is killed for its memory."""
    if row.name == FIRST.name:
        os._exit(1)
    return 2.0


def test_the_plan_tries_what_no_log_tells_when_it_is_asked_to_and_says_what_cannot_run(
    place, monkeypatch, capsys
):
    broken = dataclasses.replace(FIRST, name="sinusoid-broken", family="nowhere")
    monkeypatch.setitem(paper.ROWS, broken.name, broken)
    monkeypatch.setattr(paper, "QUEUE", (*NAMES, broken.name))
    before = sorted(place.rglob("*"))
    words = [
        "paper",
        "--dry-run",
        "--trials",
        "--seeds",
        "0-1",
        "--runs",
        str(place / "here"),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    assert __main__.main(words) == 0
    out = capsys.readouterr().out
    assert out.count("a trial") == 4
    assert re.search(r"\d hours in all, for 6 runs\nwithout the 2 whose speed is not known", out)
    assert "sinusoid-broken cannot run here: family='nowhere', but the families are" in out
    assert sorted(place.rglob("*")) == before


def test_the_command_trains_at_low_priority_and_tells_what_failed(place, monkeypatch, capsys):
    lowered = []
    monkeypatch.setattr(__main__.os, "nice", lowered.append)
    words = [
        "paper",
        "--only",
        FIRST.name,
        "--seeds",
        "0",
        "--runs",
        str(place / "here"),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    assert __main__.main(words) == 0 and lowered == [19]
    assert "120 of 120; mse" in capsys.readouterr().err
    monkeypatch.setattr(train, "fit", lambda *_, **__: 1 / 0)
    assert __main__.main([*words[:4], "1", *words[5:], "--no-nice"]) == 1 and lowered == [19]
    assert "sinusoid-maml, seed 1: division by zero" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["", "2-1", "x", "-1", "0,,1"])
def test_seeds_that_are_none_are_refused(seeds, capsys):
    with pytest.raises(SystemExit):
        __main__.main(["paper", f"--seeds={seeds}"])
    assert "use numbers and ranges such as 0-2 or 0,3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--hours", "soon"], ["--hours", "-1"], ["--hours", "nan"], ["--gpus", "1.5"]]
)
def test_numbers_that_no_option_allows_are_refused_with_what_is_allowed(words, capsys):
    with pytest.raises(SystemExit):
        __main__.main(["paper", *words])
    assert f"argument {words[0]}: {words[1]}, but it must be a " in capsys.readouterr().err


def test_more_seeds_than_can_be_meant_are_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["paper", "--seeds", "0-99999999999"])
    assert "'0-99999999999' are more than 1000 seeds; use fewer" in capsys.readouterr().err
