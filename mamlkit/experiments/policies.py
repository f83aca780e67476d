"""The paper's reinforcement-learning experiments as data."""

__all__ = ["ENVIRONMENTS", "rows"]

import dataclasses
from typing import Any, NamedTuple

from mamlkit.experiments.rows import PolicyEvaluation, PolicyRow


class _Plotted(NamedTuple):
    """The runs in an environment: those that the paper plots (found in the authors' scripts, see
    book/deviations.md), or one's own.

    Args:
        title: what the paper calls the environment.
        figure: where the paper plots it; empty for an environment that it does not have.
        rollouts, iterations, alpha, max_kl: of MAML.
        tests: rollouts of a test.
        maml, pretrained, random: alpha of the three test steps of each.
        pretraining, oracle: iterations of each.
    """

    title: str
    figure: str
    rollouts: int
    iterations: int
    alpha: float
    max_kl: float
    tests: int
    maml: tuple[float, ...]
    pretrained: tuple[float, ...]
    random: tuple[float, ...]
    pretraining: int
    oracle: int


ENVIRONMENTS: dict[str, _Plotted] = {
    "2d-navigation": _Plotted(
        title="2D navigation",
        figure="Fig. 4",
        rollouts=20,
        iterations=100,
        alpha=0.5,
        max_kl=0.01,
        tests=40,
        maml=(0.5, 0.25, 0.25),
        pretrained=(0.5, 0.25, 0.25),
        random=(0.5, 0.25, 0.25),
        pretraining=100,
        oracle=100,
    ),
    "half-cheetah-velocity": _Plotted(
        title="HalfCheetah velocity",
        figure="Fig. 5",
        rollouts=10,
        iterations=500,
        alpha=0.1,
        max_kl=0.01,
        tests=20,
        maml=(0.1, 0.05, 0.05),
        pretrained=(0.02, 0.01, 0.01),
        random=(0.1, 0.05, 0.05),
        pretraining=475,
        oracle=975,
    ),
    "half-cheetah-direction": _Plotted(
        title="HalfCheetah direction",
        figure="Fig. 5",
        rollouts=20,
        iterations=500,
        alpha=0.1,
        max_kl=0.02,
        tests=20,
        maml=(0.1, 0.05, 0.05),
        pretrained=(0.2, 0.1, 0.1),
        random=(1.0, 0.5, 0.5),
        pretraining=500,
        oracle=1000,
    ),
    "ant-velocity": _Plotted(
        title="Ant velocity",
        figure="Fig. 5",
        rollouts=20,
        iterations=500,
        alpha=0.1,
        max_kl=0.01,
        tests=20,
        maml=(0.1, 0.05, 0.05),
        pretrained=(0.2, 0.1, 0.1),
        random=(1.0, 0.5, 0.5),
        pretraining=575,
        oracle=550,
    ),
    "ant-direction": _Plotted(
        title="Ant direction",
        figure="Fig. 5",
        rollouts=40,
        iterations=500,
        alpha=0.1,
        max_kl=0.01,
        tests=40,
        maml=(0.1, 0.001, 0.001),
        pretrained=(0.2, 0.1, 0.1),
        random=(1.0, 0.5, 0.5),
        pretraining=500,
        oracle=1975,
    ),
}


CONTEXT = {"2d-navigation": "Table 4", "half-cheetah-direction": "Table 5"}  # where it stands
CONTEXT_NUMBERS = 5  # of the sinusoid's in the authors' code; in these tasks nothing is known of it


def rows(environment: str) -> list[PolicyRow]:
    """The experiments in an environment.

    MAML, pretrained, oracle and random; and in the paper's environments MAML with likelihood ratios in the
    inner loss, in first order and with a baseline whose features are not clipped, which are ours, and with
    the paper's printed settings where they differ.

    The text prints up to 500 iterations, alpha 0.1, a bound of 0.01 and 20 rollouts (40 for the Ant's
    direction). MAML has these 500 iterations on the robots, whichever the authors' plotted snapshot is of.
    Where the last iteration of a baseline is not known, 500 stands for pretraining and 1,000 for the oracle.
    """
    plotted, plane = ENVIRONMENTS[environment], environment == "2d-navigation"
    figure = plotted.figure
    ours = {"place": f"not in the paper: beside {figure}" if figure else "not in the paper"}
    few = {"iterations": 20, "meta_batch_size": 10, "rollouts": 10}
    fewer = {"iterations": 8, "meta_batch_size": 6, "rollouts": 5}

    def test(lrs: tuple[float, ...], name: str = "40 goals") -> PolicyEvaluation:
        return PolicyEvaluation(name, plotted.tests, lrs, headline_step=min(1, len(lrs)))

    def named(word: str, what: str, **changes: Any) -> PolicyRow:
        title = f"{plotted.title}, {what}"
        return dataclasses.replace(maml, name=f"{environment}-{word}", title=title, **changes)

    printed = (0.1, 0.05, 0.05)  # alpha of the test steps in the text
    tests = [test(plotted.maml)]
    if environment == "ant-direction":
        tests.append(test(printed, "40 goals, steps as printed"))
    maml = PolicyRow(
        name=f"{environment}-maml",
        title=f"{plotted.title}, MAML",
        place=f"Section 5.3; {figure}" if figure else "not in the paper",
        environment=environment,
        method="maml",
        show_goal=False,
        inner_lr=plotted.alpha,
        meta_batch_size=20 if plane else 40,
        rollouts=plotted.rollouts,
        iterations=plotted.iterations,
        max_kl=plotted.max_kl,
        evaluations=tuple(tests),
        quick=few if plane else fewer,
    )
    # of what does not adapt in training
    alone: dict[str, Any] = {"inner_lr": 0.0, "quick": {"iterations": 20}}
    trpo = alone | {"method": "trpo", "meta_batch_size": 1, "rollouts": 10 if plane else 100, "max_kl": 0.01}
    pretraining = alone | {"method": "policy gradient"} if plane else trpo
    found = [
        maml,
        named(
            "pretrained",
            "pretrained on all tasks",
            **pretraining,
            iterations=plotted.pretraining,
            evaluations=(test(plotted.pretrained),),
        ),
        named("oracle", "oracle", **trpo, show_goal=True, iterations=plotted.oracle, evaluations=(test(()),)),
        named(
            "random",
            "random initialisation",
            method="trpo",
            inner_lr=0.0,
            iterations=0,
            activation="tanh" if plane else "relu",
            evaluations=(test(plotted.random),),
            quick={},
            **(ours if environment.endswith("velocity") else {}),  # it is drawn for the other tasks only
        ),
    ]
    if not figure:
        return found
    if environment in CONTEXT:
        place, words = f"Appendix, {CONTEXT[environment]}", "context vector"
        found.append(named("maml-context", words, place=place, context=CONTEXT_NUMBERS))
    found += [
        named("maml-ratios", "MAML with likelihood ratios", method="maml, ratios", **ours),
        named("maml-first-order", "first-order MAML", method="maml, first order", **ours),
    ]
    if not plane:  # there no observation comes near the bound
        found.append(named("maml-unclipped", "MAML with an unclipped baseline", baseline_clip=None, **ours))
    as_printed = named(
        "maml-as-printed",
        "MAML with the printed settings",
        place="Section 5.3, as the text has it",
        inner_lr=0.1,
        rollouts=40 if environment == "ant-direction" else 20,
        iterations=500,
        max_kl=0.01,
        evaluations=(test(printed),),
    )
    return found if as_printed.settings == maml.settings else [*found, as_printed]
