"""What was run, and how far it has come. No torch here.

These are overviews for the prose pages. A page shows what one of these functions returns with the directive
``{from-package} mamlkit.report.inventory:NAME``.
"""

__all__ = ["beyond_evaluations", "beyond_rows", "experiment_list", "state_cells", "state_of"]

from collections.abc import Callable, Sequence

from mamlkit.experiments.bandits import BanditEvaluation
from mamlkit.experiments.candidates import is_candidate
from mamlkit.experiments.chains import ChainEvaluation, ChainRow, is_chain
from mamlkit.experiments.compare import is_compared
from mamlkit.experiments.memory import MemoryRow, has_memory
from mamlkit.experiments.paper import ROWS
from mamlkit.experiments.rows import Evaluation, PolicyEvaluation, PolicyRow, Row
from mamlkit.experiments.traps import is_trap
from mamlkit.measures import STEPS_KEPT
from mamlkit.report import results
from mamlkit.report.texts import badge, decimals, number, numbered, step_words
from mamlkit.report.verdicts import WITHOUT_RESULT

MSE_STEPS = (0, 1, 5, 10)  # what the sinusoid tables show of a curve; accuracies are shown at all kept steps
RETURN_STEPS = (0, 1, 2, 3)
OF_SEEDS = " *over seeds* is the standard deviation between training runs, after the last step shown."
OF_ERRORS = (
    " *median*, over all tasks, and *diverged* are after the last step shown; a mean leaves out the tasks "
    "that have diverged by its step."
)
AnyRow = Row | PolicyRow | MemoryRow | ChainRow
AnyTest = Evaluation | PolicyEvaluation | BanditEvaluation | ChainEvaluation


def state_of(name: str) -> str:
    """How far an experiment has come: a verdict's word, perhaps with iterations, or ``complete``.

    One that has a result goes by that, and not by a state that has come further: no test is of that.
    """
    found = results.load(name)
    if not found:
        return results.without_result(name)
    if any(results.stale(result) for result in found):
        return "stale"
    done = min(result["iterations_done"] for result in results.counted(found))
    total = found[-1]["settings"]["iterations"]
    return f"partial ({done:,} of {total:,})" if done < total else "complete"


def state_cells(name: str) -> dict[str, str]:
    """The last cells of an experiment's line in a table: its state, and its name where there is no result."""
    state = state_of(name)
    return {"state": badge(state), "name": f"`{name}`" if state.startswith(WITHOUT_RESULT) else ""}


def _curves(wanted: Callable[[AnyRow, AnyTest], bool], what: str, name: str) -> str:
    """Tables of our own curves, one per metric, of the evaluations that are wanted; what has no result."""
    tables, missing = [], dict[str, None]()
    for metric, steps in (("mse", MSE_STEPS), ("accuracy", STEPS_KEPT), ("return", RETURN_STEPS)):
        lines = []
        for row in (row for row in ROWS.values() if row.metric == metric):
            tests = [evaluation for evaluation in row.evaluations if wanted(row, evaluation)]
            if results.load(row.name):
                lines += [_curve(row, evaluation, steps) for evaluation in tests]
            elif tests:
                state = results.without_result(row.name)
                missing[f"`{row.name}`" + ("" if state == "not run" else f" {badge(state)}")] = None
        if lines:
            caption = f"{what}: {results.UNITS[metric]}, after so many inner steps."
            caption += OF_SEEDS * any(line["over seeds"] for line in lines)
            caption += OF_ERRORS * any(line["diverged"] for line in lines)
            tables.append(numbered(lines, caption, f"tab-{name}-{metric}"))
    if missing:
        tables.append(f"Without a result (`python -m mamlkit run NAME` brings one): {', '.join(missing)}.\n")
    return "\n".join(tables)


def _curve(row: AnyRow, evaluation: AnyTest, steps: Sequence[int]) -> dict[str, str]:
    """The line of an evaluation: its numbers at these steps, and what is to be known of them."""
    taken = [step for step in steps if step <= evaluation.inner_steps]
    ours = dict.fromkeys(steps) | {
        step: results.summary(row.name, evaluation.name, step, row.metric) for step in taken
    }
    line = {"experiment": row.title, "test": evaluation.name}
    line |= {step_words(step): number(s.value, s.deciding_ci95) if s else "" for step, s in ours.items()}
    line |= {"over seeds": "", "median": "", "diverged": "", "state": badge(state_of(row.name))}
    if last := ours[taken[-1]]:
        if len(last.seeds) > 1:
            line["over seeds"] = f"{last.seed_sd:.{decimals(last.ci95)}f}"
        if last.diverged:
            line["median"] = number(last.median, digits=decimals(last.ci95))
            line["diverged"] = f"{last.diverged:,} of {last.tasks * len(last.seeds):,}"
    return line


def beyond_rows() -> str:
    """Experiments that the paper has no number of, but for those that have tables of their own."""
    published = set(results.published().row)
    reads = lambda name: name.startswith("omniglot-sequences")  # takes no inner steps: chapter 11 has it
    kinds = (is_trap, is_compared, has_memory, is_chain, is_candidate, reads)
    wanted = lambda row, e: row.name not in published and not any(of(row.name) for of in kinds)
    return _curves(wanted, "Experiments beyond the paper", "beyond-rows")


def beyond_evaluations() -> str:
    """Tests beyond the paper of experiments that are in it."""
    paper = results.published()
    rows, pairs = set(paper.row), set(zip(paper.row, paper.evaluation))
    wanted = lambda row, e: row.name in rows and (row.name, e.name) not in pairs
    return _curves(wanted, "The paper's experiments in other tests", "beyond-evaluations")


def experiment_list() -> str:
    """The experiments that the command line knows."""
    lines = [
        {
            "name": f"`{row.name}`",
            "what": row.title,
            "place": row.place,
            "iterations": f"{row.iterations:,}",
            "state": badge(state_of(row.name)),
        }
        for row in ROWS.values()
    ]
    return numbered(
        lines, "Experiments by the name that the command line takes.", "tab-experiments", ["iterations"]
    )
