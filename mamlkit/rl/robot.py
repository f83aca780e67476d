"""What the robots share: start states, the step, and the picture. Paper: section 5.3.2."""

__all__ = ["LARGEST", "Locomotion"]

import os
import warnings
from collections.abc import Sequence
from typing import ClassVar

import mujoco
import numpy as np
from numpy import ndarray
from numpy.random import Generator

from mamlkit.engine.threads import MOST, check
from mamlkit.rl.batched import Batched
from mamlkit.rl.goals import Direction, Velocity
from mamlkit.rl.physics import Physics, Pool, changed

# m, rad, m/s, rad/s: a state beyond it is no robot's any more, and MuJoCo's next step would warn of it
LARGEST = 1e4


class Locomotion(Batched):
    """What the two robots share: start states, the step, and the picture.

    Positions are in m and rad, velocities in m/s and rad/s, actions in units of the actuator range.

    Deviation: a state that is not finite or exceeds 10,000 ends an episode of either robot and is replaced by
    the state before it; rllab ends only the Ant's, where not finite. It is a guard: clipped controls never
    led there.

    Args:
        task: the set of goals and their reward.
        goals: ``[num_envs]``: velocities in m/s, or directions +1 and -1.
        horizon: steps after which an episode is truncated.
        show_goal: append the goal to the observation.
        threads: simulation threads; None takes all cores. Results do not depend on it.
        physics: changes of the model, of :data:`mamlkit.rl.physics.CHANGES`.
    """

    task: Velocity | Direction
    observation: ClassVar[int]
    contacts: ClassVar[bool]
    _of_process = (*Batched._of_process, "pool", "_renderer", "_physics")

    def __init__(
        self,
        task: Velocity | Direction,
        goals: ndarray,
        *,
        horizon: int = 200,
        show_goal: bool = False,
        threads: int | None = None,
        physics: Sequence[str] = (),
    ) -> None:
        self._threads = min(os.cpu_count() or 1, MOST) if threads is None else threads
        check(self._threads)
        self.changes = tuple(physics)
        self.model = self.changed_spec().compile()
        self.fps = round(1 / self.model.opt.timestep)
        super().__init__(
            task,
            goals,
            horizon=horizon,
            show_goal=show_goal,
            observation=self.observation,
            action=self.model.nu,
            bound=LARGEST,
        )
        self._position = slice(1, 1 + self.model.nq)
        self._velocity = slice(1 + self.model.nq, None)
        self._state = np.zeros((self.num_envs, 1 + self.model.nq + self.model.nv))  # time, qpos, qvel

    def _open(self) -> None:
        super()._open()
        self.pool = Pool(self._threads)
        self._renderer: mujoco.Renderer | None = None
        self._physics = Physics(self.model, self.num_envs, self.pool)

    @classmethod
    def model_spec(cls) -> mujoco.MjSpec:
        """The model without any changes, before it is compiled."""
        raise NotImplementedError

    def changed_spec(self) -> mujoco.MjSpec:
        """The model of these environments, before it is compiled."""
        return changed(self.model_spec(), self.changes)

    def start_pose(self) -> ndarray:
        """qpos that every start state is near to, ``[nq]``."""
        return self.model.qpos0

    @property
    def states(self) -> ndarray:
        """A copy of qpos and qvel, ``[num_envs, nq + nv]``."""
        return self._state[:, 1:].copy()

    def _start(self, rows: ndarray, rngs: list[Generator]) -> ndarray:
        nq, nv = self.model.nq, self.model.nv
        noise = np.stack([rng.standard_normal(nq + nv) for rng in rngs])
        state = np.zeros((len(rows), 1 + nq + nv))
        state[:, self._position] = self.start_pose() + 0.01 * noise[:, :nq]
        state[:, self._velocity] = 0.1 * noise[:, nq:]
        self._state[rows] = state = self._normalised(state)
        return self._measure(state, np.zeros((len(rows), self.model.nu)))[0]

    def _advance(self, rows: ndarray, actions: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        before = self._state[rows]
        after, _ = self._physics(before, actions)
        stable = (np.abs(after) < LARGEST).all(-1)  # False for NaN
        if not stable.all():
            after = np.where(stable[:, None], after, before)
        self._state[rows] = after
        observations, velocity, cost, over = self._measure(after, actions)
        return observations, self.task.reward(velocity, self._goals[rows]) - cost, over | ~stable

    def _measure(self, states: ndarray, actions: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """What is seen and paid in states ``[n, 1 + nq + nv]`` reached with actions ``[n, act]``.

        Returns observations ``[n, obs]``, x velocity of the whole body's centre of mass ``[n]``, cost
        ``[n]``, and whether the robot has fallen ``[n]``.
        """
        raise NotImplementedError

    def _normalised(self, states: ndarray) -> ndarray:
        """Start states with unit quaternions."""
        return states

    def frame(self, index: int = 0, *, width: int = 480, height: int = 360) -> ndarray:
        """Environment ``index`` seen from the side by a camera that follows it, uint8 ``[height, width, 3]``.

        Raises:
            RuntimeError: where OpenGL cannot draw off screen.
        """
        if self._renderer is None or (self._renderer.width, self._renderer.height) != (width, height):
            self.model.vis.global_.offwidth, self.model.vis.global_.offheight = width, height
            try:
                with warnings.catch_warnings(action="ignore"):  # glfw's, said better below
                    self._renderer = mujoco.Renderer(self.model, height, width)
            except Exception as error:
                raise RuntimeError(
                    f"MuJoCo cannot draw: {error}. Without a display set the environment "
                    f"variable MUJOCO_GL=egl (needs libegl1; "
                    "MUJOCO_GL=osmesa needs libosmesa6) before Python starts"
                ) from error
        data = mujoco.MjData(self.model)
        data.qpos[:], data.qvel[:] = self._state[index, self._position], self._state[index, self._velocity]
        mujoco.mj_forward(self.model, data)
        self._renderer.update_scene(data, camera="track")
        return self._renderer.render()

    def close_extras(self) -> None:
        """Stop the threads."""
        self.pool.close()
        if self._renderer is not None:
            self._renderer.close()
