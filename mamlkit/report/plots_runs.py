"""One's own runs as a figure, from what their folders hold. No torch here."""

__all__ = ["plot_run"]

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mamlkit.report import plots
from mamlkit.report.results import UNITS

# Of a log, the columns that are shown: what each is called, and the axis that it needs.
SHOWN = {
    "meta_loss": ("meta-loss", "meta-loss"),
    "validation": ("validation", ""),  # what the tests have
    "return_before": ("before adapting", "return"),
    "return_after": ("after adapting", "return"),
}
FEW = 20  # lines of a log, which are points as well: a single one would not be seen
LISTED = 10  # runs in a message
NEEDED = {"run.json": {"name", "seed"}, "result.json": {"evaluations"}}  # of a record
ADVICE = "restore it, or move the folder away and run again"
TRAINING, TESTS = "iteration", "inner steps"  # the two kinds of panel, by what is below them
EMPTY = {TRAINING: "no line in the log yet", TESTS: "not tested yet"}
Panel = tuple[str, str, str]  # the kind, the unit, and the metric of its runs, whose losses are not alike


class Curve(NamedTuple):
    """What is drawn of a run, in one panel."""

    x: Any
    y: Any
    ci95: Any
    label: str
    look: dict[str, Any]


def plot_run(*folders: str | Path) -> Figure:
    """Training, and error or return after each inner step, of one run or of several.

    Each unit has a panel of its own: a loss and an accuracy are not drawn on one axis. A run need not be
    finished: until it is tested, the right panel is empty.

    Args:
        folders: of runs, such as ``runs/sinusoid-maml/seed0``.

    Returns:
        The figure. A notebook shows it if the call is the last line of a cell; ``.savefig("run.png")`` keeps
        it.

    Raises:
        ValueError: no folder, one that holds no run, or one whose files are damaged.
    """
    if not folders:
        raise ValueError("plot_run() without a folder; give one such as 'runs/sinusoid-maml/seed0'")
    runs = [(Path(folder), _read(Path(folder), "run.json")) for folder in folders]
    plots.use_style()
    panels: dict[Panel, list[Curve]] = {}
    for number, (folder, run) in enumerate(runs):
        name = f"{run['name']}, seed {run['seed']}: " if len(runs) > 1 else ""
        colour = list(plots.COLOURS.values())[number % len(plots.COLOURS)]
        for panel, curve in (*_training(folder, run, colour), *_tests(folder, run, colour)):
            panels.setdefault(panel, []).append(curve._replace(label=name + curve.label))
    figure = _drawn(panels, outside=len(runs) > 1)
    if len(runs) == 1:
        figure.suptitle(f"{runs[0][1]['name']}, seed {runs[0][1]['seed']}", fontsize=10)
    plt.close(figure)  # a notebook would show it twice
    return figure


def _drawn(panels: dict[Panel, list[Curve]], outside: bool) -> Figure:
    """A panel beside the other; legends of several runs are long, and stand below."""
    shown: list[tuple[str, Panel | None]] = []
    for kind in (TRAINING, TESTS):
        shown += [(kind, panel) for panel in panels if panel[0] == kind] or [(kind, None)]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.5 * len(shown), 3.6), squeeze=False)
    for ax, (kind, panel) in zip(axes[0], shown):
        if panel is None:
            ax.text(0.5, 0.5, EMPTY[kind], ha="center", transform=ax.transAxes)
            ax.set_axis_off()
            continue
        for x, y, ci95, label, look in panels[panel]:
            ax.plot(x, y, **look, label=label)
            if ci95 is not None:
                ax.fill_between(x, y - ci95, y + ci95, color=look["color"], alpha=0.15, linewidth=0)
        ax.set_xlabel(kind)
        ax.set_ylabel(panel[1])
        if kind == TESTS:
            ax.locator_params(axis="x", integer=True)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.5}  # lines down
        ax.legend(**(below if outside else {}))
    height = 0.22 * max(map(len, panels.values()), default=0) if outside else 0
    figure.set_figheight(3.6 + height)  # the panels keep theirs
    return figure


def _metric(run: dict[str, Any]) -> str:
    """What a run reports; its record has the settings, of which a policy's have no loss."""
    loss = run.get("settings", {}).get("loss")
    return "return" if loss is None else "mse" if loss == "mse" else "accuracy"


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A record of a run."""
    try:
        record: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        if missing := NEEDED[name] - record.keys():
            raise ValueError(f"{', '.join(sorted(missing))} missing")
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder} holds no {name}, so it is no run; {_near(folder)}") from None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{folder / name} is damaged ({error}); {ADVICE}") from error
    return record


def _near(folder: Path) -> str:
    """Words for the runs in the nearest folder that has some."""
    for place in (folder, *folder.parents[:3]):
        runs = sorted({path.parent for deep in ("*", "*/*") for path in place.glob(f"{deep}/run.json")})
        if runs:
            more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
            return f"{place} has the runs {', '.join(map(str, runs[:LISTED]))}{more}"
    return (
        "give a folder such as 'runs/sinusoid-maml/seed0', or 'runs/sinusoid-maml-quick/seed0' of the quick "
        "scale; in a notebook it begins with '../runs/'"
    )


def _training(folder: Path, run: dict[str, Any], colour: str) -> Iterator[tuple[Panel, Curve]]:
    """The log: full lines for the last of the columns that it has, dashed ones for others."""
    path, metric = folder / "metrics.csv", _metric(run)
    try:
        log = pd.read_csv(path) if path.exists() else pd.DataFrame({"iteration": []})
        if "iteration" not in log:
            raise ValueError(f"its columns are {', '.join(map(repr, log))}")
    except ValueError as error:  # pandas has several, all of this kind
        raise ValueError(f"{path} is not the log of a run ({error}); {ADVICE}") from error
    columns = [column for column in SHOWN if column in log and log[column].notna().any()]
    for column in columns:
        shown, (words, unit) = log[log[column].notna()], SHOWN[column]
        unit = unit or UNITS[metric]
        line = "-" if column == columns[-1] else (0, (2, 1))
        look = {"linestyle": line, "color": colour, "marker": "o" if len(shown) < FEW else ""}
        yield (TRAINING, unit, metric), Curve(shown["iteration"], shown[column], None, words, look)


def _tests(folder: Path, run: dict[str, Any], colour: str) -> Iterator[tuple[Panel, Curve]]:
    """A curve with its interval for each test."""
    if not (folder / "result.json").exists():
        return
    result = _read(folder, "result.json")
    lines = ["-", "--", "-.", ":"]
    for number, (test, found) in enumerate(result["evaluations"].items()):
        metric = next(metric for metric in UNITS if metric in found)
        curve = plots.curve_of(result, test, metric)
        look = {"color": colour, "linestyle": lines[number % len(lines)], "marker": "o"}
        of_test = Curve(curve.index, curve["value"], curve["ci95"], test, look)
        yield (TESTS, UNITS[metric], _metric(run)), of_test
