"""The command line: ``python -m mamlkit list | run NAME | paper | table | data``."""

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.experiments.rows import SCALES, PolicyRow, Row

PIPE = 13  # the number of SIGPIPE, which not all systems have
COMPILING = "the engine's loops are compiled for this processor, once, which takes up to a minute"
ELSEWHERE = (
    "No rows, but programs of the clone: the learned optimiser (python benchmarks/learned_optimiser.py -h) "
    "and what else chapters measure (book/how-to.md, Benchmarks)."
)
LIE = "where run folders lie (runs if not given)"
# mamlkit.engine.convolutions.FORMS, which is not imported before it is needed
FORMS = ("unfolded", "grouped", "channels-last")
MOST_SEEDS = 1000  # of a queue: more are a slip of the finger


def _number(
    kind: type[int] | type[float], allowed: str, holds: Callable[[float], bool]
) -> Callable[[str], float]:
    """The type of an option that is a number."""

    def number(word: str) -> float:
        try:
            value: float = kind(word)
        except ValueError:
            value = math.nan  # which no option allows
        if not holds(value):
            raise argparse.ArgumentTypeError(f"{word}, but it must be {allowed}")
        return value

    return number


def _at_least(bound: int) -> Callable[[str], float]:
    """The type of an option that counts something."""
    return _number(int, f"a whole number, at least {bound}", lambda value: value >= bound)


def _folder(words: str) -> Path:
    """The type of an option that is a folder; ``~`` is the user's own, as in the settings."""
    if not words:
        raise argparse.ArgumentTypeError("no name came; give the path of a folder")
    return Path(words).expanduser()


def _seeds(words: str) -> tuple[int, ...]:
    """The type of an option that is a set of seeds: ``0-2``, ``0,3``."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in words.split(",")]
    ranges = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(ranges) < len(parts) or any(last < first for first, last in ranges):
        raise argparse.ArgumentTypeError(f"{words!r} are no seeds; use numbers and ranges such as 0-2 or 0,3")
    if sum(last - first + 1 for first, last in ranges) > MOST_SEEDS:
        raise argparse.ArgumentTypeError(
            f"{words!r} are more than {MOST_SEEDS} seeds; use fewer, such as 0-2"
        )
    return tuple(dict.fromkeys(seed for first, last in ranges for seed in range(first, last + 1)))


# The types of options that are a time, and a number of GPUs.
_hours = _number(float, "a time of 0 hours or more", lambda value: value >= 0)
_share = _number(
    float,
    "a share, 0 to 1, or a whole number",
    lambda value: 0 <= value < math.inf and (value <= 1 or not value % 1),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mamlkit", description="Run the paper's experiments.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the experiments, with their state").set_defaults(do=_list)
    run = commands.add_parser("run", help="train an experiment, or go on with it, and evaluate it")
    run.set_defaults(do=_run)
    _add_options_of_run(run.add_argument)
    queue = commands.add_parser(
        "paper", help="train what the paper still lacks, run after run, for as long as it is given"
    )
    queue.set_defaults(do=_paper)
    _add_options_of_paper(queue.add_argument)
    commands.add_parser("table", help="the paper's numbers beside ours").set_defaults(do=_table)
    data = commands.add_parser("data", help="download or prepare a data set")
    data.set_defaults(do=_data)
    data.add_argument("name", choices=["omniglot", "mini-imagenet"], help="the latter cannot be downloaded")
    check = "say what is right and wrong with a copy of mini-imagenet"
    data.add_argument("--check", type=_folder, metavar="FOLDER", help=check)
    return parser


def _add_options_of_run(add: Callable[..., object]) -> None:
    add("name", metavar="NAME", help="of the experiment, as list shows it")
    add("--seed", type=_at_least(0), default=0, help="of weights and tasks (0 if not given)")
    add("--device", default="auto", help="auto (CUDA, else CPU; if not given), cpu, cuda, mps (untested)")
    add("--scale", choices=SCALES, default="paper", help="quick is small, for a look (paper if not given)")
    until = "stop after this many iterations; the same command without --until goes on"
    add("--until", type=_at_least(0), help=until)
    add("--threads", type=_at_least(1), help="CPU threads, of simulations too (all cores if not given)")
    add("--tf32", action="store_true", help="faster, coarser products on a GPU; never for a reported number")
    recorded = "let a GPU repeat a recorded iteration (supervised experiments; never run on a GPU so far)"
    add("--recorded", action="store_true", help=recorded)
    add("--convolutions", choices=FORMS, help="how a GPU computes them (unfolded if not given)")
    add("--runs", type=_folder, default=Path("runs"), help=LIE)
    add("--keep", action="store_true", help="copy the result into data/ to be committed")


def _add_options_of_paper(add: Callable[..., object]) -> None:
    add("--hours", type=_hours, default=math.inf, help="stop after so long (never if not given)")
    add("--dry-run", action="store_true", help="print what is left, how fast it goes and how long it takes")
    trials = "with --dry-run: run a few iterations of each experiment whose speed no log tells"
    add("--trials", action="store_true", help=trials)
    only = "experiments whose name matches, such as 'omniglot-*'"
    add("--only", metavar="PATTERN", default="*", help=only)
    seeds = "such as 0-2 or 0,3; every experiment once before any twice (0-2 if not given)"
    add("--seeds", type=_seeds, default=(0, 1, 2), help=seeds)
    add("--device", default="auto", help="as for run")
    add("--threads", type=_at_least(1), help="as for run; 1 with --on ray if not given")
    add("--recorded", action="store_true", help="as for run")
    add("--convolutions", choices=FORMS, help="as for run")
    add("--runs", type=_folder, default=Path("runs"), help=LIE)
    add("--no-nice", action="store_true", help="keep the priority, which is lowered otherwise")
    add("--on", choices=["ray"], help="many runs at a time, on the machines of a Ray cluster")
    add("--address", help="of the cluster, such as auto (this machine's if not given; with --on ray)")
    add("--gpus", type=_share, help="share of a GPU that a run takes, such as 0.25 (with --on ray)")


def _run(options: argparse.Namespace) -> int:
    # Here, so that the other commands start at once.
    from mamlkit import measures
    from mamlkit.engine import ranks
    from mamlkit.engine.kernels_cpu.loops import are_kept
    from mamlkit.runs import devices, folders, keeping, queue, train

    if options.keep and (options.scale != "paper" or options.tf32):
        raise ValueError("--keep is for results at the paper scale, without --tf32; leave it out")
    if options.keep:
        places.repository()  # without one there is nowhere to keep it
    row = paper.get(options.name).at(options.scale)
    device = devices.set_up(
        options.device, tf32=options.tf32, threads=options.threads, form=options.convolutions
    )
    where = {"device": device, "threads": options.threads}
    words = devices.described(device)
    with ExitStack() as run:
        ours = run.enter_context(ranks.joined(device))
        how = {"seed": options.seed, "until": options.until, "ranks": ours, "recorded": options.recorded}
        if not ours.first:
            train.fit(row, **how, **where)
            return 0
        words += f", {ours.count} processes" if ours.count > 1 else ""
        if isinstance(row, Row | PolicyRow) and device.type == "cpu" and not are_kept():
            print(COMPILING, file=sys.stderr)
        place = folders.open_run(row, options.seed, words, scale=options.scale, base=options.runs)
        folder = run.enter_context(place)
        fit = train.fit(row, folder=folder, progress=True, **how, **where)
        evaluations = queue.evaluate_run(row, folder, fit, **where)
        family = getattr(row, "family", None)
        for evaluation in row.evaluations:
            for metric, values in evaluations[evaluation.name].items():
                means = measures.statistics(metric, values, family)["mean"]
                print(f"{row.name} {evaluation.name} {metric}: " + " ".join(f"{mean:.3f}" for mean in means))
        if options.until is not None and fit.iteration > options.until:
            print(f"--until {options.until:,} was passed before: this run is at {fit.iteration:,} iterations")
        if fit.iteration < row.iterations:
            print(
                f"stopped at {fit.iteration:,} of {row.iterations:,} iterations; without --until it goes on"
            )
        print(f"result in {folder / 'result.json'}")
        if options.keep:
            print(*keeping.keep(folder), sep="\n")
    return 0


def _paper(options: argparse.Namespace) -> int:
    """The exit status: 1 if a run has failed."""
    from mamlkit.runs import cluster, devices, plan, queue

    if options.on and (options.recorded or options.convolutions):
        raise ValueError(
            "--recorded and --convolutions are for the queue of one machine; leave them or --on out"
        )
    if not options.on and (options.address is not None or options.gpus is not None):
        raise ValueError("--address and --gpus are for a cluster; add --on ray, or leave them out")
    if options.trials and not options.dry_run:
        raise ValueError("--trials is for --dry-run; add it, or leave --trials out")
    if hasattr(os, "nice") and not options.no_nice:
        os.nice(19)  # people who work on the machine come first
    found = plan.jobs(options.only, options.seeds, base=options.runs)
    if not found:
        print(plan.NOTHING_LEFT)
        return 0
    if options.trials or not (options.dry_run or options.on):
        device = devices.set_up(options.device, threads=options.threads, form=options.convolutions)
    if options.dry_run:
        tried = plan.trials(found, device, options.threads, say=queue.say) if options.trials else None
        print(plan.table(found, tried))
        return 0
    how = {"hours": options.hours, "base": options.runs}
    if not options.on:
        return 1 if queue.work(found, device, options.threads, recorded=options.recorded, **how) else 0
    needs = {"device": options.device, "threads": options.threads or 1, "gpus": options.gpus}
    with closing(cluster.Machines(options.address, **needs)) as machines:
        return 1 if cluster.work(found, machines, **how) else 0


def _data(options: argparse.Namespace) -> int:
    """The exit status: 1 if a check has found something wrong."""
    from mamlkit.tasks import mini_imagenet, omniglot

    if options.check is None:
        print(omniglot.fetch() if options.name == "omniglot" else mini_imagenet.prepare())
        return 0
    if options.name == "omniglot":
        raise ValueError("--check is for mini-imagenet; omniglot is checked whenever it is loaded")
    report = mini_imagenet.check(options.check)
    for finding in report.right:
        print(f"right: {finding}")
    for finding in report.wrong:
        print(f"wrong: {finding}")
    return 1 if report.wrong else 0


def _list(options: argparse.Namespace) -> int:
    from mamlkit.report import results

    listing = results.listing()
    lines = [list(listing), *listing.itertuples(index=False)]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words_of = lambda line: "  ".join(f"{word:{size}}" for word, size in zip(line, wide, strict=True))
    return _show("\n".join([*(words_of(line).rstrip() for line in lines), "", ELSEWHERE]))


def _table(options: argparse.Namespace) -> int:
    from mamlkit.report import beside

    return _show(beside.table_text())


def _show(text: str) -> int:
    """The exit status: 141, without a word, if the reader has had enough, such as ``head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush would fail
        return 128 + PIPE
    return 0


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status (130 after Ctrl-C, 143 after SIGTERM, 141 where nobody reads on, 1
    after an error that a user can mend)."""
    options = _parser().parse_args(words)
    try:
        return options.do(options)
    except KeyboardInterrupt as stopped:
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
