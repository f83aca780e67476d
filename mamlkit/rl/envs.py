"""The paper's five RL environments by name: many with :func:`make`, or one through Gymnasium.

Importing this module registers them: ``gymnasium.make("mamlkit/HalfCheetahVel-v0", goal=1.3)``.
"""

__all__ = ["ENVIRONMENTS", "Environment", "GoalEnv", "make", "sample_goals"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy import ndarray
from numpy.random import Generator

from mamlkit.engine.threads import check
from mamlkit.rl.batched import Batched
from mamlkit.rl.goals import Direction, Goals, Square, Velocity
from mamlkit.rl.locomotion import Ant, HalfCheetah
from mamlkit.rl.navigation import Navigation
from mamlkit.rl.robot import Locomotion


@dataclass(frozen=True)
class Environment:
    """A task distribution.

    Args:
        gymnasium_id: its name in Gymnasium.
        family: the batched implementation.
        goals: the set of goals, their distribution, and for the robots the task's part of the reward.
    """

    gymnasium_id: str
    family: Callable[..., Batched]
    goals: Goals


ENVIRONMENTS: dict[str, Environment] = {
    "2d-navigation": Environment("mamlkit/Navigation2D-v0", Navigation, Square(0.5)),
    "half-cheetah-velocity": Environment("mamlkit/HalfCheetahVel-v0", HalfCheetah, Velocity(2.0)),
    "half-cheetah-direction": Environment("mamlkit/HalfCheetahDir-v0", HalfCheetah, Direction()),
    "ant-velocity": Environment("mamlkit/AntVel-v0", Ant, Velocity(3.0, bonus=1.0)),
    "ant-direction": Environment("mamlkit/AntDir-v0", Ant, Direction()),
}


def _get(name: str) -> Environment:
    if name not in ENVIRONMENTS:
        raise ValueError(f"environment {name!r} is unknown; use one of {', '.join(map(repr, ENVIRONMENTS))}")
    return ENVIRONMENTS[name]


def sample_goals(name: str, rng: Generator, n: int) -> ndarray:
    """``n`` goals of an environment's task distribution: ``[n, 2]`` for 2D navigation, else ``[n]``.

    >>> sample_goals("ant-direction", np.random.default_rng(0), 4)
    array([ 1.,  1.,  1., -1.])
    """
    return _get(name).goals.sample(rng, n)


def make(
    name: str,
    goals: ndarray,
    *,
    horizon: int | None = None,
    show_goal: bool = False,
    threads: int | None = None,
    forward: float = 0.5,
    physics: Sequence[str] = (),
) -> Batched:
    """Environments that advance together, one per goal.

    Args:
        name: a key of :data:`ENVIRONMENTS`.
        goals: ``[num_envs, 2]`` for 2D navigation, else ``[num_envs]``.
        horizon: steps after which an episode is truncated; None is the paper's, 100 in 2D and 200 for the
            robots.
        show_goal: append the goal to the observation.
        threads: simulation threads; None takes all cores. Results do not depend on it.
        forward: of goals that are directions, how likely forward is where the environments' task draws them.
        physics: changes of the robot's model, of :data:`mamlkit.rl.physics.CHANGES`.

    Raises:
        ValueError: for an unknown name, goals of another shape or outside their set, a number of threads that
            cannot be meant, a share of directions or a change of a model where there is none, and an unknown
            change.
    """
    if threads is not None:
        check(threads)
    environment = _get(name)
    chosen: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
    task = environment.goals
    if forward != 0.5:
        if not isinstance(task, Direction):
            raise ValueError(f"forward={forward}, but {name} has no directions; leave it out")
        task = Direction(forward)
    if physics:
        if not (isinstance(environment.family, type) and issubclass(environment.family, Locomotion)):
            raise ValueError(f"physics={tuple(physics)}, but {name} has no model to change; leave it out")
        chosen["physics"] = physics
    return environment.family(task, goals, show_goal=show_goal, threads=threads, **chosen)


class GoalEnv(gymnasium.Env[ndarray, ndarray]):
    """One environment with Gymnasium's interface: the batched implementation with a batch of one.

    With the same seed it starts and moves exactly as a member of a batch does. An episode that is over stays
    as it is until ``reset``.

    Args:
        name: a key of :data:`ENVIRONMENTS`.
        goal: the task, kept for good. With None every ``reset`` draws a new one, which ``reset(seed=...)``
            fixes; it is in ``info["goal"]``.
        horizon: steps after which an episode is truncated; None is the paper's.
        show_goal: append the goal to the observation.
        render_mode: ``"rgb_array"`` for pictures, or None.

    Raises:
        ValueError: for an unknown name or render mode, and a goal of another shape or outside its set.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (as Gymnasium has it)
        "render_modes": ["rgb_array"],
        "render_fps": 50,
    }

    def __init__(
        self,
        name: str,
        goal: float | ndarray | None = None,
        *,
        horizon: int | None = None,
        show_goal: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode={render_mode!r}, but it is None or 'rgb_array'")
        self._goals = _get(name).goals
        self._drawn = goal is None
        some = (
            self._goals.sample(np.random.default_rng(0), 1)
            if self._drawn
            else np.asarray(goal, np.float64)[None]
        )
        self._batch = make(name, some, horizon=horizon, show_goal=show_goal, threads=1)
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self.metadata = {**self.metadata, "render_fps": self._batch.fps}
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ndarray, dict[str, Any]]:
        """Start an episode; ``seed`` fixes the start state and, where it is drawn, the goal.

        Raises:
            ValueError: there are options, of which none is known.
        """
        if options:
            found = ", ".join(map(repr, options))
            raise ValueError(f"options have {found}, but none is known here; leave them out")
        super().reset(seed=seed)
        if self._drawn:
            # A stream of its own, so that the goal says nothing about the start state's noise.
            self._batch.set_goals(self._goals.sample(self.np_random.spawn(1)[0], 1))
        seed = int(self.np_random.integers(2**63)) if seed is None else seed
        observations, _ = self._batch.reset(seed=[seed])
        return observations[0], {"goal": self._batch.goals[0]}

    def step(self, action: ndarray) -> tuple[ndarray, float, bool, bool, dict[str, Any]]:
        """One step with an action ``[act]`` in units of the actuator range, clipped to [-1, 1]."""
        observations, rewards, terminations, truncations, _ = self._batch.step(np.asarray(action)[None])
        goal = {"goal": self._batch.goals[0]}
        return observations[0], float(rewards[0]), bool(terminations[0]), bool(truncations[0]), goal

    def render(self) -> ndarray | None:
        """A picture, uint8 ``[height, width, 3]``, in render mode ``"rgb_array"``."""
        return self._batch.frame() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free threads and graphics."""
        self._batch.close()


for _name, _environment in ENVIRONMENTS.items():
    if _environment.gymnasium_id not in gymnasium.registry:
        gymnasium.register(
            _environment.gymnasium_id, entry_point="mamlkit.rl.envs:GoalEnv", kwargs={"name": _name}
        )
