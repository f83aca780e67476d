"""The methods of the grid, and single parts of MAML++ beside them: how each differs from MAML's row."""

__all__ = ["COMPARED", "PARTS", "Compared"]

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Compared:
    """A method of the grid.

    Args:
        slug: the end of its rows' names.
        words: what a reader sees.
        kind: of what its learning of a new task is made: ``"gradient steps"``, ``"distances"`` or
            ``"nothing learned"``.
        method: a key of ``mamlkit.methods.METHODS``.
        test_steps: gradient steps in tests; None for as many as MAML takes.
        changes: what its rows have otherwise than MAML's.
        head: initialiser of the network's last layer, if another than MAML's.
        but_for: columns that it is left out of.
        elsewhere: fields that are otherwise in a column, by its name.
    """

    slug: str
    words: str
    kind: str
    method: str
    test_steps: int | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    but_for: tuple[str, ...] = ()
    elsewhere: dict[str, dict[str, Any]] = field(default_factory=dict)


# of images of 84 x 84
_MINI = ("mini-imagenet-5way-1shot", "mini-imagenet-5way-5shot", "textures-5way-1shot")
# where MAML itself takes five steps in training
_FIVE_STEPS = ("omniglot-20way-1shot", *_MINI)
# Steps of MAML++, at the paper's rate for so many; on Mini-ImageNet that is MAML's own.
_MANY: dict[str, Any] = {"test_steps": 5, "changes": {"inner_steps": 5}}
# and MAML++'s outer rate
_FALLING: dict[str, Any] = {"test_steps": 5, "changes": {"inner_steps": 5, "outer": "adam, cosine"}}
# What most code has where the authors' sums the losses and draws the last layer from N(0, 1): chapter 8
# measures each of the two. The methods by distances have no last layer, so MAML is compared with and without.
_USUAL: dict[str, Any] = {"loss": "cross-entropy, mean"}
# Oh et al.'s code for photographs: one step of 0.5 on the mean loss, which is 0.1 on the sum of five classes.
# It has no Omniglot.
_BODY: dict[str, Any] = {"test_steps": 1, "changes": {"inner_steps": 1, "inner_lr": 0.1}}
# Rajeswaran et al.'s code for Omniglot
_IMPLICIT: dict[str, Any] = {"inner_steps": 16, "inner_lr": 0.1, "loss": "cross-entropy, mean"}
# Nichol et al.'s for Omniglot 5-way: they train on more shots than they test, and test with more steps.
# Its outer update is theirs, too: by all of theta' - theta at first.
_REPTILE: dict[str, Any] = {"inner_steps": 5, "inner_lr": 0.001, "shots": 10}
_REPTILE |= {"outer": "descent, falling", "outer_lr": 1.0}


def _gradient(slug: str, words: str, method: str, **more: Any) -> Compared:
    return Compared(slug, words, "gradient steps", method, **more)


def _metric(slug: str, words: str, method: str = "", **more: Any) -> Compared:
    return Compared(slug, words, "distances", method or words, test_steps=0, **more)


COMPARED: tuple[Compared, ...] = (
    _gradient("maml", "MAML", "maml"),
    _gradient("first-order", "MAML, first order", "first-order maml"),
    _gradient("maml-5-steps", "MAML, 5 steps", "maml", but_for=_FIVE_STEPS, **_MANY),
    _gradient("maml-usual", "MAML, usual head and loss", "maml", changes=_USUAL, head="xavier"),
    # On images of 84 x 84 the authors' last layer is the usual one: there the two are MAML and the row above.
    _gradient("maml-usual-head", "MAML, usual head", "maml", head="xavier", but_for=_MINI),
    _gradient("maml-usual-loss", "MAML, usual loss", "maml", changes=_USUAL, but_for=_MINI),
    _gradient(
        "maml-usual-5-steps",
        "MAML, 5 steps, usual head and loss",
        "maml",
        test_steps=5,
        changes=_USUAL | {"inner_steps": 5},
        head="xavier",
        but_for=_FIVE_STEPS,
    ),
    _gradient("learned-rates", "MAML, learned rates", "maml, learned rates", **_MANY),
    _gradient("multi-step", "MAML, loss of every step", "maml, multi-step loss", **_MANY),
    _gradient(
        "maml-plus-plus",
        "MAML, learned rates and loss of every step",
        "maml++ without its schedules",
        **_MANY,
    ),
    _gradient("maml-plus-plus-all", "MAML++, all", "maml++", **_FALLING),
    _gradient("meta-sgd", "Meta-SGD", "meta-sgd", test_steps=1, changes={"inner_steps": 1}),
    _gradient("head-only", "ANIL: head only", "head only"),
    _gradient("body-only", "BOIL: body only", "body only", elsewhere=dict.fromkeys(_MINI, _BODY)),
    _gradient("implicit", "implicit MAML", "implicit maml", test_steps=16, changes=_IMPLICIT, but_for=_MINI),
    # its code's last layer is drawn as most are
    _gradient(
        "reptile",
        "Reptile",
        "reptile, inner adam",
        test_steps=50,
        changes=_REPTILE,
        head="xavier",
        but_for=_FIVE_STEPS,
    ),
    # Its gates see gradients of the mean loss in their authors' code; of the sum they would be 5 or 20 times
    # as large.
    _gradient(
        "meta-lstm",
        "meta-learner LSTM",
        "meta-learner lstm",
        test_steps=12,
        changes=_USUAL | {"inner_steps": 12},
    ),
    _metric("prototypical", "prototypical networks"),
    _metric("matching", "matching networks"),
    _metric("matching-scaled", "matching networks, learned scale"),
    _metric("matching-euclid", "matching networks, squared Euclid"),
    # on the 800 features of Mini-ImageNet its three LSTMs have 18 million weights
    _metric("matching-full-context", "matching networks, full context", but_for=_MINI),
    _metric("siamese", "Siamese networks", "siamese"),
    Compared("random", "random initialisation", "nothing learned", "maml", changes={"iterations": 0}),
    Compared(
        "pixels",
        "nearest neighbour on pixels",
        "nothing learned",
        "nearest neighbour on pixels",
        test_steps=0,
        changes={"iterations": 0},
    ),
)

# Parts of MAML++ that have a table of their own, since the grid is long enough. Two more are methods of the
# grid: learned rates, and the loss of every step.
PARTS: tuple[Compared, ...] = (
    _gradient(
        "moving-loss", "loss moves to the last step", "maml, moving multi-step loss", but_for=_MINI, **_MANY
    ),
    _gradient("first-order-first", "first order first", "maml, first order first", but_for=_MINI, **_MANY),
    _gradient("cosine", "outer rate falls by a cosine", "maml", but_for=_MINI, **_FALLING),
    _gradient(
        "norms-of-steps",
        "normalisation of each step",
        "maml, normalisation of each step",
        but_for=_MINI,
        **_MANY,
    ),
)
