"""The two-step task in the form of Wang et al. 2016, section 3.2.1, in which nothing switches within a trial.

A round begins in the first state, where one of two actions is chosen. The first leads to the second state
with probability 0.75 (its *common* transition), else to the third (*rare*); the other action the other way
round. One of these two states pays 1 with probability 0.9, the other with 0.1; which, is drawn for the trial.
What is done there changes nothing. So a round that paid speaks for the action that commonly leads to where it
was, and one that did not against it, whichever action was taken: who knows the model stays after a reward
that came by a common transition, and after a rare one without; who only repeats what was rewarded stays
after any reward.
"""

__all__ = [
    "COMMON",
    "PAYS",
    "STAYS",
    "TwoStep",
    "best_total",
    "by_model",
    "by_reward",
    "play",
    "sample",
    "stays",
]

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.rl.actions import Choices
from mamlkit.rl.bandit_values import shares_right
from mamlkit.rl.memory import After, Trials, done_by_hand

Array = NDArray[np.float64]
COMMON, PAYS = 0.75, 0.9  # probabilities of a common transition, and of a reward in the better state
TASKS = 6  # a purpose of random numbers
STAYS = tuple(f"{paid}, {way}" for paid in ("rewarded", "unrewarded") for way in ("common", "rare"))


def sample(seed: int, tasks: int, rounds: int) -> tuple[NDArray[np.int64], Array]:
    """Tasks and their luck.

    Args:
        seed: of both.
        tasks: so many.
        rounds: of each.

    Returns:
        Which of the two states is the better one, 0 or 1, ``[tasks]``; and uniform numbers that decide, at
        even steps, whether a transition is common and, at odd ones, whether there is a reward,
        ``[tasks, 2 * rounds]``.

    Raises:
        ValueError: there is no task or no round.
    """
    if tasks < 1 or rounds < 1:
        raise ValueError(f"tasks={tasks}, rounds={rounds}, but there must be at least one of each")
    draw = np.random.default_rng((seed, TASKS))
    return draw.integers(0, 2, tasks), draw.random((tasks, 2 * rounds))


def best_total(rounds: int) -> float:
    """What the best possible play earns in a trial on average: no play passes it.

    Every round gives the same hint, which is right with 0.9, whatever is done; so it is best to go where more
    hints point, which is right with :func:`mamlkit.rl.bandit_values.shares_right`.

    >>> best_total(1), round(best_total(2), 4)  # the first is a guess
    (0.5, 1.16)
    """
    pays = COMMON * PAYS + (1 - COMMON) * (1 - PAYS)
    right = shares_right(rounds, PAYS)
    return float((right * pays + (1 - right) * (1 - pays)).sum())


class TwoStep:
    """Such tasks for a policy with a memory: an episode is a round of two steps; the state is seen, one-hot.

    Args:
        better, luck: see :func:`sample`.
        device: of what the networks get.

    Raises:
        ValueError: the two do not agree.
    """

    actions, observation = Choices(2), 3

    def __init__(self, better: NDArray[np.int64], luck: Array, *, device: str | torch.device = "cpu") -> None:
        if luck.ndim != 2 or len(luck) != len(better) or luck.shape[1] % 2:
            raise ValueError(f"{len(better)} tasks, luck {list(luck.shape)}; it must be [tasks, 2 * rounds]")
        self._better = torch.as_tensor(better, device=device)
        self._luck = torch.as_tensor(luck, dtype=torch.float32, device=device)
        self.time = luck.shape[1]

    def begin(self) -> Tensor:
        self._now, self._state = 0, torch.zeros_like(self._better)
        return self._seen()

    def _seen(self) -> Tensor:
        return F.one_hot(self._state, 3).to(self._luck)

    def step(self, actions: Tensor) -> After:
        draw, second = self._luck[:, self._now], self._now % 2 == 1
        if second:
            chance = torch.where(self._state - 1 == self._better, PAYS, 1 - PAYS)
            reward, self._state = (draw < chance).to(draw), torch.zeros_like(self._state)
        else:
            reward, self._state = torch.zeros_like(draw), 1 + (actions ^ (draw >= COMMON))
        self._now += 1
        ended = torch.full_like(draw, second)
        return After(
            self._seen(), reward, ended, torch.full_like(draw, self._now == self.time, dtype=torch.bool)
        )

    def measured(self, trials: Trials) -> dict[str, Array]:
        """``"return"``: the rewards of the trial, ``[tasks, 1]``."""
        return {"return": trials.rewards.double().sum(1, keepdim=True).cpu().numpy()}


Way = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The next action, from actions, states reached (0, 1) and rewards so far, ``[tasks, rounds]`` each."""


def by_model(chosen: Tensor, reached: Tensor, paid: Tensor) -> Tensor:
    """The best play: towards the state to which more rounds point; if as many do to each, as before."""
    hints = torch.where((reached == 1) == (paid > 0), 1, -1).sum(1)
    return torch.where(hints == 0, _last(chosen), (hints > 0).long())


def by_reward(chosen: Tensor, reached: Tensor, paid: Tensor) -> Tensor:
    """As before if that was rewarded, else the other action, whatever the transition was."""
    return torch.where(_last(paid) > 0, _last(chosen), 1 - _last(chosen))


def _last(values: Tensor) -> Tensor:
    return values[:, -1] if values.shape[1] else values.new_zeros(len(values))


def play(way: Way, some: TwoStep) -> Trials:
    """Play a trial of each task.

    Args:
        way: see :func:`by_model`, :func:`by_reward`.
        some: the tasks.

    Returns:
        The trials; their log-probabilities are zero.
    """
    seen, found = some.begin(), []
    past: list[list[Tensor]] = [[], [], []]  # actions, states and rewards of the rounds
    for time in range(some.time):
        if time % 2 == 0:
            none = torch.zeros(len(seen), 0, dtype=torch.long)
            action = way(*(torch.stack(part, 1) if part else none for part in past))
        after = some.step(action)
        if time % 2:
            for part, value in zip(past, (action, seen.argmax(-1) - 1, after.rewards), strict=True):
                part.append(value)
        found.append((seen, action, after))
        seen = after.observations
    return done_by_hand(found)


def stays(trials: Trials) -> dict[str, tuple[int, int]]:
    """How often the first action is that of the round before, by what that round brought.

    Args:
        trials: of :class:`TwoStep`.

    Returns:
        Each of :data:`STAYS` to the number of times stayed, and of all, over all rounds but the first.
    """
    chosen = trials.actions[:, ::2]
    state = trials.observations[:, 1::2].argmax(-1)
    rare, paid = (state - 1) != chosen, trials.rewards[:, 1::2] > 0
    stayed, found = chosen[:, 1:] == chosen[:, :-1], {}
    for name in STAYS:
        what, way = name.split(", ")
        of_kind = ((paid == (what == "rewarded")) & (rare == (way == "rare")))[:, :-1]
        found[name] = int((stayed & of_kind).sum()), int(of_kind.sum())
    return found
