"""From a laptop to a cluster: what was measured. No torch here.

``benchmarks/scaling.py`` measures, the page ``book/cluster.md`` shows what these functions return, beside the
model of :mod:`mamlkit.report.costs`; :mod:`mamlkit.report.forecast` asks that of more machines.
"""

__all__ = [
    "ABSENT",
    "beside",
    "gathers",
    "link_of_two",
    "measured",
    "policies",
    "slices",
    "source",
    "works_of_rows",
]

import numpy as np
import pandas as pd

from mamlkit.experiments.paper import get
from mamlkit.report.committed import benchmark, benchmark_origin
from mamlkit.report.costs import Link, Work, seconds
from mamlkit.report.notebook import fixed
from mamlkit.report.texts import numbered

ABSENT = "Not measured yet; `python benchmarks/scaling.py --save` does it.\n"


def measured(name: str) -> pd.DataFrame:
    """A table of ``data/benchmarks/cluster``; without lines where it was not measured."""
    return benchmark(f"cluster/{name}")


def source(name: str) -> str:
    """On what and when such a table was measured."""
    return benchmark_origin("cluster", name)


def link_of_two() -> Link:
    """Latency and rate that fit the gathers of two processes, each of which counts by its own time."""
    found = measured("gather")
    found = found[found.ranks == 2]
    slope, latency = np.polyfit(found.bytes, found.ms / 1e3, 1, w=1 / found.ms)
    return Link(float(latency), float(1 / slope))


def works_of_rows() -> dict[str, Work]:
    """An iteration of each row that was measured, by the name of the row."""
    return {
        line.row: Work(line.ms / 1e3, line.tasks, line.chunk, line.bytes)
        for line in measured("rows").itertuples()
    }


def gathers() -> str:
    """How long processes take to give each other their gradients, and the line through that of two."""
    found = measured("gather")
    if found.empty:
        return ABSENT
    link = link_of_two()
    lines = []
    for size, of_size in found.groupby("bytes"):
        line = {"bytes of each": f"{size:,}"}
        for ranks, ms in zip(of_size.ranks, of_size.ms):
            line[f"{ranks} ranks, ms"] = f"{ms:.2f}"
            line[f"model of {ranks}"] = f"{1e3 * (ranks - 1) * (link.latency + size / link.rate):.2f}"
        lines.append(line)
    caption = (
        "Processes of one machine of two threads give each other their sums (gloo): time by the clock, and "
        f"the second part of the model. {source('gather')}."
    )
    says = (
        f"\nThe line that fits two ranks best has λ = {1e3 * link.latency:.2f} ms and "
        f"ρ = {link.rate / 1e9:.2f} GB/s. The model takes these.\n"
    )
    return numbered(lines, caption, "tab-gather", lines[0]) + says


def beside() -> str:
    """Iterations in two processes, measured and by the model."""
    found = measured("ranks")
    if found.empty or measured("rows").empty:
        return ABSENT
    link, works = link_of_two(), works_of_rows()
    lines = []
    for line in found.itertuples():
        # of the same minutes as that of two
        work = works[line.row]._replace(seconds=line.alone_ms / 1e3)
        model = 1e3 * seconds(work, 2, link)
        lines.append(
            {
                "experiment": get(line.row).title,
                "one process, ms": f"{line.alone_ms:.0f}",
                "two, ms": f"{line.two_ms:.0f}",
                "model, ms": f"{model:.0f}",
                "times as fast": f"{line.alone_ms / line.two_ms:.2f}",
                "model": f"{line.alone_ms / model:.2f}",
            }
        )
    caption = (
        "Processor time of an iteration in one process with one thread, and of the busier of two processes. "
        f"{source('ranks')}."
    )
    return numbered(lines, caption, "tab-two-ranks", list(lines[0])[1:])


def policies() -> str:
    """Iterations of Algorithm 3 in two processes, and what these tell each other."""
    found = measured("policies")
    if found.empty or measured("gather").empty:
        return ABSENT
    link, lines = link_of_two(), []
    for line in found.itertuples():
        tasks = get(line.row).meta_batch_size
        sent = line.episodes + line.sums
        model = 1e3 * seconds(Work(line.alone_ms / 1e3, tasks, 1, sent / tasks), 2, link)
        lines.append(
            {
                "experiment": get(line.row).title,
                "tasks": f"{tasks}",
                "episodes, MB": fixed(line.episodes / 1e6, 1),
                "sums, MB": fixed(line.sums / 1e6, 1),
                "one process, s": fixed(line.alone_ms / 1e3, 2),
                "two, s": fixed(line.two_ms / 1e3, 2),
                "model, s": fixed(model / 1e3, 2),
                "times as fast": fixed(line.alone_ms / line.two_ms, 2),
            }
        )
    caption = (
        "An iteration of a policy: what all processes have in the end of the episodes of both samplings, and "
        "of the sums of the update; processor time in one process with one thread, of the busier of two "
        f"processes, and by the model. {source('policies')}."
    )
    share = (100 * (found.episodes + found.sums) / link.rate / (found.two_ms / 1e3)).max()
    says = (
        f"\nWith the ρ of {{numref}}`tab-gather` these bytes take at most {share:.1f}\N{NO-BREAK SPACE}% of "
        f"an iteration in two processes. {_sampling()}\n"
    )
    return numbered(lines, caption, "tab-policy-ranks", list(lines[0])[1:]) + says


def _sampling() -> str:
    """Which part of an iteration is simulation, by ``benchmarks/meta_rl.py``; nothing if that was not run."""
    found = benchmark("rl/time", ["what"]).set_index("what")
    if found.empty:
        return ""
    sampling = found.loc[["sampling before, s", "sampling after, s"]].sum()
    shares = 100 * sampling / found.loc["meta-iteration, s"]
    title = lambda robot: get(f"{robot}-maml").title.removesuffix(", MAML")
    words = [f"{share:.0f}\N{NO-BREAK SPACE}% in {title(robot)}" for robot, share in shares.items()]
    return (
        f"Of an iteration with 20 rollouts in one process, simulation is {' and '.join(words)} "
        "([chapter 7](../notebooks/07-how-fast.ipynb)); most of the rest is the update."
    )


def slices() -> str:
    """What Ray adds to a run."""
    found = measured("ray")
    if found.empty:
        return ABSENT
    taken = found.set_index("what").seconds
    share = 100 * taken["a slice"] / 60
    return (
        f"Measured on one machine ({source('ray')}): Ray starts in {taken.iloc[0]:.0f} s and has its first "
        f"worker ready after {taken['first slice']:.0f} s more. A later slice that trains a single iteration "
        f"takes {taken['a slice']:.2f} s, with the state there and back and the training set up anew: of a "
        f"slice of a minute at most {share:.1f}\N{NO-BREAK SPACE}%.\n"
    )
