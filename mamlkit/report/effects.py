"""What the deviations do to the numbers, as sentences for the deviations page. No torch here.

A page shows what one of these functions returns with the directive ``{from-package}
mamlkit.report.effects:NAME``.
"""

__all__ = [
    "baseline_clip",
    "curvature",
    "divergence",
    "inner_rate",
    "more_tasks",
    "phase",
    "physics",
    "queries",
]

import math
from typing import Any

from mamlkit.experiments.paper import ROWS, get
from mamlkit.experiments.rows import Experiment, Row
from mamlkit.experiments.traps import is_trap
from mamlkit.report import results
from mamlkit.report.inventory import MSE_STEPS, state_of
from mamlkit.report.pages import printed_table
from mamlkit.report.texts import badge, measured_effect, number, numbered


def _ours(name: str, evaluation: str, step: int, metric: str) -> str | None:
    """A number of ours for a sentence, or None if it was not run."""
    ours = results.summary(name, evaluation, step, metric)
    return number(ours.value, ours.deciding_ci95) if ours else None


def _reservation(*names: str) -> str:
    """In brackets, what is not complete of the experiments that a sentence speaks of."""
    unfinished = {state: None for name in names if (state := state_of(name)) != "complete"}
    return f" ({', '.join(map(badge, unfinished))})" if unfinished else ""


def _two_of_five(names: tuple[str, str], step: int, words: str, kinds: tuple[str, str]) -> str | None:
    """A sentence with two experiments' errors from 5 points; None unless both were run."""
    found = [_ours(name, "K=5", step, "mse") for name in names]
    if None in found:
        return None
    return f"{words}{_reservation(*names)}: {found[0]} with {kinds[0]}, {found[1]} {kinds[1]}."


def phase() -> str:
    """What the slides' range of phases does."""

    def sentence(method: str, step: int, words: str) -> str | None:
        names = f"sinusoid-{method}", f"sinusoid-2pi-{method}"
        return _two_of_five(names, step, words, ("phases in [0, π]", "in [0, 2π]"))

    return measured_effect(
        [
            sentence("pretrained", 0, "Mean squared error of the pretrained network before any step"),
            sentence("maml", 1, "MAML from 5 points after one step"),
            sentence("maml", 10, "MAML from 5 points after ten steps"),
        ]
    )


def inner_rate() -> str:
    """What the default inner step of the authors' code does, in training and tests."""

    def sentence(step: int, words: str) -> str | None:
        words = f"Mean squared error of MAML from 5 points after {words}"
        names = "sinusoid-maml", "sinusoid-small-alpha"
        return _two_of_five(names, step, words, ("α = 0.01", "with 0.001"))

    return measured_effect([sentence(1, "one step"), sentence(10, "ten steps")])


def physics() -> str:
    """Policies without meta-training, ours and the paper's: what oracles return and random ones gain."""
    found = printed_table()
    found = found[(found.metric == "return") & (found.place == "Fig. 5")]
    known = found[(found.method == "oracle") & found.ours.notna()]
    sentences = ["Oracles, trained by TRPO for a task that they are told, return:"] if len(known) else []
    for line in known.itertuples():
        sentences.append(
            f"{line.setting}{_reservation(line.row)}: {number(line.ours, line.ours_ci95)}, in the "
            f"paper {line.printed}."
        )
    random = ["A random policy, which no training has touched, gains in three gradient steps:"]
    for setting, curve in found[found.method == "random"].groupby("setting", sort=False):
        curve = curve.set_index("step")
        if curve.ours.notna().all():
            ours, paper = (
                f"{curve[whose][3] - curve[whose][0]:.1f}".replace("-", "−") for whose in ("ours", "paper")
            )
            random.append(f"{setting}: {ours}, in the paper {paper}.")
    return measured_effect(sentences + random if len(random) > 1 else sentences)


def curvature() -> str:
    """What the curvature of the inner step does to policies, where at least two kinds of it were run."""
    return _compared({"": "with log-densities", "-ratios": "with ratios", "-first-order": "in first order"})


def baseline_clip() -> str:
    """What the clipping in the baseline does to policies, where both were run."""
    return _compared({"": "with the clip", "-unclipped": "without"})


def _compared(kinds: dict[str, str]) -> str:
    """Returns of MAML and of rows whose names go on, for every environment that has at least two of them.

    They are compared by the seeds that all of them have, since a single other one may decide everything.
    Where they have none in common, an environment is left out.
    """
    test, sentences = ("40 goals", 1, "return"), []
    for row in (row for row in ROWS.values() if f"{row.name}-ratios" in ROWS):
        whole = {kind: results.summary(row.name + kind, *test) for kind in kinds if row.name + kind in ROWS}
        found = {kind: ours for kind, ours in whole.items() if ours}
        if len(found) < 2 or not (common := set.intersection(*(set(s.seeds) for s in found.values()))):
            continue
        parts, more = [], []
        for kind, of_all in found.items():
            if ours := results.summary(row.name + kind, *test, seeds=common):
                value = number(ours.value, ours.deciding_ci95)
                parts.append(f"{value} {kinds[kind]}{_reservation(row.name + kind)}")
            if set(of_all.seeds) > common:
                count = len(of_all.seeds)
                more.append(f"{count} seeds {kinds[kind]} give {number(of_all.value, of_all.deciding_ci95)}")
        which = f"seed{'s' if len(common) > 1 else ''} {', '.join(map(str, sorted(common)))}"
        title = row.title.removesuffix(", MAML")
        added = f" ({', '.join(more)}.)" if more else ""
        sentences.append(f"{title}, {which}, return after one gradient step: {', '.join(parts)}.{added}")
    return measured_effect(sentences)


def queries() -> str:
    """What more queries per class do to the accuracy of the same parameters."""
    sentences = []
    for row in ROWS.values():
        if not isinstance(row, Row) or row.family != "omniglot" or is_trap(row.name):
            continue
        tests = {e.name: e for e in row.evaluations}
        if not {"Q=K", "Q=15"} <= tests.keys():
            continue
        step = tests["Q=K"].headline_step
        few, many = (_ours(row.name, test, step, "accuracy") for test in ("Q=K", "Q=15"))
        if few and many:
            queries = tests["Q=K"].queries, tests["Q=15"].queries
            shares = f"{few} % with {queries[0]} and {many} % with {queries[1]} queries per class"
            sentences.append(f"{row.title}{_reservation(row.name)}: {shares}.")
    name = "mini-imagenet-released"
    found = {q: _ours(name, f"Q={q}", 10, "accuracy") for q in (1, 5, 15)}
    if all(found.values()):
        shares = ", ".join(f"{value} % with {queries}" for queries, value in found.items())
        sentences.append(f"{get(name).title}: {shares} queries per class.")
    return measured_effect(sentences)


def divergence() -> str:
    """What the tasks on which gradient descent diverges would do to the means."""
    lines = [
        _diverged(row, result, evaluation, step)
        for row in ROWS.values()
        for result in results.load(row.name)
        for evaluation in row.evaluations
        for step in MSE_STEPS
    ]
    if not any(lines):
        return measured_effect([])
    caption = "Mean squared error without and with the tasks that diverged, where any did."
    right = ["seed", "steps", "diverged", "mean without", "mean with"]
    return numbered([line for line in lines if line], caption, "tab-diverged", right)


def _diverged(row: Experiment, result: dict[str, Any], evaluation: Any, step: int) -> dict[str, str] | None:
    """The means of a test after some steps, without and with what has diverged; None where nothing has."""
    curve = result["evaluations"].get(evaluation.name, {}).get("mse")
    if not curve or step >= len(curve["diverged"]) or not curve["diverged"][step]:  # of fewer steps
        return None
    of_all = curve["mean_of_all"][step]
    digits = ".3f" if of_all is not None and of_all < 100 else ".2g"
    return {
        "experiment": row.title,
        "test": evaluation.name,
        "seed": str(result["seed"]),
        "steps": str(step),
        "diverged": f"{curve['diverged'][step]} of {curve['tasks']:,}",
        "mean without": f"{curve['mean'][step]:.3f}",
        "mean with": "not finite" if of_all is None else f"{of_all:{digits}}",
    }


def more_tasks() -> str:
    """What 6,000 test tasks instead of 600 do to the interval."""
    ours = results.summary("sinusoid-maml", "K=5", 10, "mse")
    if ours is None:
        return measured_effect([])
    would_be = ours.one_ci95 * math.sqrt(ours.tasks / 600)
    return measured_effect(
        [
            "For one network that MAML trained, from 5 points after ten steps, the interval is "
            f"± {ours.one_ci95:.3f} with {ours.tasks:,} tasks and ± {would_be:.3f} with 600, in the mean "
            "over seeds."
        ]
    )
