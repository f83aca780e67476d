"""From a laptop to a cluster: what the model says of more machines than there were. No torch here.

The model is :mod:`mamlkit.report.costs`, what it takes was measured (:mod:`mamlkit.report.scaling`), and the
page ``book/cluster.md`` shows what these functions return.
"""

__all__ = ["alone", "figure", "limits", "plan", "which_comes_first"]

import math
from collections.abc import Callable

from mamlkit.experiments.paper import get
from mamlkit.report import results
from mamlkit.report.costs import Work, best_ranks, makespan, seconds
from mamlkit.report.explore import Curve, explore
from mamlkit.report.notebook import fixed
from mamlkit.report.scaling import ABSENT, link_of_two, measured, source, works_of_rows
from mamlkit.report.texts import numbered

SEEDS = 3  # of each row in the plan
CORES = 16  # of a node in the plan
NODES = (1, 100)
GPUS = (1, 8)
# Nothing was run on a GPU. The plan assumes the A100's float32 rate by its data sheet, and a share of it.
GPU_FLOPS, GPU_SHARE = 19.5e12, 0.1
# Omniglot 20-way 1-shot has as many chunks as Mini-ImageNet, and so the same line
DRAWN = ("omniglot-5way-1shot", "omniglot-20way-5shot", "mini-imagenet-5way-1shot")


def which_comes_first() -> str:
    """Whether chunks or messages bound a CPU's ranks, of rows with more than one chunk."""
    works = [work for work in works_of_rows().values() if work.chunks > 1]
    if not works:
        return ABSENT
    link = link_of_two()
    times = [work.seconds / (link.latency + work.bytes / link.rate) for work in works]
    by_chunks = [work.chunks <= math.sqrt(time) for work, time in zip(works, times)]
    which = "all of these" if all(by_chunks) else f"{sum(by_chunks)} of these {len(works)}"
    far, best = f"{min(times):,.0f} to {max(times):,.0f} times", f"{math.sqrt(min(times)):.0f} or more"
    return (
        f"On a CPU the computation takes {far} as long as a message, in the rows with more than one chunk. "
        f"So $R^*$ is {best}, and $C$ comes first in {which}. On a processor many times as fast it may be "
        "$R^*$.\n"
    )


def limits() -> str:
    """Where more ranks stop helping, row by row."""
    works = works_of_rows()
    if not works or measured("gather").empty:
        return ABSENT
    link, cores, lines = link_of_two(), _gpu_cores(), []
    for name, work in works.items():
        ranks = best_ranks(work, link)
        on_gpu = _on_gpu(work, cores)
        gpus = best_ranks(on_gpu, link)
        faster = lambda w, r: f"{w.seconds / seconds(w, r, link):.1f}"
        lines.append(
            {
                "experiment": get(name).title,
                "tasks": f"{work.tasks}",
                "chunks": f"{work.chunks}",
                "s": f"{work.seconds:.2f}",
                "cores": f"{ranks}",
                "times as fast": faster(work, ranks),
                "GPUs": f"{gpus}",
                "times as fast (GPUs)": faster(on_gpu, gpus),
            }
        )
    caption = (
        "Ranks with which the model takes the least time: **s** is an iteration on one core, measured "
        f"({source('rows')}); all else is the model, of GPUs with the assumption below."
    )
    return numbered(lines, caption, "tab-limits", list(lines[0])[1:])


def figure() -> str:
    """How many times as fast an iteration is on more ranks, by the model; points are measured."""
    works = {name: work for name, work in works_of_rows().items() if name in DRAWN}
    found = measured("ranks")
    if not works or found.empty:
        return ABSENT
    link, cores = link_of_two(), _gpu_cores()
    ranks = list(range(1, 17))

    def curves(some: dict[str, Work]) -> list[Curve]:
        speeds = [[work.seconds / seconds(work, r, link) for r in ranks] for work in some.values()]
        return [Curve(ranks, y, get(name).title, k) for k, (name, y) in enumerate(zip(some, speeds))]

    points = [
        Curve([2], [line.alone_ms / line.two_ms], "", list(works).index(line.row), "points")
        for line in found.itertuples()
        if line.row in works
    ]
    chunks = [str(work.chunks) for work in works.values()]
    counts = f"{', '.join(chunks[:-1])} and {chunks[-1]}"
    shown = explore(
        {"ranks": ["CPU cores", "GPUs (not measured)"]},
        {
            ("CPU cores",): (
                [*curves(works), *points],
                "Steps come from whole chunks; points are measured.",
            ),
            ("GPUs (not measured)",): (
                curves({name: _on_gpu(work, cores) for name, work in works.items()}),
                "A GPU computes so fast that the exchange of gradients soon takes longer.",
            ),
        },
        axes=("ranks", "times as fast as one"),
        limits=((1, 16), (0, 16)),
        alt="Speed-up against ranks. On CPU cores each experiment follows the diagonal in steps up to its "
        f"number of chunks and is level or falls slowly after it: {counts}. On GPUs all stay low.",
        always=[Curve([1, 16], [1, 16], "as many times as ranks", -1, "dashed")],
    )
    return f"```{{raw}} html\n{shown.data}\n```\n"


def plan() -> str:
    """Hours for Table 1 and Figure 5 on more machines than there were."""
    works, policies = works_of_rows(), _runs("Fig. 5")
    if not works or not all(map(results.load, policies)):
        return ABSENT
    link, cores = link_of_two(), _gpu_cores()

    def on(work: Work, name: str) -> Callable[[int], float]:
        return lambda ranks: seconds(work, ranks, link) * get(name).iterations / 3600

    named = [(works[name], name) for name in _runs("Table 1")] * SEEDS
    on_cpu = [on(*pair) for pair in named]
    on_gpu = [on(_on_gpu(work, cores), name) for work, name in named]
    # two cores each, as they were trained
    of_policies = [lambda _, name=name: _policy_hours(name) for name in policies] * SEEDS
    rows: dict[str, tuple[int, list[Callable[[int], float]], int | None]]
    rows = {f"{n} CPU node{'s' * (n > 1)}": (n * CORES, on_cpu, n * CORES // 2) for n in NODES}
    rows |= {f"{n} GPU{'s' * (n > 1)} (not measured)": (n, on_gpu, None) for n in GPUS}
    lines = [
        {
            "machines": name,
            "Table 1, hours": _hours(makespan(runs, workers)),
            "Figure 5, hours": _hours(makespan(of_policies, pairs)) if pairs else "",
        }
        for name, (workers, runs, pairs) in rows.items()
    ]
    caption = (
        f"What the model says of {SEEDS} seeds of every training: {len(named)} runs of Table 1, "
        f"{len(of_policies)} of Figure 5. A node has {CORES} cores."
    )
    at_best = {name: on(work, name)(best_ranks(work, link)) for work, name in named}
    longest = max(at_best, key=at_best.__getitem__)
    chunks = works[longest].chunks
    says = (
        f"\nIn core hours that is {sum(run(1) for run in on_cpu):,.0f} for Table 1 and "
        f"{2 * sum(run(1) for run in of_policies):,.0f} for Figure 5. With as many cores as help each run, "
        f"the longest is {get(longest).title}, which takes {at_best[longest]:.0f} hours all the same: "
        f"its meta-batch has {chunks} chunks. A GPU is taken for {cores:.0f} cores.\n"
    )
    return numbered(lines, caption, "tab-plan", list(lines[0])[1:]) + says


def alone() -> str:
    """What a core has reached, and what the plan makes of it for a GPU."""
    if measured("rows").empty:
        return ABSENT
    cores = _gpu_cores()
    rate = GPU_SHARE * GPU_FLOPS / cores / 1e9
    return (
        f"A core reached {rate:.0f} GFLOP/s of matrix products in these iterations (median). A GPU of "
        f"{GPU_FLOPS / 1e12:g} TFLOP/s of which a share $u$ is reached is then worth "
        f"$S = {GPU_FLOPS / 1e9 / rate:.0f}\\,u$ cores; the tables take $u = {GPU_SHARE:g}$.\n"
    )


def _on_gpu(work: Work, cores: float) -> Work:
    """The same on a GPU that is worth so many cores, which takes its tasks at once."""
    return work._replace(seconds=work.seconds / cores, chunk=1)


def _gpu_cores() -> float:
    """How many cores a GPU is worth in the plan: its share of the rate over what a core has reached."""
    found = measured("rows").dropna(subset="gflop")
    found = found[~found.row.str.contains("no-conv")]
    return GPU_SHARE * GPU_FLOPS / float((1e12 * found.gflop / found.ms).median())


def _policy_hours(name: str) -> float:
    """Of a whole training, by the rate of the committed result."""
    found = results.load(name)[0]
    return found["seconds"] / found["iterations_done"] * get(name).iterations / 3600


def _runs(place: str) -> list[str]:
    """The trainings behind a figure or table of the paper."""
    paper = results.published()
    names = dict.fromkeys(paper[(paper.place == place) & (paper.row != "")].row)
    return [name for name in names if get(name).iterations]


def _hours(hours: float) -> str:
    return fixed(hours, 1 if hours < 10 else 0)
