"""Tables and sentences of the prose pages, made from the results as MyST Markdown. No torch here.

A page shows what one of these functions returns with the directive ``{from-package} mamlkit.pages:NAME``.
"""

__all__ = [
    "appendix",
    "badge",
    "beyond_evaluations",
    "beyond_rows",
    "effect_of_more_tasks",
    "effect_of_phase",
    "effect_of_queries",
    "experiment_list",
    "figure_4",
    "figure_5",
    "front_page",
    "number",
    "omniglot",
    "mini_imagenet",
    "origins",
    "table_2",
    "tally",
    "verdicts",
]

import math
from collections.abc import Callable, Iterable

import pandas as pd

from mamlkit import results
from mamlkit.experiments import ROWS, Evaluation, Row
from mamlkit.notebook import markdown_table
from mamlkit.runs import STEPS_KEPT

OWN_VERDICTS = ["reproduced", "consistent", "differs", "partial", "stale", "not run"]
NUMBERS = ("step", "paper", "ours", "over seeds", "difference")  # columns that are set to the right
MSE_STEPS = (0, 1, 5, 10)  # what the sinusoid tables show of a curve; accuracies are shown at all kept steps

# The parts of the results page: place in the paper, start of the setting, caption, what the table leaves unsaid.
GROUPS = {
    "omniglot": ("Table 1", "Omniglot", "Table 1 of the paper, Omniglot: accuracy in %"),
    "mini_imagenet": ("Table 1", "Mini-ImageNet", "Table 1 of the paper, Mini-ImageNet: accuracy in %"),
    "table_2": ("Table 2", "", "Table 2 of the paper: mean squared error on sinusoids from 5 points"),
    "figure_4": ("Fig. 4", "", "Figure 4 of the paper, 2D navigation: return"),
    "figure_5": ("Fig. 5", "", "Figure 5 of the paper, locomotion: return"),
    "appendix": (("Table 3", "Table 4", "Table 5"), "", "Tables 3 to 5 of the paper's appendix, the context vector"),
}

# Setting of a published number -> a word in the name of its chapter.
CHAPTERS = {
    "sinusoid": "sinusoid",
    "Omniglot": "omniglot",
    "Mini-ImageNet": "miniimagenet",
    "2D navigation": "navigation",
    "HalfCheetah": "locomotion",
    "Ant": "locomotion",
}


def badge(verdict: str) -> str:
    """A verdict as a badge; what stands in brackets follows it.

    >>> badge("not run"), badge("partial (5,000 of 60,000)")
    ('[not run]{.verdict-not-run}', '[partial]{.verdict-partial} 5,000 of 60,000')
    """
    word, _, detail = verdict.rstrip(")").partition(" (")
    return f"[{word}]{{.verdict-{word.replace(' ', '-')}}} {detail}".rstrip()


def number(value: float, ci95: float = math.nan, signed: bool = False) -> str:
    """A number with its interval, which has two significant digits (at most five decimals).

    >>> number(0.35321, 0.01234), number(-40.4, 4.06), number(98.7), number(1.5, 0.25, signed=True)
    ('0.353 ± 0.012', '−40.4 ± 4.1', '98.70', '+1.50 ± 0.25')
    """
    if value is None or math.isnan(value):
        return ""
    decimals = _decimals(ci95)
    text = f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−")
    return text if math.isnan(ci95) else f"{text} ± {ci95:.{decimals}f}"


def _decimals(ci95: float) -> int:
    return 2 if math.isnan(ci95) or ci95 <= 0 else min(max(1 - math.floor(math.log10(ci95)), 1), 5)


def _numbered(lines: list[dict[str, str]], caption: str, name: str, right: Iterable[str] = NUMBERS) -> str:
    """A captioned table that pages can refer to; columns without any content are left out."""
    frame = pd.DataFrame(lines).replace("", None).dropna(axis="columns", how="all")
    return f"```{{table}} {caption}\n:name: {name}\n\n{markdown_table(frame, right)}\n```\n"


def _published() -> pd.DataFrame:
    """:func:`mamlkit.results.table` with every column, and the paper's numbers as the paper prints them."""
    found = results.table().reindex(columns=results.TABLE_COLUMNS)
    text = pd.read_csv(results.repository() / "data" / "published.csv", dtype=str, keep_default_na=False)
    printed = (text.value + (" ± " + text.ci95).where(text.ci95 != "", "")).str.replace("-", "−")
    return found.assign(printed=printed, row=text.row, quoted=text.note.str.startswith("quoted"))


def _group(found: pd.DataFrame, name: str) -> pd.DataFrame:
    places, setting, _ = GROUPS[name]
    return found[found.place.isin([places] if isinstance(places, str) else places) & found.setting.str.startswith(setting)]


def _paper_table(name: str) -> str:
    """The published numbers of a group beside ours."""
    _, prefix, caption = GROUPS[name]
    lines = []
    for _, line in _group(_published(), name).iterrows():
        ours = not pd.isna(line.ours)
        lines.append(
            {
                "setting": line.setting.removeprefix(prefix).strip(),
                "method": line.method,
                "step": "" if pd.isna(line.step) else str(line.step),
                "paper": line.printed,
                "ours": number(line.ours, line.ours_ci95),
                "over seeds": f"{line.seed_sd:.{_decimals(line.ours_ci95)}f}" if ours and line.seeds > 1 else "",
                "difference": number(line.difference, line.difference_ci95, signed=True),
                "verdict": line.note.replace("by the paper ", "") if line.quoted else badge(line.verdict),
                "origin": f"`{line.row}`" if ours else "",
            }
        )
    if len({line["setting"] for line in lines}) == 1:
        lines = [{k: v for k, v in line.items() if k != "setting"} for line in lines]
    return _numbered(lines, f"{caption}.", f"tab-results-{name.replace('_', '-')}")


def omniglot() -> str:
    """Table 1, Omniglot."""
    return _paper_table("omniglot")


def mini_imagenet() -> str:
    """Table 1, Mini-ImageNet."""
    return _paper_table("mini_imagenet")


def table_2() -> str:
    """Table 2, sinusoids."""
    return _paper_table("table_2")


def figure_4() -> str:
    """Figure 4, 2D navigation."""
    return _paper_table("figure_4")


def figure_5() -> str:
    """Figure 5, locomotion."""
    return _paper_table("figure_5")


def appendix() -> str:
    """Tables 3 to 5, the context vector."""
    return _paper_table("appendix")


def tally() -> str:
    """How many published numbers have which verdict, group by group."""
    found = _published()
    word = found.verdict.str.partition(" (")[0].where(~found.quoted, "quoted")
    lines = []
    for name, (_, _, caption) in GROUPS.items():
        counts = word[_group(found, name).index].value_counts()
        lines.append({"part": caption.partition(":")[0]} | {w: str(counts.get(w, 0)) for w in [*OWN_VERDICTS, "quoted"]})
    words = [w for w in [*OWN_VERDICTS, "quoted"] if w in ("reproduced", "consistent", "differs", "not run", "quoted") or (word == w).any()]
    lines = [{"part": line["part"]} | {w: line[w] for w in words} for line in lines]
    return _numbered(lines, "How many of the paper's numbers have which verdict.", "tab-tally", words)


def _chapter(setting: str) -> str:
    """A link to the chapter about a setting, or nothing while the book has none."""
    word = next(word for start, word in CHAPTERS.items() if setting.startswith(start))
    contents = (results.repository() / "_toc.yml").read_text(encoding="utf-8")
    for path in sorted((results.repository() / "notebooks").glob("[0-9][0-9]-*.ipynb")):
        if word in path.stem.replace("-", "") and f"notebooks/{path.stem}\n" in contents + "\n":
            return f"[chapter {int(path.stem[:2])}](../notebooks/{path.name})"
    return ""


def front_page() -> str:
    """Every experiment of the paper at a glance: its own method after the last step that the paper reports."""
    found = _published()
    own = found[found.method.str.startswith("MAML")]
    last = own.groupby(["setting", "method"], sort=False).step.transform("max")
    lines = []
    for _, line in own[own.step == last].iterrows():
        lines.append(
            {
                "experiment": line.setting[0].upper() + line.setting[1:] + line.method.removeprefix("MAML").replace(" first", ", first"),
                "in the paper": line.place,
                "number": results.UNITS[line.metric],
                "paper": line.printed,
                "ours": number(line.ours, line.ours_ci95),
                "verdict": badge(line.verdict),
                "chapter": _chapter(line.setting),
            }
        )
    caption = "MAML in every experiment of the paper, after the last step that the paper reports; ± is a 95 % interval over test tasks."
    return _numbered(lines, caption, "tab-glance")


def _state(name: str) -> str:
    """How far an experiment has come: a verdict's word, or ``complete``."""
    found = results.load(name)
    if not found:
        return "not run"
    if any(results.stale(result) for result in found):
        return "stale"
    done, total = min(result["iterations_done"] for result in found), found[-1]["settings"]["iterations"]
    return f"partial ({done:,} of {total:,})" if done < total else "complete"


def _metric(row: Row) -> str:
    return "mse" if row.loss == "mse" else "accuracy"


def _curves(wanted: Callable[[Row, Evaluation], bool], what: str, name: str) -> str:
    """Tables of our own curves, one per metric, of the evaluations that are wanted."""
    tables = []
    for metric, steps in (("mse", MSE_STEPS), ("accuracy", STEPS_KEPT)):
        lines = []
        for row, evaluation in ((row, e) for row in ROWS.values() if _metric(row) == metric for e in row.evaluations):
            if not wanted(row, evaluation):
                continue
            ours = {step: results.summary(row.name, evaluation.name, step, metric) for step in steps}
            line = {"experiment": f"{row.title} (`{row.name}`)", "test": evaluation.name}
            line |= {f"{step} steps": number(s.value, s.ci95) if s else "" for step, s in ours.items()}
            spread = ours.get(evaluation.headline_step)
            shown = spread and len(spread.seeds) > 1
            line["over seeds"] = f"{spread.seed_sd:.{_decimals(spread.ci95)}f}" if shown else ""
            lines.append(line | {"state": badge(_state(row.name))})
        if lines:
            right = ["over seeds", *(f"{step} steps" for step in steps)]
            caption = f"{what}: {results.UNITS[metric]}, after so many inner steps."
            tables.append(_numbered(lines, caption, f"tab-{name}-{metric}", right))
    return "\n".join(tables)


def beyond_rows() -> str:
    """Experiments that the paper has no number of."""
    published = set(results.published().row)
    return _curves(lambda row, e: row.name not in published, "Experiments beyond the paper", "beyond-rows")


def beyond_evaluations() -> str:
    """Tests beyond the paper of experiments that are in it."""
    paper = results.published()
    rows, pairs = set(paper.row), set(zip(paper.row, paper.evaluation))
    wanted = lambda row, e: row.name in rows and (row.name, e.name) not in pairs
    return _curves(wanted, "The paper's experiments in other tests", "beyond-evaluations")


def origins() -> str:
    """Where our numbers come from: runs with the same origin share a line."""
    folders = {path.parent.name for path in (results.repository() / "data" / "results").glob("*/seed*.json")}
    lines: dict[tuple, dict[str, list[str]]] = {}
    for name in [*(n for n in ROWS if n in folders), *sorted(folders - ROWS.keys())]:
        for result in results.load(name):
            parts = result["origin"]
            versions = [", ".join(f"{k} {v}" for k, v in part["versions"].items()) for part in parts]
            where = {
                "iterations": f"{result['iterations_done']:,}",
                "commit": _then(f"`{part['commit'][:7]}`" + ("+" if part["commit"].endswith("+changes") else "") for part in parts),
                "date": _then(part["date"] for part in parts),
                "device": _then(part["device"] for part in parts),
                "processor": _then(part["processor"] for part in parts),
                "versions": _then(versions),
            }
            line = lines.setdefault((name, *where.values()), where | {"seeds": [], "time": []})
            line["seeds"].append(str(result["seed"]))
            line["time"].append(results.duration(result["seconds"]))
    if not lines:
        return "No result has been committed yet.\n"
    order = ("seeds", "iterations", "commit", "date", "device", "processor", "time", "versions")
    shown = [
        {"experiment": f"`{key[0]}`"} | {k: ", ".join(line[k]) if isinstance(line[k], list) else line[k] for k in order}
        for key, line in lines.items()
    ]
    return _numbered(shown, "Origins of our numbers; one training time per seed.", "tab-origins", ["iterations"])


def _then(values: Iterable[str]) -> str:
    """What changed while a run went on from machine to machine, in order."""
    return ", then ".join(dict.fromkeys(values))


def experiment_list() -> str:
    """The experiments that the command line knows."""
    lines = [
        {"name": f"`{row.name}`", "what": row.title, "place": row.place, "iterations": f"{row.iterations:,}", "state": badge(_state(row.name))}
        for row in ROWS.values()
    ]
    return _numbered(lines, "Experiments by the name that the command line takes.", "tab-experiments", ["iterations"])


def verdicts() -> str:
    """What each verdict means, and the margins it is given by."""
    points, mse, returns = results.ACCURACY_MARGIN, results.MSE_MARGIN, results.RETURN_MARGIN
    meanings = {
        "reproduced": "the 95 % interval of the difference (ours less the paper's) lies inside the margin",
        "consistent": "it contains zero but reaches beyond the margin",
        "differs": "neither",
        "partial": "training has stopped after n of N iterations; ours and the difference are shown, but not judged",
        "not run": "there is no committed result",
        "stale": "there is one, but the settings of its experiment have changed since, so it is not judged",
    }
    lines = [{"verdict": badge(word), "meaning": meaning} for word, meaning in meanings.items()]
    margins = (
        f"The margin is the difference that would matter: {points:g} percentage point of accuracy, {mse:.0%} of a mean squared "
        f"error, and in reinforcement learning {returns:.0%} of what MAML gains in its first step in the same setting of the paper."
    ).replace("%", " %")
    return _numbered(lines, "Verdicts.", "tab-verdicts") + "\n" + margins + "\n"


def _ours(name: str, evaluation: str, step: int, metric: str) -> str | None:
    """A number of ours for a sentence, or None if it was not run."""
    ours = results.summary(name, evaluation, step, metric)
    if ours is None:
        return None
    state = _state(name)
    return number(ours.value, ours.ci95) + ("" if state == "complete" else f" [{badge(state)}]")


def _effect(parts: Iterable[str | None]) -> str:
    """The paragraph about what a deviation does to the numbers."""
    sentences = [part for part in parts if part]
    return "**Measured effect.** " + (" ".join(sentences) if sentences else "Effect not measured yet.") + "\n"


def effect_of_phase() -> str:
    """What the slides' range of phases does."""

    def sentence(method: str, step: int, words: str) -> str | None:
        narrow, wide = (_ours(f"sinusoid-{kind}{method}", "K=5", step, "mse") for kind in ("", "2pi-"))
        return f"{words}: {narrow} with phases in [0, π], {wide} in [0, 2π]." if narrow and wide else None

    return _effect(
        [
            sentence("pretrained", 0, "Mean squared error of the pretrained network before any step"),
            sentence("maml", 1, "MAML from 5 points after one step"),
            sentence("maml", 10, "MAML from 5 points after ten steps"),
        ]
    )


def effect_of_queries() -> str:
    """What more queries per class do to the accuracy of the same parameters."""
    sentences = []
    for row in ROWS.values():
        tests = {e.name: e for e in row.evaluations}
        if row.family != "omniglot" or not {"Q=K", "Q=15"} <= tests.keys():
            continue
        step = tests["Q=K"].headline_step
        few, many = (_ours(row.name, test, step, "accuracy") for test in ("Q=K", "Q=15"))
        if few and many:
            queries = tests["Q=K"].queries, tests["Q=15"].queries
            sentences.append(f"{row.title}: {few} % with {queries[0]} and {many} % with {queries[1]} queries per class.")
    return _effect(sentences)


def effect_of_more_tasks() -> str:
    """What 6,000 test tasks instead of 600 do to the interval."""
    ours = results.summary("sinusoid-maml", "K=5", 10, "mse")
    if ours is None:
        return _effect([])
    would_be = ours.ci95 * math.sqrt(ours.tasks / 600)
    text = f"For MAML from 5 points after ten steps the interval is ± {ours.ci95:.3f} with {ours.tasks:,} tasks, and would be ± {would_be:.3f} with 600."
    return _effect([text])
