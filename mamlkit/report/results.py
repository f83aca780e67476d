"""The paper's numbers, and ours with their intervals. No torch here.

What is committed of a run is read in :mod:`mamlkit.report.committed`, whose names are here as well.
"""

__all__ = [
    "Summary",
    "checkpoint",
    "counted",
    "directions",
    "listing",
    "load",
    "per_task_errors",
    "published",
    "published_goals",
    "stale",
    "student",
    "summary",
    "training_log",
    "without_result",
]

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes a second to import

from mamlkit import places
from mamlkit.experiments.paper import ROWS, get
from mamlkit.measures import STEPS_KEPT, Z95, left_out, seeds_kept
from mamlkit.report.committed import (
    checkpoint,
    counted,
    load,
    per_task_errors,
    stale,
    training_log,
    without_result,
)

UNITS = {"accuracy": "accuracy, %", "mse": "mean squared error", "return": "return"}


def published() -> pd.DataFrame:
    """Every number of the paper's tables and learning curves.

    Columns: place, setting, method, step, metric, value, ci95. ``row`` and ``evaluation`` name our experiment
    where there is one, and ``varied`` says that it is of something else than the number, in network or steps.
    ``by_goal`` has the returns of a policy on the 40 test goals, else None.
    """
    data = places.repository() / "data"
    text = pd.read_csv(data / "published.csv", dtype=str, keep_default_na=False)
    by_goal = {(s, m, str(k)): list(map(float, v)) for (s, m, k), *v in published_goals().itertuples()}
    return text.assign(
        by_goal=list(map(by_goal.get, zip(text.setting, text.method, text.step))),
        varied=text.varied != "",
        value=text.value.astype(float),
        ci95=pd.to_numeric(text.ci95),
        step=pd.to_numeric(text.step).astype("Int64"),
    )


def published_goals() -> pd.DataFrame:
    """The paper's returns on each of the 40 test goals, and the goals: a column for each, a line by setting,
    method (``"goal"``, ``"goal x"`` and ``"goal y"`` are the goals themselves) and step."""
    path = places.repository() / "data" / "published_goals.csv"
    return pd.read_csv(path, index_col=["setting", "method", "step"])


def directions(setting: str) -> dict[str, NDArray[np.bool_]]:
    """Which of the test goals of a setting are forward, and which backward, ``[40]`` each."""
    goals = published_goals().loc[(setting, "goal", 0)].to_numpy()
    return {"forward": goals > 0, "backward": goals < 0}


@dataclass(frozen=True)
class Summary:
    """A number of ours with its two uncertainties, which are never mixed.

    Args:
        value: mean over the test tasks and the seeds.
        ci95: half-width of the 95 % interval over test tasks (each task averaged over the seeds): the paper's
            +-.
        one_ci95: the same of a single training, in the mean over the seeds. It is wider, since what is hard
            for one network is not always so for another.
        of_seeds: mean over the test tasks of each seed.
        seed_sd: standard deviation over seeds, NaN for one seed.
        seed_ci95: half-width of the 95 % interval of the mean over seeds (Student's t), NaN for one seed.
        median: over the tasks, with those that have diverged, of the seeds whose tasks are committed; NaN
            without such seeds, or after a step or of a metric that is not kept task by task.
        seeds: which seeds.
        tasks: test tasks of each seed.
        diverged: tasks left out of the mean, over all seeds (see :func:`mamlkit.measures.left_out`).
        done, total: iterations.
        origin: row, seeds, commit, device and time.
    """

    value: float
    ci95: float
    one_ci95: float
    of_seeds: tuple[float, ...]
    seed_sd: float
    seed_ci95: float
    median: float
    seeds: tuple[int, ...]
    tasks: int
    diverged: int
    done: int
    total: int
    origin: str

    @property
    def deciding_ci95(self) -> float:
        """The wider of the intervals over test tasks and, where there are several seeds, over seeds."""
        return float(np.fmax(self.ci95, self.seed_ci95))


def summary(
    name: str, evaluation: str, step: int, metric: str, seeds: Collection[int] | None = None
) -> Summary | None:
    """Ours for a row, evaluation and inner step, over its :func:`counted` seeds, or some of them.

    None if it was not run, or with other settings; ``ValueError`` for a row, test, metric or step that is not
    there. Where every task has diverged, the value and its interval are NaN. Seeds share their test tasks, so
    the interval over tasks is that of each task's mean over seeds: over those whose tasks are committed, so
    rather too wide than too narrow. Where no tasks are, or none after that step, it is that of one training.
    """
    get(name)
    found = load(name)
    if not found or any(map(stale, found)):
        return None
    found = [result for result in counted(found) if seeds is None or result["seed"] in seeds]
    if not found:
        return None
    curves = [_curves(result, evaluation, metric, step) for result in found]
    means = tuple(curve["mean"][step] for curve in curves)
    seeds = tuple(result["seed"] for result in found)
    kept = [seed for seed in seeds if seed < seeds_kept(name)]
    sd, count, gone = (np.array([c[key] for c in curves]) for key in ("sd", "tasks", "diverged"))
    one_ci95 = float((Z95 * sd[:, step] / np.sqrt(count - gone[:, step])).mean())
    ci95, median = one_ci95, math.nan  # an upper bound, which is sharp for a single seed
    if kept and _of_tasks_kept(metric, step):
        ci95, median = _over_tasks(name, kept, evaluation, metric, step)
    seed_sd, seed_ci95 = student(means)
    return Summary(
        value=float(np.mean(means)),
        ci95=ci95,
        one_ci95=one_ci95,
        of_seeds=means,
        seed_sd=seed_sd,
        seed_ci95=seed_ci95,
        median=median,
        seeds=seeds,
        tasks=curves[0]["tasks"],
        diverged=sum(curve["diverged"][step] for curve in curves),
        done=min(result["iterations_done"] for result in found),
        total=found[-1]["settings"]["iterations"],
        origin=_origin(name, found),
    )


def student(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Standard deviation of a few values, and half of the 95 % interval of their mean by Student's t.

    Both are NaN for a single one.

    >>> student([1.0, 3.0])[0], round(student([1.0, 3.0])[1], 3)
    (1.4142135623730951, 12.706)
    """
    if len(values) == 1:
        return math.nan, math.nan
    sd = float(np.std(values, ddof=1))
    return sd, float(special.stdtrit(len(values) - 1, 0.975)) * sd / math.sqrt(len(values))


def _origin(name: str, found: list[dict[str, Any]]) -> str:
    """Row, seeds, commit, date, device and time; of runs in several parts the first and the last."""
    parts = sorted((part for result in found for part in result["origin"]), key=lambda part: part["date"])
    commits = [p["commit"][:7] + ("+" if p["commit"].endswith("+changes") else "") for p in parts]
    dates, devices = [part["date"] for part in parts], [part["device"] for part in parts]
    span = lambda values: " to ".join(dict.fromkeys((values[0], values[-1])))
    which = f"{_seeds(found)}, commit {span(commits)}, {span(dates)}"
    time = duration(sum(result["seconds"] for result in found))
    return f"{name}, {which}, {' and '.join(sorted(set(devices)))}, {time}"


def _seeds(found: list[dict[str, Any]]) -> str:
    """Which seeds some results are of, in words."""
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(str(result['seed']) for result in found)}"


def _curves(result: dict[str, Any], evaluation: str, metric: str, step: int) -> dict[str, Any]:
    """A metric of a test, after each step, which the result must have."""
    tests = result["evaluations"]
    if evaluation not in tests or metric not in tests[evaluation]:
        there = "; ".join(
            f"{name}: {', '.join(m for m in test if m != 'settings')}" for name, test in tests.items()
        )
        raise ValueError(f"test {evaluation!r}, metric {metric!r}, but {result['name']} has {there}")
    steps = len(tests[evaluation][metric]["mean"])
    if not 0 <= step < steps:
        raise ValueError(f"step={step}, but test {evaluation!r} of {result['name']} has 0 to {steps - 1}")
    return tests[evaluation][metric]


def _of_tasks_kept(metric: str, step: int) -> bool:
    """Whether a metric is committed task by task after a step, by ``mamlkit.runs.folders.write_result``."""
    return metric == "return" or (metric != "cross_entropy" and step in STEPS_KEPT)


def _over_tasks(
    name: str, seeds: Sequence[int], evaluation: str, metric: str, step: int
) -> tuple[float, float]:
    """The interval of the mean over tasks, and the median, of seeds whose tasks are committed."""
    of_seeds = [per_task_errors(name, seed, evaluation, metric) for seed in seeds]
    if len({errors.shape for errors in of_seeds}) > 1:
        shapes = ", ".join(f"{list(errors.shape)} of seed {seed}" for seed, errors in zip(seeds, of_seeds))
        raise ValueError(
            f"{name}: the committed {metric}s of test {evaluation} are {shapes}, but must be of as "
            f"many tasks; restore them from git"
        )
    per_task = np.stack(of_seeds)  # [seeds, tasks, kept steps]
    out = left_out(metric, per_task, getattr(get(name), "family", None))
    at = step if metric == "return" else STEPS_KEPT.index(step)
    of_tasks = np.ma.array(per_task, mask=out)[..., at].mean(0).compressed()
    ci95 = Z95 * float(of_tasks.std()) / math.sqrt(len(of_tasks)) if len(of_tasks) else math.nan
    everything = per_task[..., at]
    return ci95, float(np.median(np.where(np.isfinite(everything), everything, np.inf)))


def duration(seconds: float) -> str:
    """What a training took, for people.

    >>> duration(50), duration(600), duration(9000), duration(0)
    ('50 s', '10 min', '2.5 h', 'no training')
    """
    if seconds == 0:
        return "no training"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listing() -> pd.DataFrame:
    """The experiments of the package and how far each has come."""
    lines = []
    for row in ROWS.values():
        alike: dict[str, list[dict[str, Any]]] = {}
        for result in load(row.name):
            count = f"{result['iterations_done']:,}" + (" of other settings" if stale(result) else "")
            alike.setdefault(count, []).append(result)
        done = "; ".join(f"{count} ({_seeds(of)})" for count, of in alike.items()) or without_result(row.name)
        line = {"name": row.name, "iterations": f"{row.iterations:,}", "done": done}
        lines.append(line | {"title": row.title, "place": row.place})
    return pd.DataFrame(lines)
