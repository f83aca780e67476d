"""Tables and sentences of the prose pages, made from the results as MyST Markdown. No torch here.

A page shows what one of these functions returns with the directive ``{from-package} mamlkit.pages:NAME``.
"""

__all__ = [
    "appendix",
    "badge",
    "beyond_evaluations",
    "beyond_rows",
    "effect_of_curvature",
    "effect_of_divergence",
    "effect_of_more_tasks",
    "effect_of_phase",
    "effect_of_physics",
    "effect_of_queries",
    "experiment_list",
    "figure_4",
    "figure_5",
    "front_page",
    "number",
    "omniglot",
    "mini_imagenet",
    "origins",
    "side_by_side",
    "table_2",
    "table_2_intervals",
    "tally",
    "verdicts",
    "where_seeds_matter",
]

import math
from collections.abc import Callable, Iterable

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


def _numbered(lines: list[dict[str, str]], caption: str, name: str, right: Iterable[str] = NUMBERS) -> str:
    """A captioned table that pages can refer to; columns without any content are left out."""
    frame = pd.DataFrame(lines).replace("", None).dropna(axis="columns", how="all")
    right = {*right, *(c for c in frame if "-way" in c or c.endswith((" step", " steps")))}
    text = markdown_table(frame, right).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return f"```{{table}} {caption}\n:name: {name}\n\n{text}\n```\n"


def _published() -> pd.DataFrame:
    """:func:`mamlkit.results.table` with every column, and the paper's numbers as the paper prints them."""
    found = results.table()
    found = found.reindex(columns=list(dict.fromkeys([*found.columns, *OURS])))
    text = pd.read_csv(results.repository() / "data" / "published.csv", dtype=str, keep_default_na=False)
    printed = (text.value + (" ± " + text.ci95).where(text.ci95 != "", "")).str.replace("-", "−")
    return found.assign(printed=printed, row=text.row, quoted=text.note.str.startswith("quoted"))


def _group(found: pd.DataFrame, name: str) -> pd.DataFrame:
    place, start, _ = GROUPS[name]
    part = found[(found.place == place) & found.setting.str.startswith(start)]
    return part.assign(setting=part.setting.str.removeprefix(start).str.strip())


def _paper_tables(*names: str) -> str:
    """The published numbers of groups: those with ours beside them, those not run, those that the paper quotes."""
    found, tables = _published(), []
    for name in names:
        part, caption = _group(found, name), GROUPS[name][-1]
        run = part.ours.notna()
        if run.any():
            tables.append(_numbered(_beside(part[run]), f"{caption}.", f"tab-results-{name}"))
        if (rest := part[~run & ~part.quoted]).size:
            tables.append(_numbered(_crosswise(rest, badge("not run")), f"{caption}, not run.", f"tab-not-run-{name}"))
        if (quoted := part[part.quoted]).size:
            tables.append(_numbered(_crosswise(quoted, "quoted"), f"{caption}, quoted by the paper from other work.", f"tab-quoted-{name}"))
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


def side_by_side(place: str, last_step: int | None = None) -> pd.DataFrame:
    """The paper's numbers of one figure or table beside ours, for a chapter: one line per number, everything as text.

    Args:
        place: where the paper has them, e.g. ``"Fig. 5"``.
        last_step: leave out gradient steps after it.
    """
    found = _published()
    part = found[(found.place == place) & (found.step <= (found.step.max() if last_step is None else last_step))]
    return pd.DataFrame(_beside(part)).drop(columns=["over seeds", "diverged", "origin"])


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
    found = _group(_published(), "sinusoids").dropna(subset="ours")
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
    found = _published()
    word = found.verdict.str.partition(" (")[0].where(~found.quoted, "quoted")
    lines = []
    for name, (place, _, caption) in GROUPS.items():
        counts = word[_group(found, name).index].value_counts()
        lines.append({"part": f"{place}: {caption.partition(' (')[0]}"} | {w: str(counts.get(w, 0)) for w in [*OWN_VERDICTS, "quoted"]})
    words = [w for w in [*OWN_VERDICTS, "quoted"] if w in ("reproduced", "consistent", "differs", "not run", "quoted") or (word == w).any()]
    lines = [{"part": line["part"]} | {w: line[w] for w in words} for line in lines]
    return _numbered(lines, "How many of the paper's numbers have which verdict.", "tab-tally", words)


def where_seeds_matter() -> str:
    """Which numbers vary more between training runs than their interval over test tasks says, and by how much."""
    found = _published()
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
    found = _published()
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
            lines.append(line | {"state": badge(_state(row.name))})
        if lines:
            caption = f"{what}: {results.UNITS[metric]}, after so many inner steps."
            tables.append(_numbered(lines, caption, f"tab-{name}-{metric}"))
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
    return ours and number(ours.value, ours.ci95)


def _reservation(*names: str) -> str:
    """In brackets, what is not complete of the experiments that a sentence speaks of."""
    unfinished = {state: None for name in names if (state := _state(name)) != "complete"}
    return f" ({', '.join(map(badge, unfinished))})" if unfinished else ""


def _effect(parts: Iterable[str | None]) -> str:
    """The paragraph about what a deviation does to the numbers."""
    sentences = [part for part in parts if part]
    return (" ".join(["**Measured effect.**", *sentences]) if sentences else "Effect not measured yet.") + "\n"


def effect_of_phase() -> str:
    """What the slides' range of phases does."""

    def sentence(method: str, step: int, words: str) -> str | None:
        names = [f"sinusoid-{kind}{method}" for kind in ("", "2pi-")]
        narrow, wide = (_ours(name, "K=5", step, "mse") for name in names)
        return f"{words}{_reservation(*names)}: {narrow} with phases in [0, π], {wide} in [0, 2π]." if narrow and wide else None

    return _effect(
        [
            sentence("pretrained", 0, "Mean squared error of the pretrained network before any step"),
            sentence("maml", 1, "MAML from 5 points after one step"),
            sentence("maml", 10, "MAML from 5 points after ten steps"),
        ]
    )


def effect_of_physics() -> str:
    """Policies that no meta-training has touched, ours and the paper's: what oracles return and random ones gain in three steps."""
    found = _published()
    found = found[(found.metric == "return") & (found.place == "Fig. 5")]
    known = found[(found.method == "oracle") & found.ours.notna()]
    sentences = ["Oracles, trained by TRPO for a task that they are told, return:"] if len(known) else []
    for line in known.itertuples():
        sentences.append(f"{line.setting}: {number(line.ours, line.ours_ci95)}, in the paper {line.printed}.")
    random = ["A random policy, which no training has touched, gains in three gradient steps:"]
    for setting, curve in found[found.method == "random"].groupby("setting", sort=False):
        curve = curve.set_index("step")
        if curve.ours.notna().all():
            ours, paper = (f"{curve[whose][3] - curve[whose][0]:.1f}".replace("-", "−") for whose in ("ours", "paper"))
            random.append(f"{setting}: {ours}, in the paper {paper}.")
    return _effect(sentences + random if len(random) > 1 else sentences)


def effect_of_curvature() -> str:
    """What the curvature of the inner step does to meta-trained policies, where at least two kinds of it were run."""
    kinds = {"": "with log-densities", "-ratios": "with ratios", "-first-order": "in first order"}
    sentences = []
    for row in (row for row in ROWS.values() if f"{row.name}-ratios" in ROWS):
        parts = []
        for kind, words in kinds.items():
            if ours := results.summary(row.name + kind, "40 goals", 1, "return"):
                parts.append(f"{number(ours.value, ours.ci95)} {words} after {ours.done:,} iterations")
        if len(parts) > 1:
            sentences.append(f"{row.title.removesuffix(', MAML')}, return after one gradient step: {', '.join(parts)}.")
    return _effect(sentences)


def effect_of_queries() -> str:
    """What more queries per class do to the accuracy of the same parameters."""
    sentences = []
    for row in ROWS.values():
        tests = {e.name: e for e in row.evaluations}
        if not isinstance(row, Row) or row.family != "omniglot" or not {"Q=K", "Q=15"} <= tests.keys():
            continue
        step = tests["Q=K"].headline_step
        few, many = (_ours(row.name, test, step, "accuracy") for test in ("Q=K", "Q=15"))
        if few and many:
            queries = tests["Q=K"].queries, tests["Q=15"].queries
            shares = f"{few} % with {queries[0]} and {many} % with {queries[1]} queries per class"
            sentences.append(f"{row.title}{_reservation(row.name)}: {shares}.")
    return _effect(sentences)


def effect_of_divergence() -> str:
    """What the tasks on which gradient descent diverges would do to the means."""
    lines = []
    for row, result in ((row, result) for row in ROWS.values() for result in results.load(row.name)):
        for evaluation, step in ((e, s) for e in row.evaluations for s in MSE_STEPS):
            curve = result["evaluations"].get(evaluation.name, {}).get("mse")
            if curve and curve["diverged"][step]:
                of_all = curve["mean_of_all"][step]
                line = {"experiment": row.title, "test": evaluation.name, "seed": str(result["seed"]), "steps": str(step)}
                line |= {"diverged": f"{curve['diverged'][step]} of {curve['tasks']:,}", "mean without": f"{curve['mean'][step]:.3f}"}
                lines.append(line | {"mean with": "not finite" if of_all is None else f"{of_all:.3f}" if of_all < 100 else f"{of_all:.2g}"})
    if not lines:
        return _effect([])
    caption = "Mean squared error without and with the tasks that diverged, where any did."
    return _numbered(lines, caption, "tab-diverged", ["seed", "steps", "diverged", "mean without", "mean with"])


def effect_of_more_tasks() -> str:
    """What 6,000 test tasks instead of 600 do to the interval."""
    ours = results.summary("sinusoid-maml", "K=5", 10, "mse")
    if ours is None:
        return _effect([])
    would_be = ours.ci95 * math.sqrt(ours.tasks / 600)
    text = f"For MAML from 5 points after ten steps the interval is ± {ours.ci95:.3f} with {ours.tasks:,} tasks, and would be ± {would_be:.3f} with 600."
    return _effect([text])
