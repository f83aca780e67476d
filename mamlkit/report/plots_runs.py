"""One's own runs as a figure, from what their folders hold. No torch here."""

__all__ = ["plot_run"]

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mamlkit.report import plots
from mamlkit.report.results import UNITS

# Of a log, the columns that are shown: what each is called, and the axis that it needs.
SHOWN = {
    "meta_loss": ("meta-loss", "loss"),
    "validation": ("validation", "loss"),
    "return_before": ("before adapting", "return"),
    "return_after": ("after adapting", "return"),
}
FEW = 20  # lines of a log, which are points as well: a single one would not be seen


def plot_run(*folders: str | Path) -> Figure:
    """Training, and error or return after each inner step, of one run or of several in the same axes.

    A run need not be finished: until it is tested, the right panel is empty.

    Args:
        folders: of runs, such as ``runs/sinusoid-maml/seed0``.

    Returns:
        The figure. A notebook shows it if the call is the last line of a cell; ``.savefig("run.png")`` keeps
        it.

    Raises:
        ValueError: no folder, or one that holds no run.
    """
    if not folders:
        raise ValueError("plot_run() without a folder; give one such as 'runs/sinusoid-maml/seed0'")
    runs = [(Path(folder), _read(Path(folder), "run.json")) for folder in folders]
    plots.use_style()
    figure, (training, tests) = plt.subplots(1, 2, figsize=(9.0, 3.6))
    for number, (folder, run) in enumerate(runs):
        name = f"{run['name']}, seed {run['seed']}"
        colour = list(plots.COLOURS.values())[number % len(plots.COLOURS)]
        _training(training, folder, "" if len(runs) == 1 else f"{name}: ", colour)
        _tests(tests, folder, name if len(runs) > 1 else "", colour)
    if not training.lines:
        training.text(0.5, 0.5, "no line in the log yet", ha="center", transform=training.transAxes)
        training.set_axis_off()
    if not tests.lines:
        tests.text(0.5, 0.5, "not tested yet", ha="center", transform=tests.transAxes)
        tests.set_axis_off()
    else:
        tests.set_xlabel("inner steps")
        tests.locator_params(axis="x", integer=True)
        tests.legend()
    if len(runs) == 1:
        figure.suptitle(f"{runs[0][1]['name']}, seed {runs[0][1]['seed']}", fontsize=10)
    plt.close(figure)  # a notebook would show it twice
    return figure


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A record of a run."""
    try:
        record: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no {name}, so it is no run; give a folder such as 'runs/sinusoid-maml/seed0', "
            "or 'runs/sinusoid-maml-quick/seed0' of the quick scale"
        ) from None
    return record


def _training(ax: Axes, folder: Path, whose: str, colour: str) -> None:
    """The log: full lines for the last of the columns that it has, dashed ones for others."""
    path = folder / "metrics.csv"
    log = pd.read_csv(path) if path.exists() else pd.DataFrame({"iteration": []})
    columns = [column for column in SHOWN if column in log and log[column].notna().any()]
    for column in columns:
        shown, (words, axis) = log[log[column].notna()], SHOWN[column]
        line = "-" if column == columns[-1] else (0, (2, 1))
        look: dict[str, Any] = {"linestyle": line, "color": colour, "marker": "o" if len(shown) < FEW else ""}
        ax.plot(shown["iteration"], shown[column], **look, label=whose + words)
        ax.set_ylabel(axis)
    ax.set_xlabel("iteration")
    if ax.lines:
        ax.legend()


def _tests(ax: Axes, folder: Path, whose: str, colour: str) -> None:
    """A curve with its interval for each test."""
    if not (folder / "result.json").exists():
        return
    result = _read(folder, "result.json")
    lines = ["-", "--", "-.", ":"]
    for number, (test, found) in enumerate(result["evaluations"].items()):
        metric = next(metric for metric in UNITS if metric in found)
        curve = plots.mean_curve([result], test, metric)
        at, value, ci95 = curve.index, curve["value"], curve["ci95"]
        style: dict[str, Any] = {"color": colour, "linestyle": lines[number % len(lines)], "marker": "o"}
        ax.plot(at, value, **style, label=f"{whose}, {test}".removeprefix(", "))
        ax.fill_between(at, value - ci95, value + ci95, color=colour, alpha=0.15, linewidth=0)
        ax.set_ylabel(UNITS[metric])
