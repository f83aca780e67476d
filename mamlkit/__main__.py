"""The command line: ``python -m mamlkit list | run NAME | table | data``."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mamlkit import experiments, rows


def _at_least(bound: int) -> Callable[[str], int]:
    """The type of an option that is a number with a least value."""

    def number(word: str) -> int:
        if (value := int(word)) < bound:
            raise argparse.ArgumentTypeError(f"{value}, but it must be at least {bound}")
        return value

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mamlkit", description="Run the paper's experiments.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the experiments, with their state")
    run = commands.add_parser("run", help="train an experiment, or go on with it, and evaluate it")
    run.add_argument("name", metavar="NAME")
    run.add_argument("--seed", type=_at_least(0), default=0)
    run.add_argument("--device", default="auto", help="auto (CUDA, else CPU), cpu, cuda, mps (untested)")
    run.add_argument("--scale", choices=["quick", "paper"], default="paper")
    run.add_argument("--until", type=_at_least(0), help="stop after this many iterations; the same command goes on from there")
    run.add_argument("--threads", type=_at_least(1), help="CPU threads, of simulations too (all cores if not given)")
    run.add_argument("--tf32", action="store_true", help="faster, coarser products on a GPU; never for a reported number")
    run.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie")
    run.add_argument("--keep", action="store_true", help="copy the result into data/ to be committed")
    commands.add_parser("table", help="the paper's numbers beside ours")
    data = commands.add_parser("data", help="download a data set")
    data.add_argument("name", choices=["omniglot"])
    return parser


def _run(options: argparse.Namespace) -> None:
    import torch  # here, so that the other commands start at once

    from mamlkit import checkpoints, measures, runs, train

    if options.keep and (options.scale != "paper" or options.tf32):
        raise ValueError("--keep is for results at the paper scale, without --tf32; leave it out")
    if options.keep:
        runs.repository()  # without one there is nowhere to keep it
    row = experiments.get(options.name).at(options.scale)
    device = train.set_up(options.device, tf32=options.tf32, threads=options.threads)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{device}, {torch.get_num_threads()} thread(s)"
    run, more = train, {"device": device}
    if isinstance(row, rows.PolicyRow):
        from mamlkit.rl import train as run

        more["threads"] = options.threads
    where += ", TF32" if options.tf32 else ""
    with runs.open_run(row, options.seed, where, scale=options.scale, base=options.runs) as folder:
        fit = run.fit(row, seed=options.seed, folder=folder, until=options.until, progress=True, **more)
        evaluations = run.evaluate_row(row, fit.params, **more)
        checkpoints.save_params(fit.params, folder / "params.safetensors")
        seconds = float(fit.log.seconds.iloc[-1]) if len(fit.log) else 0.0
        runs.write_result(folder, row, fit.iteration, seconds, evaluations)
        for evaluation in row.evaluations:
            for metric, values in evaluations[evaluation.name].items():
                print(f"{row.name} {evaluation.name} {metric}: " + " ".join(f"{v:.3f}" for v in measures.statistics(metric, values)["mean"]))
        print(f"result in {folder / 'result.json'}")
        if options.keep:
            print(*runs.keep(folder), sep="\n")


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status (130 after Ctrl-C, 143 after SIGTERM, 1 after an error that a user can mend)."""
    options = _parser().parse_args(words)
    try:
        if options.command == "run":
            _run(options)
        elif options.command == "data":
            from mamlkit.tasks import omniglot

            print(omniglot.fetch())
        elif options.command == "list":
            from mamlkit import results

            print(results.listing().to_string(index=False))
        else:
            from mamlkit import results

            print(results.table_text())
    except KeyboardInterrupt as stopped:
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
