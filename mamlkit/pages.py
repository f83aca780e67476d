"""Tables and sentences of the prose pages, made from the results as MyST Markdown. No torch here.

A page shows what one of these functions returns with the directive ``{from-package} mamlkit.pages:NAME``.
"""

__all__ = [
    "appendix",
    "badge",
    "beyond_evaluations",
    "beyond_rows",
    "experiment_list",
    "figure_4",
    "figure_5",
    "front_page",
    "number",
    "numbered",
    "omniglot",
    "mini_imagenet",
    "origins",
    "printed_table",
    "side_by_side",
    "state_of",
    "table_2",
    "table_2_intervals",
    "tally",
    "verdicts",
    "where_seeds_matter",
]

import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from mamlkit import results
from mamlkit.experiments import ROWS
from mamlkit.notebook import markdown_table
from mamlkit.rows import Evaluation, PolicyEvaluation, PolicyRow, Row
from mamlkit.runs import STEPS_KEPT

OWN_VERDICTS = ["reproduced", "consistent", "differs", "partial", "stale", "not run"]
OURS = ("ours", "ours_ci95", "seed_sd", "seed_ci95", "seeds", "difference", "difference_ci95", "diverged", "tasks")  # absent while nothing was run
NUMBERS = ("steps", "paper", "ours", "over seeds", "difference", "diverged")  # columns that are set to the right
MSE_STEPS = (0, 1, 5, 10)  # what the sinusoid tables show of a curve; accuracies are shown at all kept steps
RETURN_STEPS = (0, 1, 2, 3)

# The parts of the results page: place in the paper, start of the setting, caption.
GROUPS = {
    "omniglot": ("Table 1", "Omniglot", "Omniglot (Table 1 of the paper): accuracy in %"),
    "mini-imagenet": ("Table 1", "Mini-ImageNet", "Mini-ImageNet (Table 1 of the paper): accuracy in %"),
    "sinusoids": ("Table 2", "", "Sinusoids from 5 points (Table 2 of the paper): mean squared error"),
    "navigation": ("Fig. 4", "", "2D navigation (Figure 4 of the paper): return"),
    "locomotion": ("Fig. 5", "", "Locomotion (Figure 5 of the paper): return"),
    "context-omniglot": ("Table 3", "", "Context vector on Omniglot (Table 3 of the paper): accuracy in %"),
    "context-navigation": ("Table 4", "", "Context vector in 2D navigation (Table 4 of the paper): return"),
    "context-locomotion": ("Table 5", "", "Context vector in locomotion (Table 5 of the paper): return"),
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
    """A number with its interval, which has one significant digit (two after a 1 or a 2) and at least one decimal.

    >>> number(0.35321, 0.01234), number(-40.4, 4.06), number(98.7), number(1.5, 0.25, signed=True)
    ('0.353 ± 0.012', '−40.4 ± 4.1', '98.70', '+1.50 ± 0.25')
    """
    if math.isnan(value):
        return ""
    decimals = _decimals(ci95)
    text = f"{value:{'+' if signed else ''}.{decimals}f}".replace("-", "−")
    return text if math.isnan(ci95) else f"{text} ± {ci95:.{decimals}f}"


def _decimals(ci95: float) -> int:
    """Decimals that suit an interval: between 1 and 5; 2 where there is none."""
    if math.isnan(ci95) or ci95 <= 0:
        return 2
    place = math.floor(math.log10(ci95))
    return min(max((1 if ci95 < 3 * 10**place else 0) - place, 1), 5)


def numbered(lines: list[dict[str, str]], caption: str, name: str, right: Iterable[str] = NUMBERS) -> str:
    """A captioned table that pages can refer to.

    Args:
        lines: column to cell, line by line; columns without any content are left out.
        caption: of the table.
        name: its label.
        right: columns of numbers, set to the right; those of steps and ways always are.
    """
    frame = pd.DataFrame(lines).replace("", None).dropna(axis="columns", how="all")
    right = {*right, *(c for c in frame if "-way" in c or c.endswith((" step", " steps")))}
    text = markdown_table(frame, right).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return f"```{{table}} {caption}\n:name: {name}\n\n{text}\n```\n"


def printed_table(lines: pd.DataFrame | None = None) -> pd.DataFrame:
    """:func:`mamlkit.results.table` of the same lines with every column, and the paper's numbers as the paper prints them."""
    lines = results.published() if lines is None else lines
    found = results.table(lines)
    found = found.reindex(columns=list(dict.fromkeys([*found.columns, *OURS])))
    text = pd.read_csv(results.repository() / "data" / "published.csv", dtype=str, keep_default_na=False)
    text = text.loc[lines.index].reset_index(drop=True).assign(row=list(lines.row))
    printed = (text.value + (" ± " + text.ci95).where(text.ci95 != "", "")).str.replace("-", "−")
    return found.assign(printed=printed, row=text.row, quoted=text.note.str.startswith("quoted"))


def _group(found: pd.DataFrame, name: str) -> pd.DataFrame:
    place, start, _ = GROUPS[name]
    part = found[(found.place == place) & found.setting.str.startswith(start)]
    return part.assign(setting=part.setting.str.removeprefix(start).str.strip())


def _paper_tables(*names: str) -> str:
    """The published numbers of groups: those with ours beside them, those not run, those that the paper quotes."""
    found, tables = printed_table(), []
    for name in names:
        part, caption = _group(found, name), GROUPS[name][-1]
        run = part.ours.notna()
        if run.any():
            tables.append(numbered(_beside(part[run]), f"{caption}.", f"tab-results-{name}"))
        if (rest := part[~run & ~part.quoted]).size:
            tables.append(numbered(_crosswise(rest, badge("not run")), f"{caption}, not run.", f"tab-not-run-{name}"))
        if (quoted := part[part.quoted]).size:
            tables.append(numbered(_crosswise(quoted, "quoted"), f"{caption}, quoted by the paper from other work.", f"tab-quoted-{name}"))
    return "\n".join(tables)


def _beside(part: pd.DataFrame) -> list[dict[str, str]]:
    """One line per number."""
    lines = [
        {
            "setting": line.setting,
            "method": line.method,
            "steps": str(line.step),
            "paper": line.printed,
            "ours": number(line.ours, line.ours_ci95),
            "difference": number(line.difference, line.difference_ci95, signed=True),
            "verdict": badge(line.verdict),
            "over seeds": f"{line.seed_sd:.{_decimals(line.ours_ci95)}f}" if line.seeds > 1 else "",
            "diverged": f"{line.diverged:.0f} of {line.tasks:,.0f}" if line.diverged else "",
            "origin": f"`{line.row}`",
        }
        for _, line in part.iterrows()
    ]
    return _without_constant(lines, "setting")


def _crosswise(part: pd.DataFrame, verdict: str) -> list[dict[str, str]]:
    """One line per method, for numbers without any of ours: across are the steps, or else the settings."""
    by_step = part.groupby(["setting", "method"]).size().max() > 1
    across = [_steps(line.step) if by_step else line.setting for line in part.itertuples()]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for (_, line), column in zip(part.iterrows(), across):
        start = {"setting": line.setting if by_step else "", "method": line.method}
        source = line.note.removeprefix("quoted by the paper ")
        end = {"verdict": f"{verdict} {source}".strip()}
        entry = lines.setdefault(tuple(start.values()), start | dict.fromkeys(across, "") | end)
        entry[column] = line.printed
    return _without_constant(list(lines.values()), "setting")


def _without_constant(lines: list[dict[str, str]], column: str) -> list[dict[str, str]]:
    constant = len({line[column] for line in lines}) == 1
    return [{k: v for k, v in line.items() if k != column} for line in lines] if constant else lines


def side_by_side(place: str, last_step: int | None = None, variants: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The paper's numbers of one figure or table beside ours, for a chapter: one line per number, everything as text.

    Args:
        place: where the paper has them, e.g. ``"Fig. 5"``.
        last_step: leave out gradient steps after it.
        variants: experiments of ours that are compared with the paper's MAML as well, where they were run: a name
            of each, and what it adds to the name of the row.
    """
    paper = results.published()
    part = paper[(paper.place == place) & (paper.step <= (paper.step.max() if last_step is None else last_step))]
    own, others = part[part.method == "MAML"], []
    for name, suffix in (variants or {}).items():
        other = own.assign(method=f"MAML, {name}", row=own.row + suffix)
        others.append(other[[bool(results.load(row)) for row in other.row]])
    part = pd.concat([part, *others]).sort_index(kind="stable")  # each below the line that it varies
    return pd.DataFrame(_beside(printed_table(part))).drop(columns=["over seeds", "diverged", "origin"])


def omniglot() -> str:
    """Table 1, Omniglot."""
    return _paper_tables("omniglot")


def mini_imagenet() -> str:
    """Table 1, Mini-ImageNet."""
    return _paper_tables("mini-imagenet")


def table_2() -> str:
    """Table 2, sinusoids."""
    return _paper_tables("sinusoids")


def table_2_intervals() -> str:
    """What interval the paper's numbers of Table 2 would have, by the spread over tasks that we measure."""
    found = _group(printed_table(), "sinusoids").dropna(subset="ours")
    would_be = found.ours_ci95 * (found.tasks / found.seeds / 600) ** 0.5
    ranges = would_be.groupby(found.method, sort=False).agg(["min", "max"])
    parts = [f"± {low:.2f} to ± {high:.2f} for {method}" for method, low, high in ranges.itertuples()]
    if not parts:
        return "Our own spread over tasks is not measured yet.\n"
    return "By the spread over tasks that we measure, an interval over 600 tasks would be about " + " and ".join(parts) + ".\n"


def figure_4() -> str:
    """Figure 4, 2D navigation."""
    return _paper_tables("navigation")


def figure_5() -> str:
    """Figure 5, locomotion."""
    return _paper_tables("locomotion")


def appendix() -> str:
    """Tables 3 to 5, the context vector."""
    return _paper_tables("context-omniglot", "context-navigation", "context-locomotion")


def tally() -> str:
    """How many published numbers have which verdict, group by group."""
    found = printed_table()
    word = found.verdict.str.partition(" (")[0].where(~found.quoted, "quoted")
    lines = []
    for name, (place, _, caption) in GROUPS.items():
        counts = word[_group(found, name).index].value_counts()
        lines.append({"part": f"{place}: {caption.partition(' (')[0]}"} | {w: str(counts.get(w, 0)) for w in [*OWN_VERDICTS, "quoted"]})
    words = [w for w in [*OWN_VERDICTS, "quoted"] if w in ("reproduced", "consistent", "differs", "not run", "quoted") or (word == w).any()]
    lines = [{"part": line["part"]} | {w: line[w] for w in words} for line in lines]
    return numbered(lines, "How many of the paper's numbers have which verdict.", "tab-tally", words)


def where_seeds_matter() -> str:
    """Which numbers vary more between training runs than their interval over test tasks says, and by how much."""
    found = printed_table()
    found = found[found.seed_ci95 > found.ours_ci95]
    if found.empty:
        return "So far no number with several seeds is less certain over them than over test tasks.\n"
    found = found.assign(away=(found.difference / found.seed_sd).abs())
    parts = []
    for (setting, method), part in found.groupby(["setting", "method"], sort=False):
        away = ", ".join(f"{line.away:.1f} after {_steps(line.step)}" for line in part.itertuples())
        parts.append(f"- {setting}, {method}: {away}")
    return (
        "These numbers are less certain over training runs than over test tasks, and their verdict goes by the former. The paper's, of a "
        "single run, lies so many standard deviations over seeds from our mean:\n\n" + "\n".join(parts) + "\n"
    )


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
    found = printed_table()
    own = found[found.method.str.startswith("MAML")]
    last = own.groupby(["setting", "method"], sort=False).step.transform("max")
    lines = []
    for _, line in own[own.step == last].iterrows():
        lines.append(
            {
                "experiment": line.setting[0].upper() + line.setting[1:] + line.method.removeprefix("MAML").replace(" first", ", first"),
                "in the paper": f"{line.place}: {results.UNITS[line.metric]}",
                "paper": line.printed,
                "ours": number(line.ours, line.ours_ci95),
                "verdict": badge(line.verdict),
                "chapter": _chapter(line.setting),
            }
        )
    caption = "MAML in every experiment of the paper, after the last step that the paper reports; ± is a 95 % interval over test tasks."
    return numbered(lines, caption, "tab-glance")


def state_of(name: str) -> str:
    """How far the experiment of this name has come: a verdict's word, perhaps with iterations, or ``complete``."""
    found = results.load(name)
    if not found:
        return "not run"
    if any(results.stale(result) for result in found):
        return "stale"
    done, total = min(result["iterations_done"] for result in found), found[-1]["settings"]["iterations"]
    return f"partial ({done:,} of {total:,})" if done < total else "complete"


def _steps(step: int) -> str:
    return f"{step} step" + ("" if step == 1 else "s")


def _curves(wanted: Callable[[Row | PolicyRow, Evaluation | PolicyEvaluation], bool], what: str, name: str) -> str:
    """Tables of our own curves, one per metric, of the evaluations that are wanted."""
    tables = []
    for metric, steps in (("mse", MSE_STEPS), ("accuracy", STEPS_KEPT), ("return", RETURN_STEPS)):
        lines = []
        for row, evaluation in ((row, e) for row in ROWS.values() if row.metric == metric for e in row.evaluations):
            if not wanted(row, evaluation):
                continue
            ours = {step: results.summary(row.name, evaluation.name, step, metric) for step in steps}
            line = {"experiment": row.title, "test": evaluation.name}
            line |= {_steps(step): number(s.value, s.ci95) if s else "" for step, s in ours.items()}
            spread = ours.get(evaluation.headline_step)
            shown = spread and len(spread.seeds) > 1
            line["over seeds"] = f"{spread.seed_sd:.{_decimals(spread.ci95)}f}" if shown else ""
            line["diverged"] = f"{spread.diverged} of {spread.tasks * len(spread.seeds):,}" if spread and spread.diverged else ""
            lines.append(line | {"state": badge(state_of(row.name))})
        if lines:
            caption = f"{what}: {results.UNITS[metric]}, after so many inner steps."
            tables.append(numbered(lines, caption, f"tab-{name}-{metric}"))
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
    return numbered(shown, "Origins of our numbers; one training time per seed.", "tab-origins", ["iterations"])


def _then(values: Iterable[str]) -> str:
    """What changed while a run went on from machine to machine, in order."""
    return ", then ".join(dict.fromkeys(values))


def experiment_list() -> str:
    """The experiments that the command line knows."""
    lines = [
        {"name": f"`{row.name}`", "what": row.title, "place": row.place, "iterations": f"{row.iterations:,}", "state": badge(state_of(row.name))}
        for row in ROWS.values()
    ]
    return numbered(lines, "Experiments by the name that the command line takes.", "tab-experiments", ["iterations"])


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
    return numbered(lines, "Verdicts.", "tab-verdicts") + "\n" + margins + "\n"
