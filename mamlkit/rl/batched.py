"""What all batched environments share: seeds, horizons, and which environments take part in a step."""

__all__ = ["Batched"]

import copy
import threading
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy import ndarray
from numpy.random import Generator

from mamlkit.rl.goals import Goals
from mamlkit.rl.guards import alone, check_found, undefined


class Batched(VectorEnv[ndarray, ndarray, ndarray]):
    """``num_envs`` environments of one family, each with its own goal, advanced together.

    Nothing is reset automatically. An environment whose episode is over (terminated or truncated) takes no
    part in further steps until it is reset: its observation and both flags stay, its reward is 0, its action
    is not looked at. So what a caller has no use for costs nothing and disturbs nobody.

    A copy, or what a pickle gives back, is a batch of its own that goes on from the same states.

    A family gives ``_start`` and ``_advance``, which see only the environments that take part; ``frame``, the
    picture; the number ``fps``; and an ``__init__`` with ``task`` and ``goals`` and, by name, ``horizon``
    (which needs a default), ``show_goal`` and ``threads``. Threads and graphics, which a copy does not share,
    are made in ``_open`` and named in ``_of_process``.

    One thread at a time may be in ``frame``, as in what is public here. Another public method of a family
    that reads or changes the states needs :func:`mamlkit.rl.guards.alone`.

    Args:
        task: the set of goals.
        goals: one goal per environment, ``[num_envs, *task.shape]``.
        horizon: steps after which an episode is truncated.
        show_goal: append the goal, raw, to every observation (the oracle).
        observation: size of the observation without the goal.
        action: size of the action.
        bound: no observation exceeds it in magnitude.

    Raises:
        ValueError: for goals of another shape or outside the set, and a horizon below 1.
        RuntimeError: two threads use one batch at the same time.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012  (as Gymnasium has it)
    _of_process: ClassVar[tuple[str, ...]] = ("_lock",)  # what a copy does not take along; ``_open`` makes it

    task: Goals
    horizon: int
    fps: int  # pictures in a second of simulated time
    single_observation_space: Box
    single_action_space: Box

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "frame" in vars(cls):
            cls.frame = alone(cls.frame)  # type: ignore[method-assign]

    def __init__(
        self,
        task: Goals,
        goals: ndarray,
        *,
        horizon: int,
        show_goal: bool,
        observation: int,
        action: int,
        bound: float,
    ) -> None:
        if not isinstance(horizon, Integral) or horizon < 1:
            raise ValueError(f"horizon={horizon}, but an episode has a whole number of steps, at least 1")
        self.task = task
        self.horizon = horizon
        self.num_envs = n = len(np.atleast_1d(goals))
        self._own: int = observation
        size = observation + (int(np.prod(task.shape)) if show_goal else 0)
        self.single_observation_space = Box(-bound, bound, (size,), np.float64)
        self.single_action_space = Box(-1.0, 1.0, (action,), np.float64)
        self.observation_space = batch_space(self.single_observation_space, n)
        self.action_space = batch_space(self.single_action_space, n)
        self._observations: ndarray = np.zeros((n, size))
        self._elapsed: ndarray = np.zeros(n, np.int64)
        self._terminated: ndarray = np.zeros(n, bool)
        self._truncated: ndarray = np.ones(n, bool)  # nothing steps before its first reset
        self._begun: bool = False
        self._rngs: list[Generator | None] = [None] * n
        self._open()
        self.set_goals(goals)

    def _open(self) -> None:
        """What belongs to this object in this process alone."""
        self._lock = threading.RLock()
        self.closed = False

    def __copy__(self) -> "Batched":
        return copy.deepcopy(self)  # two batches do not share arrays

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self._of_process}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def goals(self) -> ndarray:
        """A copy of the goals, ``[num_envs, *task.shape]``."""
        return self._goals.copy()

    @alone
    def set_goals(self, goals: ndarray) -> None:
        """Give every environment a new goal, ``[num_envs, *task.shape]``, from the next step on."""
        goals = np.array(goals, np.float64)
        if goals.shape != (shape := (max(1, self.num_envs), *self.task.shape)):
            came, wanted = list(goals.shape), list(shape)
            raise ValueError(f"goals have shape {came}, but they must be {wanted}: give each environment one")
        if not (fine := self.task.contains(goals)).all():
            i = int(np.argmin(fine))
            raise ValueError(f"goal {goals[i].tolist()} of environment {i} is not allowed; use {self.task}")
        self._goals = goals
        shown = self._observations.shape[1] - self._own  # numbers of a goal, or none
        self._observations[:, self._own :] = goals.reshape(self.num_envs, -1)[:, :shown]

    @alone
    def reset(
        self, *, seed: int | Sequence[Any] | ndarray | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ndarray, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: one per environment, each an integer or a sequence of integers; the start states of an
                environment depend on its own seed alone. An integer s stands for s, s + 1, ...; None goes on
                with the random numbers of the seed before, if there was one.
            options: ``{"reset_mask": mask}`` with a boolean ``[num_envs]`` resets only where it is True.

        Returns:
            observations ``[num_envs, obs]`` of all environments, and an empty dict.

        Raises:
            ValueError: for another number of seeds, another mask, and other options; and where the family
                gives start states of another shape.
            FloatingPointError: a start state is not finite.
        """
        if unknown := [key for key in options or {} if key != "reset_mask"]:
            found = ", ".join(map(repr, unknown))
            raise ValueError(
                f"options have {found}, but 'reset_mask' is all that is known; leave out the rest"
            )
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"{len(seeds)} seeds came, but there are {self.num_envs} environments; give one each"
            )
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(
                f"reset_mask is {mask.dtype} {list(mask.shape)}, but it must be bool [{self.num_envs}]"
            )
        rows = np.flatnonzero(mask)
        if rows.size:
            kept = [None if seeds[i] is not None else self._rngs[i] for i in rows]
            rngs = [rng or np.random.default_rng(seeds[i]) for i, rng in zip(rows, kept)]
            starts = self._start(rows, rngs)
            check_found(f"{type(self).__name__}._start()", rows, {"observations": (self._own,)}, starts)
            self._observations[rows, : self._own] = starts
            for i, rng in zip(rows, rngs):  # only now, since a seed may be none
                self._rngs[i] = rng
            self._elapsed[rows], self._terminated[rows], self._truncated[rows] = 0, False, False
            self._begun = True
        return self._observations.copy(), {}

    @alone
    def step(self, actions: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray, dict[str, Any]]:
        """Advance every environment whose episode is not over.

        Args:
            actions: ``[num_envs, act]``, in units of the actuator range; what exceeds [-1, 1] is clipped.

        Returns:
            observations ``[num_envs, obs]``, rewards, terminations and truncations ``[num_envs]``, and an
            empty dict.

        Raises:
            ValueError: for another shape, and for a NaN or infinite action of an environment that takes part;
                and where the family gives a step of another shape.
            FloatingPointError: an observation or a reward is not finite.
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if not self._begun:
            raise ResetNeeded("step() came before reset(); call reset() first")
        actions = np.asarray(actions, np.float64)
        if actions.shape != (shape := (self.num_envs, *self.single_action_space.shape)):
            raise ValueError(f"actions have shape {list(actions.shape)}, but must have {list(shape)}")
        rows = np.flatnonzero(~(self._terminated | self._truncated))
        rewards = np.zeros(self.num_envs)
        if rows.size:
            actions = actions[rows]
            if not np.isfinite(actions).all():
                i = int(np.argmin(np.isfinite(actions).all(-1)))
                raise ValueError(
                    f"action {actions[i].tolist()} of environment {rows[i]} is not finite; check the policy"
                )
            found = self._advance(rows, actions.clip(-1.0, 1.0))
            wanted = {"observations": (self._own,), "rewards": (), "ends": ()}
            check_found(f"{type(self).__name__}._advance()", rows, wanted, found)
            self._observations[rows, : self._own], rewards[rows], self._terminated[rows] = found
            self._elapsed[rows] += 1
            self._truncated[rows] = self._elapsed[rows] >= self.horizon
        return self._observations.copy(), rewards, self._terminated.copy(), self._truncated.copy(), {}

    def _start(self, rows: ndarray, rngs: list[Generator]) -> ndarray:
        """Put environments ``rows`` ``[n]`` into start states, each drawn with its own generator.

        Returns their observations ``[n, obs]``.
        """
        raise undefined(self, "_start")

    def _advance(self, rows: ndarray, actions: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """One step of environments ``rows`` ``[n]`` with actions ``[n, act]`` in [-1, 1].

        Returns observations ``[n, obs]``, rewards ``[n]``, and whether the episode has terminated ``[n]``.
        """
        raise undefined(self, "_advance")

    def frame(self, index: int = 0) -> ndarray:
        """A picture of environment ``index``, uint8 ``[height, width, 3]``."""
        raise undefined(self, "frame")

    @alone
    def close(self, **kwargs: Any) -> None:
        """Free threads and graphics."""
        super().close(**kwargs)
