"""What was run, how far it has come, and what it says all in all. No torch here.

These are overviews for the prose pages. A page shows what one of these functions returns with the directive
``{from-package} mamlkit.report.inventory:NAME``.
"""

__all__ = [
    "beyond_evaluations",
    "beyond_rows",
    "experiment_list",
    "front_page",
    "origins",
    "state_of",
    "tally",
    "verdicts",
    "where_seeds_matter",
]

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mamlkit import places
from mamlkit.experiments.paper import ROWS
from mamlkit.experiments.rows import Evaluation, PolicyEvaluation, PolicyRow, Row
from mamlkit.experiments.traps import is_trap
from mamlkit.measures import STEPS_KEPT
from mamlkit.report import results
from mamlkit.report.pages import GROUPS, badge, decimals, group, number, numbered, printed_table, step_words
from mamlkit.report.verdicts import ACCURACY_MARGIN, MSE_MARGIN, RETURN_MARGIN, verdict

MSE_STEPS = (0, 1, 5, 10)  # what the sinusoid tables show of a curve; accuracies are shown at all kept steps
RETURN_STEPS = (0, 1, 2, 3)
OWN_VERDICTS = ["reproduced", "consistent", "differs", "partial", "stale", "not run"]

# Setting of a published number -> a word in the name of its chapter.
CHAPTERS = {
    "sinusoid": "sinusoid",
    "Omniglot": "omniglot",
    "Mini-ImageNet": "miniimagenet",
    "2D navigation": "navigation",
    "HalfCheetah": "locomotion",
    "Ant": "locomotion",
}


def state_of(name: str) -> str:
    """How far an experiment has come: a verdict's word, perhaps with iterations, or ``complete``."""
    found = results.load(name)
    if not found:
        return "not run"
    if any(results.stale(result) for result in found):
        return "stale"
    done, total = (
        min(result["iterations_done"] for result in results.counted(found)),
        found[-1]["settings"]["iterations"],
    )
    return f"partial ({done:,} of {total:,})" if done < total else "complete"


def _curves(
    wanted: Callable[[Row | PolicyRow, Evaluation | PolicyEvaluation], bool], what: str, name: str
) -> str:
    """Tables of our own curves, one per metric, of the evaluations that are wanted."""
    tables = []
    for metric, steps in (("mse", MSE_STEPS), ("accuracy", STEPS_KEPT), ("return", RETURN_STEPS)):
        lines = [
            _curve(row, evaluation, steps)
            for row in ROWS.values()
            for evaluation in row.evaluations
            if row.metric == metric and wanted(row, evaluation)
        ]
        if lines:
            caption = f"{what}: {results.UNITS[metric]}, after so many inner steps."
            tables.append(numbered(lines, caption, f"tab-{name}-{metric}"))
    return "\n".join(tables)


def _curve(
    row: Row | PolicyRow, evaluation: Evaluation | PolicyEvaluation, steps: Sequence[int]
) -> dict[str, str]:
    """The line of an evaluation: its numbers at these steps, and what is to be known of them."""
    taken = [step for step in steps if step <= evaluation.inner_steps]
    ours = dict.fromkeys(steps) | {
        step: results.summary(row.name, evaluation.name, step, row.metric) for step in taken
    }
    line = {"experiment": row.title, "test": evaluation.name}
    line |= {step_words(step): number(s.value, s.ci95) if s else "" for step, s in ours.items()}
    line |= {"over seeds": "", "diverged": "", "state": badge(state_of(row.name))}
    if headline := ours.get(evaluation.headline_step):
        if len(headline.seeds) > 1:
            line["over seeds"] = f"{headline.seed_sd:.{decimals(headline.ci95)}f}"
        if headline.diverged:
            line["diverged"] = f"{headline.diverged} of {headline.tasks * len(headline.seeds):,}"
    return line


def beyond_rows() -> str:
    """Experiments that the paper has no number of; those of traps have a table of their own."""
    published = set(results.published().row)
    wanted = lambda row, e: row.name not in published and not is_trap(row.name)
    return _curves(wanted, "Experiments beyond the paper", "beyond-rows")


def beyond_evaluations() -> str:
    """Tests beyond the paper of experiments that are in it."""
    paper = results.published()
    rows, pairs = set(paper.row), set(zip(paper.row, paper.evaluation))
    wanted = lambda row, e: row.name in rows and (row.name, e.name) not in pairs
    return _curves(wanted, "The paper's experiments in other tests", "beyond-evaluations")


def origins() -> str:
    """Where our numbers come from: runs with the same origin share a line."""
    folders = {path.parent.name for path in (places.repository() / "data" / "results").glob("*/seed*.json")}
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for name in [*(n for n in ROWS if n in folders), *sorted(folders - ROWS.keys())]:
        for result in results.load(name):
            alike.setdefault((name, *_origin(result).values()), []).append(result)
    if not alike:
        return "No result has been committed yet.\n"
    lines = []
    for (name, *_), found in alike.items():
        where = _origin(found[0])
        line = {"experiment": f"`{name}`", "seeds": ", ".join(str(result["seed"]) for result in found)}
        line |= where | {"time": ", ".join(results.duration(result["seconds"]) for result in found)}
        lines.append(line | {"versions": line.pop("versions")})
    caption = "Origins of our numbers; one training time per seed."
    return numbered(lines, caption, "tab-origins", ["iterations"])


def _origin(result: dict[str, Any]) -> dict[str, str]:
    """How far a run has come, and what was at work on it."""
    parts = result["origin"]
    commits = (part["commit"] for part in parts)
    versions = (", ".join(f"{k} {v}" for k, v in part["versions"].items()) for part in parts)
    return {
        "iterations": f"{result['iterations_done']:,}",
        "commit": _then(f"`{c[:7]}`" + ("+" if c.endswith("+changes") else "") for c in commits),
        "date": _then(part["date"] for part in parts),
        "device": _then(part["device"] for part in parts),
        "processor": _then(part["processor"] for part in parts),
        "versions": _then(versions),
    }


def _then(values: Iterable[str]) -> str:
    """What changed while a run went on from machine to machine, in order."""
    return ", then ".join(dict.fromkeys(values))


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


def verdicts() -> str:
    """What each verdict means, and the margins it is given by."""
    points, mse, returns = ACCURACY_MARGIN, MSE_MARGIN, RETURN_MARGIN
    meanings = {
        "reproduced": "the 95 % interval of the difference (ours less the paper's) lies inside the margin",
        "consistent": "it contains zero but reaches beyond the margin",
        "differs": "neither",
        "partial": "training has stopped after n of N iterations; ours and the difference are shown, but "
        "not judged",
        "not run": "there is no committed result",
        "stale": "there is one, but the settings of its experiment have changed since, so it is not shown",
    }
    lines = [{"verdict": badge(word), "meaning": meaning} for word, meaning in meanings.items()]
    margins = (
        f"The margin is the difference that would matter: {points:g} percentage point of "
        f"accuracy, {mse:.0%} of a mean squared "
        f"error, and in reinforcement learning {returns:.0%} of what MAML gains in its first "
        f"step in the same setting of the paper, "
        "or of what the method's own curve spans, if that is less."
    ).replace("%", " %")
    return numbered(lines, "Verdicts.", "tab-verdicts") + "\n" + margins + "\n"


def front_page() -> str:
    """Every experiment of the paper at a glance: MAML after the last step that the paper reports."""
    found = printed_table()
    own = found[found.method.str.startswith("MAML")]
    last = own.groupby(["setting", "method"], sort=False).step.transform("max")
    lines = []
    for _, line in own[own.step == last].iterrows():
        variant = line.method.removeprefix("MAML").replace(" first", ", first")
        lines.append(
            {
                "experiment": line.setting[0].upper() + line.setting[1:] + variant,
                "in the paper": f"{line.place}: {results.UNITS[line.metric]}",
                "paper": line.printed,
                "ours": number(line.ours, line.ours_ci95),
                "verdict": badge(line.verdict),
                "chapter": _chapter(line.setting),
            }
        )
    what = "MAML in every experiment of the paper, after the last step that the paper reports"
    return numbered(lines, f"{what}; ± is a 95 % interval over test tasks.", "tab-glance")


def _chapter(setting: str) -> str:
    """A link to the chapter about a setting, or nothing while the book has none."""
    word = next(word for start, word in CHAPTERS.items() if setting.startswith(start))
    contents = (places.repository() / "_toc.yml").read_text(encoding="utf-8")
    for path in sorted((places.repository() / "notebooks").glob("[0-9][0-9]-*.ipynb")):
        if word in path.stem.replace("-", "") and f"notebooks/{path.stem}\n" in contents + "\n":
            return f"[chapter {int(path.stem[:2])}](../notebooks/{path.name})"
    return ""


def tally() -> str:
    """How many published numbers have which verdict, group by group."""
    found = printed_table()
    word = found.verdict.str.partition(" (")[0].where(~found.quoted, "quoted")
    lines = []
    for name, (place, _, caption) in GROUPS.items():
        counts = word[group(found, name).index].value_counts()
        lines.append(
            {"part": f"{place}: {caption.partition(' (')[0]}"}
            | {w: str(counts.get(w, 0)) for w in [*OWN_VERDICTS, "quoted"]}
        )
    words = [
        w
        for w in [*OWN_VERDICTS, "quoted"]
        if w in ("reproduced", "consistent", "differs", "not run", "quoted") or (word == w).any()
    ]
    lines = [{"part": line["part"]} | {w: line[w] for w in words} for line in lines]
    return numbered(lines, "How many of the paper's numbers have which verdict.", "tab-tally", words)


def where_seeds_matter() -> str:
    """Which numbers vary more between training runs than over test tasks, and by how much."""
    found = printed_table()
    found = found[found.seed_ci95 > found.ours_ci95]
    if found.empty:
        return "So far no number with several seeds is less certain over them than over test tasks.\n"
    ci95 = np.hypot(found.ours_ci95, found.paper_ci95.fillna(0))
    by_tasks = list(map(verdict, found.difference, ci95, found.margin))
    found = found.assign(away=(found.difference / found.seed_sd).abs(), by_tasks=by_tasks)
    parts = []
    for (setting, method), part in found.groupby(["setting", "method"], sort=False):
        away = [
            f"{line.away:.1f} after {step_words(line.step)} ({line.by_tasks})" for line in part.itertuples()
        ]
        parts.append(f"- {setting}, {method}: {', '.join(away)}")
    return (
        "These numbers are less certain over training runs than over test tasks, and their verdict goes by "
        "the former. The paper's, of a single run, lies so many standard deviations over seeds from our mean "
        "(in brackets the verdict that test tasks alone would give):\n\n" + "\n".join(parts) + "\n"
    )
