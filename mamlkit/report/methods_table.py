"""The methods of the package in one table: names, papers, chapters and experiments. No torch here."""

__all__ = ["ABOUT", "About", "methods", "pattern"]

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from mamlkit import places
from mamlkit.experiments.compare import COMPARED, is_compared
from mamlkit.experiments.paper import ROWS
from mamlkit.report.texts import numbered


class About(NamedTuple):
    """What is said of a method. One without it is in the table all the same, by its experiments.

    Args:
        paper: key of the bibliography, or empty for what has no paper of its own.
        family: the kind of method.
        chapters: numbers of the chapters that show it.
    """

    paper: str
    family: str
    chapters: tuple[int, ...]


GRADIENT, METRIC, MEMORY = "gradient steps", "distances", "memory"
LEARNED, NONE = "learned update", "no meta-learning"
ABOUT: dict[str, About] = {
    "maml": About("finn2017maml", GRADIENT, (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)),
    "first-order maml": About("finn2017maml", GRADIENT, (2, 4, 8, 9)),
    "maml, first order": About("finn2017maml", f"{GRADIENT}, policies", (5, 6)),
    "maml, ratios": About("", f"{GRADIENT}, policies", (5, 6)),
    "head only": About("raghu2020rapid", GRADIENT, (9,)),
    "body only": About("oh2021boil", GRADIENT, (9,)),
    "maml, multi-step loss": About("antoniou2019train", GRADIENT, (9,)),
    "maml++ without its schedules": About("antoniou2019train", GRADIENT, (9,)),
    "maml, moving multi-step loss": About("antoniou2019train", GRADIENT, (9,)),
    "maml, first order first": About("antoniou2019train", GRADIENT, (9,)),
    "maml, normalisation of each step": About("antoniou2019train", GRADIENT, (9,)),
    "maml++": About("antoniou2019train", GRADIENT, (9,)),
    "reptile, inner adam": About("nichol2018firstorder", GRADIENT, (9,)),
    "implicit maml": About("rajeswaran2019implicit", GRADIENT, (9,)),
    "maml, learned rates": About("antoniou2019train", LEARNED, (9,)),
    "meta-sgd": About("li2017metasgd", LEARNED, (9, 10)),
    "meta-learner lstm": About("ravi2017optimization", LEARNED, (9, 10)),
    "prototypical networks": About("snell2017prototypical", METRIC, (9,)),
    "matching networks": About("vinyals2016matching", METRIC, (9,)),
    "matching networks, learned scale": About("", METRIC, (9,)),
    "matching networks, squared Euclid": About("snell2017prototypical", METRIC, (9,)),
    "matching networks, full context": About("vinyals2016matching", METRIC, (9,)),
    "siamese": About("koch2015siamese", METRIC, (9,)),
    "sequence reader": About("santoro2016memory", MEMORY, (11,)),
    "pretraining": About("finn2017maml", NONE, (2,)),
    "pretrained classifier": About("finn2017maml", NONE, (4,)),
    "nearest neighbour on pixels": About("", NONE, (4, 9)),
    "trpo": About("schulman2015trust", f"{NONE}, policies", (5, 6)),
    "policy gradient": About("finn2017maml", f"{NONE}, policies", (5,)),
}


# What names of experiments begin with, but for those of chapter 9's grid: a pattern each.
_SUPERVISED = ("sinusoid", "omniglot", "glyphs", "mini-imagenet", "textures", "trap")
STARTS = (*_SUPERVISED, "2d", "half-cheetah", "ant", "candidate")


def pattern(names: Sequence[str]) -> str:
    """Names by what they begin and end with, as ``--only`` of the queue takes it.

    >>> pattern(["compare-omniglot-5way-1shot-siamese", "compare-omniglot-20way-1shot-siamese"])
    'compare-omniglot-*-1shot-siamese'
    >>> pattern(["2d-navigation-maml-ratios", "ant-velocity-maml-ratios"]), pattern(["sinusoid-maml"])
    ('*-maml-ratios', 'sinusoid-maml')
    >>> pattern(["sinusoid-meta-sgd", "sinusoid-frequency-meta-sgd"])
    'sinusoid-*meta-sgd'
    """
    words = [name.split("-") for name in names]
    begin = _same(words)
    if any(begin == other for other in words):
        return "-".join(begin) + ("*" if len(names) > 1 else "")
    end = _same([other[len(begin) :][::-1] for other in words])[::-1]
    if any(len(begin) + len(end) == len(other) for other in words):  # one has nothing between
        return "-".join([*begin, "*" + "-".join(end)])
    return "-".join([*begin, "*", *end])


def _same(words: Sequence[list[str]]) -> list[str]:
    """What all begin with."""
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*words))]


def methods() -> str:
    """Each method by its name in the package, with its paper, its kind, chapters and experiments."""
    files = {int(p.stem[:2]): p for p in (places.repository() / "notebooks").glob("[0-9][0-9]-*.ipynb")}
    lines = []
    spoken = {
        compared.method: compared.words for compared in reversed(COMPARED) if compared.test_steps is None
    }
    named = [str(getattr(row, "method", "")) for row in ROWS.values()]
    for method in dict.fromkeys([*ABOUT, *filter(None, named)]):
        about = ABOUT.get(method, About("", "", ()))  # one that is new to the book
        rows = [name for name, row in ROWS.items() if getattr(row, "method", "") == method]
        compared = [name for name in rows if is_compared(name)]
        others = [name for name in rows if not is_compared(name)]
        groups = [[name for name in others if name.startswith(start)] for start in STARTS]
        groups += [[name] for name in others if not name.startswith(STARTS)]  # each by its whole name
        shown = [pattern(group) for group in (*groups, compared) if group]
        lines.append(
            {
                "method": f"`{method}`",
                "chapter 9 says": spoken.get(method, ""),
                "paper": f"{{cite:t}}`{about.paper}`" if about.paper else "ours",
                "kind": about.family,
                "chapters": ", ".join(
                    f"[{k}](../notebooks/{files[k].name})" for k in about.chapters if k in files
                ),
                "experiments": ", ".join(f"`{name}`" for name in shown),
            }
        )
    caption = "The methods of the package, by the names that experiments give them."
    return numbered(lines, caption, "tab-methods", right=())
