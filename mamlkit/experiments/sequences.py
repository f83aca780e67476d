"""Learning within a sequence: the recurrent networks from which Table 1's MANN row comes."""

__all__ = ["is_reader", "rows"]

from typing import Any

from mamlkit.experiments.rows import Evaluation, Row

PREFIX = "omniglot-sequences-"
PIXELS, WAYS, DRAWINGS, UNITS = 28 * 28, 5, 10, 200


def rows() -> list[Row]:
    """Santoro et al. 2016: the network with a memory, and the LSTM beside it.

    Deviation: 320,000 sequences where they have 100,000 "episodes" of an unknown number of sequences; Adam,
    not RMSProp.
    """
    return [_row("mann", "memory-augmented network (MANN)"), _row("lstm", "LSTM")]


def is_reader(name: str) -> bool:
    """Whether a row is of a network that reads sequences; its parameters are many."""
    return name.startswith(PREFIX)


def _row(kind: str, title: str) -> Row:
    quick: dict[str, Any] = {
        "family": "glyphs, sequences",
        "network": (kind, {"inputs": PIXELS + 2, "units": 50, "outputs": 2}),
        "ways": 2,
        "shots": 5,
        "queries": 5,
        "iterations": 300,
        "evaluations": (_test(5),),
    }
    return Row(
        name=f"{PREFIX}{kind}",
        title=f"Omniglot, sequences of 50: {title}",
        place="Table 1, MANN: the 2nd and the 5th drawing of a class",
        family="omniglot, sequences",
        network=(kind, {"inputs": PIXELS + WAYS, "units": UNITS, "outputs": WAYS}),
        method="sequence reader",
        loss="cross-entropy, mean",
        inner_lr=0.0,
        inner_steps=0,
        ways=WAYS,
        shots=DRAWINGS,
        queries=DRAWINGS,
        meta_batch_size=16,
        iterations=20_000,
        evaluations=(_test(DRAWINGS),),
        quick=quick,
    )


def _test(drawings: int) -> Evaluation:
    """Of all instances; a step of its curve is one labelled drawing more of the same class."""
    return Evaluation(
        "by instance", drawings, drawings, inner_lr=0.0, inner_steps=drawings - 1, headline_step=1
    )
