"""The rate of the outer update as training goes on."""

__all__ = ["LEAST", "outer_rate"]

import math

LEAST = 0.01  # of ``outer_lr``, to which the cosine falls


def outer_rate(outer: str, outer_lr: float, progress: float) -> float:
    """Beta after a part of the training.

    Args:
        outer: of a :class:`mamlkit.experiments.rows.Row`. ``"descent, falling"`` falls in equal parts to 0;
            ``"adam, cosine"`` along half a cosine to :data:`LEAST` of where it begins, as MAML++ has it
            (Loshchilov & Hutter 2017, without restarts; from 0.001 to 0.00001 in MAML++'s files for Omniglot,
            and constant in those for Mini-ImageNet); any other stays.
        outer_lr: at the beginning.
        progress: outer updates done over those of the whole training, from 0 to 1.

    >>> [round(outer_rate("adam, cosine", 1.0, part), 4) for part in (0, 1 / 3, 1 / 2, 1)]
    [1.0, 0.7525, 0.505, 0.01]
    """
    if outer == "descent, falling":
        return outer_lr * (1 - progress)
    if outer == "adam, cosine":
        least = LEAST * outer_lr
        return least + (outer_lr - least) * (1 + math.cos(math.pi * progress)) / 2
    return outer_lr
