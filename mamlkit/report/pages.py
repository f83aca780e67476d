"""Tables and sentences of the prose pages, made from the results as MyST Markdown. No torch here.

A page shows what one of these functions returns with the directive ``{from-package}
mamlkit.report.pages:NAME``.
"""

__all__ = [
    "appendix",
    "chapter_table",
    "figure_4",
    "figure_5",
    "group",
    "mini_imagenet",
    "omniglot",
    "printed_table",
    "side_by_side",
    "table_2",
    "table_2_intervals",
]

from collections.abc import Mapping

import pandas as pd

from mamlkit import places
from mamlkit.experiments.paper import HOURS
from mamlkit.report import beside, forest, results
from mamlkit.report.origins import anchor
from mamlkit.report.texts import badge, decimals, number, numbered, step_words

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

APART = {"locomotion"}  # settings have tables of their own, or these would be too wide


def printed_table(lines: pd.DataFrame | None = None) -> pd.DataFrame:
    """:func:`mamlkit.report.beside.table`, with the paper's numbers as it prints them."""
    lines = results.published() if lines is None else lines
    text = pd.read_csv(places.repository() / "data" / "published.csv", dtype=str, keep_default_na=False)
    text = text.loc[lines.index].reset_index(drop=True).assign(row=list(lines.row))
    printed = (text.value + (" ± " + text.ci95).where(text.ci95 != "", "")).str.replace("-", "−")
    quoted = text.note.str.startswith("quoted") & (text.row == "")  # of what is quoted we run some ourselves
    return beside.table(lines).assign(printed=printed, row=text.row, quoted=quoted)


def group(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """The lines of :func:`printed_table` that belong to one of GROUPS, their settings without its name."""
    place, start, _ = GROUPS[name]
    part = found[(found.place == place) & found.setting.str.startswith(start)]
    return part.assign(setting=part.setting.str.removeprefix(start).str.strip())


def _paper_tables(*names: str) -> str:
    """The published numbers of groups: with ours, without a result, without an experiment, and quoted."""
    found, tables = printed_table(), []
    for name in names:
        part, caption = group(found, name), GROUPS[name][-1]
        run = part.ours.notna()
        apart = name in APART
        for setting, of_setting in part[run].groupby("setting" if apart else "place", sort=False):
            own = f"{caption}, {setting}" if apart else caption
            label = f"{name}-{setting.lower().replace(' ', '-')}" if apart else name
            tables += [forest.plot(of_setting), _judged(of_setting, own, f"tab-results-{label}")]
        if (rest := part[~run & (part.row != "")]).size:
            missing = f"{caption}, without a result; python -m mamlkit run NAME brings one."
            tables.append(numbered(_to_run(rest), missing, f"tab-not-run-{name}"))
        if (rest := part[(part.row == "") & ~part.quoted]).size:
            without = f"{caption}, without an experiment of ours."
            tables.append(numbered(_crosswise(rest), without, f"tab-without-{name}"))
        if (quoted := part[part.quoted]).size:
            of_others = f"{caption}, quoted by the paper from other work."
            tables.append(numbered(_crosswise(quoted), of_others, f"tab-quoted-{name}"))
    return "\n".join(tables)


def _judged(part: pd.DataFrame, caption: str, label: str) -> str:
    """The table of numbers that we have, beside the paper's."""
    lines, basis = _beside(part), ""
    if len({line["interval over"] for line in lines}) == 1:
        basis = f"; the interval of ours is over {lines[0]['interval over']}"
        lines = _without_constant(lines, "interval over")
    return numbered(lines, f"{caption}{basis}.", label)


def _beside(part: pd.DataFrame, linked: bool = True) -> list[dict[str, str]]:
    """One line per number; the method leads to the origin of ours where the page has it."""
    lines = [
        _which(line)
        | {
            "method": f"[{line.method}](#{anchor(line.row)})" if linked else line.method,
            "paper": line.printed,
            "ours": number(line.ours, line.deciding_ci95),
            "interval over": _over(line),
            "median": number(line["median"], digits=decimals(line.ours_ci95)) if line.diverged else "",
            "diverged": f"{line.diverged:.0f} of {line.tasks:,.0f}" if line.diverged else "",
            "difference": number(line.difference, line.difference_ci95, signed=True),
        }
        | {way: number(line[way], line[f"{way}_ci95"], signed=True) for way in ("forward", "backward")}
        for _, line in part.iterrows()
    ]
    return _without_constant(lines, "setting")


def _over(line: pd.Series) -> str:
    """What the interval that decides is over: test tasks or seeds, and how many seeds there are."""
    if line.seeds == 1:
        return "tasks, 1 seed"
    return f"{'seeds' if line.deciding_ci95 > line.ours_ci95 else 'tasks'}, {line.seeds:.0f} seeds"


def _which(line: pd.Series) -> dict[str, str]:
    """The first columns: what the number is of, and what is said of it, so that a narrow screen shows it."""
    return {
        "setting": line.setting,
        "method": line.method,
        "steps": "" if pd.isna(line.step) else str(line.step),
        "verdict": "quoted" if line.quoted else badge(line.verdict),
    }


def _to_run(part: pd.DataFrame) -> list[dict[str, str]]:
    """One line per number that we have an experiment of, but no result: how to get it, and in what time."""
    lines = [
        _which(line)
        | {"paper": line.printed, "name": f"`{line.row}`", "takes about": HOURS.get(line.row, "")}
        for _, line in part.iterrows()
    ]
    return _without_constant(lines, "setting")


def _crosswise(part: pd.DataFrame) -> list[dict[str, str]]:
    """One line per method, for numbers that we run nothing for: across are the steps, or the settings."""
    by_step = part.groupby(["setting", "method"]).size().max() > 1
    across = [step_words(line.step) if by_step else line.setting for line in part.itertuples()]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for (_, line), column in zip(part.iterrows(), across):
        start = {"setting": line.setting if by_step else "", "method": line.method}
        source = line.note.removeprefix("quoted by the paper ")
        end = {"verdict": f"{'quoted' if line.quoted else badge(line.verdict)} {source}".strip()}
        entry = lines.setdefault(tuple(start.values()), start | dict.fromkeys(across, "") | end)
        entry[column] = line.printed
    return _without_constant(list(lines.values()), "setting")


def _without_constant(lines: list[dict[str, str]], column: str) -> list[dict[str, str]]:
    constant = len({line[column] for line in lines}) == 1
    return [{k: v for k, v in line.items() if k != column} for line in lines] if constant else lines


def side_by_side(
    place: str, last_step: int | None = None, variants: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The paper's numbers of one figure or table beside ours, for a chapter: a line each, all as text.

    Args:
        place: where the paper has them, e.g. ``"Fig. 5"``.
        last_step: leave out gradient steps after it.
        variants: experiments of ours that stand beside the paper's MAML as well, where they were run, and
            are not judged, since they are of other algorithms. A name of each, and what it adds to the name
            of the row.
    """
    paper = results.published()
    part = paper[
        (paper.place == place) & (paper.step <= (paper.step.max() if last_step is None else last_step))
    ]
    own, others = part[part.method == "MAML"], []
    for name, suffix in (variants or {}).items():
        other = own.assign(method=f"MAML, {name}", row=own.row + suffix, varied=True)
        others.append(other[[bool(results.load(row)) for row in other.row]])
    part = pd.concat([part, *others]).sort_index(kind="stable")  # each below the line that it varies
    return _for_a_chapter(printed_table(part))


def chapter_table(name: str) -> pd.DataFrame:
    """The paper's numbers of one of GROUPS beside ours, for a chapter: a line each, all as text."""
    part = group(printed_table(), name)
    return _for_a_chapter(part.sort_values("setting", kind="stable", key=lambda s: s.str.zfill(13)))


def _for_a_chapter(part: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame(_beside(part, linked=False))
    return frame.drop(columns=["interval over", "median", "diverged", "forward", "backward"])


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
    """What interval the paper's numbers of Table 2 are given, by the spread over tasks that we measure."""
    found = group(printed_table(), "sinusoids").dropna(subset="ours")
    ranges = found.paper_ci95.groupby(found.method, sort=False).agg(["min", "max"])
    parts = [f"± {low:.2f} to ± {high:.2f} for {method}" for method, low, high in ranges.itertuples()]
    if not parts:
        return "Our own spread over tasks was not measured.\n"
    return (
        "By the spread over tasks that we measure for one trained network, in the mean over our seeds, the "
        f"interval over 600 tasks is {', '.join(parts)}.\n"
    )


def figure_4() -> str:
    """Figure 4, 2D navigation."""
    return _paper_tables("navigation")


def figure_5() -> str:
    """Figure 5, locomotion."""
    return _paper_tables("locomotion")


def appendix() -> str:
    """Tables 3 to 5, the context vector."""
    return _paper_tables("context-omniglot", "context-navigation", "context-locomotion")
