"""A chain of states, at whose far end alone there is much to gain.

Source: Osband et al. 2016, "Deep exploration via bootstrapped DQN"; Plappert et al. 2018, Figure 4. There are
N states. An episode begins in the second one and has N + 9 steps, each to the left or to the right. Who goes
left in the first state gets 0.001, who goes right in the last one gets 1; both stay where they are. An
observation says of each state whether it is passed: N numbers, 1 up to the present state and then 0.

In a *mixed* chain one of the two actions, drawn for each state by itself, goes to the right there. So a
habit, such as to do the same everywhere, leads nowhere; without a reward nothing tells which action it is.
Source of the idea: DeepSea in Osband et al. 2020, "Behaviour suite for reinforcement learning".

Deviation: the sources speak of a reward "in" the two states. Here it is that of staying there, as in Osband
et al.'s drawing.
"""

__all__ = [
    "LEFT",
    "RIGHT",
    "START",
    "check",
    "is_optimal",
    "mixed",
    "move",
    "observations",
    "optimal_return",
    "steps",
]

import torch
from torch import Generator, Tensor

LEFT, RIGHT = 0, 1
START = 1  # states are counted from 0
SMALL, LARGE = 0.001, 1.0
MORE_STEPS = 9  # than there are states
SHORTEST = 3  # states; with two there is nothing to look for


def check(length: int) -> None:
    """``ValueError`` for a chain without a way to go."""
    if length < SHORTEST:
        raise ValueError(f"length={length}, but a chain has at least {SHORTEST} states")


def steps(length: int) -> int:
    """Steps of an episode."""
    check(length)
    return length + MORE_STEPS


def optimal_return(length: int) -> float:
    """The most that an episode can give: right at every step.

    It takes N - 2 steps to come to the last state; each of the other 11 pays 1.

    >>> optimal_return(20)
    11.0
    """
    return LARGE * (steps(length) - (length - 1 - START))


def mixed(length: int, generator: Generator) -> Tensor:
    """Which action goes right in each state of a mixed chain, one of two with equal chance, ``[states]``."""
    check(length)
    return torch.randint(2, (length,), generator=generator)


def move(states: Tensor, actions: Tensor, length: int, right: Tensor | int = RIGHT) -> tuple[Tensor, Tensor]:
    """One step: the states after it, and the rewards.

    Args:
        states: from 0 to ``length - 1``, int64 of any shape.
        actions: 0 or 1, of the same shape.
        length: of the chain.
        right: the action that goes right there, of the same shape or one for all; the other goes left.

    Example:
        >>> move(torch.tensor([0, 0, 4]), torch.tensor([LEFT, RIGHT, RIGHT]), 5)
        (tensor([0, 1, 4]), tensor([0.0010, 0.0000, 1.0000]))
    """
    goes_right = actions == right
    after = (states + 2 * goes_right - 1).clamp(0, length - 1)
    stayed = after == states
    return after, stayed * torch.where(goes_right, LARGE, SMALL)


def observations(length: int) -> Tensor:
    """What is seen in each state, ``[states, states]``: a line is an observation.

    >>> observations(3)
    tensor([[1., 0., 0.],
            [1., 1., 0.],
            [1., 1., 1.]])
    """
    check(length)
    return torch.ones(length, length).tril()


def is_optimal(actions: Tensor, right: Tensor | int = RIGHT) -> Tensor:
    """Whether an episode with a policy that knows no chance has the optimal return.

    It has if the policy goes right in the second and all later states: a step to the left is one step less in
    the last state. The first state is never seen then.

    Args:
        actions: of the policy in each state, ``[..., states]``.
        right: as for :func:`move`, of the same shape.

    Returns:
        bool ``[...]``.
    """
    return (actions == right)[..., START:].all(-1)
