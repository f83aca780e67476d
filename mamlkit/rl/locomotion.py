"""HalfCheetah and Ant with rllab's physics, many at a time. Paper: section 5.3.2; Fig. 5.

The models are those that Gymnasium ships, altered where rllab's differ; all environments advance together
(see :mod:`mamlkit.rl.physics`). The planar cheetah has its centre of mass and the velocity of that in closed
form; the Ant is measured by a twin model.
"""

__all__ = ["Ant", "HalfCheetah", "physics_rate"]

import time
from itertools import accumulate
from typing import Any

import mujoco
import numpy as np
from numpy import ndarray

from mamlkit.rl.goals import Direction
from mamlkit.rl.physics import Physics, measuring, shipped
from mamlkit.rl.robot import Locomotion


class HalfCheetah(Locomotion):
    """A planar robot of 14 kg with six motors; time step 0.01 s, one per action, Euler.

    Observation (20): qpos without x (8), qvel (9), centre of mass (3).
    Reward: the task's, less 0.05 times the squared action. Never terminates.
    """

    observation = 20
    contacts = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = self.model
        # The centre of mass is the root's position plus, for each body, a fixed vector turned with that body:
        # the body's own centre weighted with its mass, and its children's origins weighted with all that
        # hangs on them.
        arm = model.body_mass[:, None] * model.body_ipos
        for child in range(2, model.nbody):
            arm[model.body_parentid[child]] += model.body_subtreemass[child] * model.body_pos[child]
        self._arm_x, _, self._arm_z = (arm[1:, :, None] / model.body_subtreemass[1]).swapaxes(0, 1)
        self._root_height = model.body_pos[1, 2]

    @classmethod
    def model_spec(cls) -> mujoco.MjSpec:
        """Gymnasium's model as it is: mass, motors, contacts and time step are rllab's."""
        spec = shipped("half_cheetah.xml")
        # The file asks the compiler to scale the masses, in a way that MuJoCo now warns of; the densities do
        # the same.
        mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1
        scale = mass / spec.compile().body_subtreemass[0]
        for geom in spec.geoms:
            geom.density *= scale
        return spec

    def centre_of_mass(self, qpos: ndarray, qvel: ndarray) -> tuple[ndarray, ndarray]:
        """Whole-body centre of mass in m, ``[n, 3]``, and its x velocity in m/s, ``[n]``.

        Args:
            qpos, qvel: ``[n, 9]``.
        """
        # of each body against the world, [7, n]: rows of all environments are quicker than of one
        angle, rate = (
            np.stack([*back, *(back[0] + front for front in accumulate(q[6:]))])
            for q in (qpos.T, qvel.T)
            for back in [list(accumulate(q[2:6]))]
        )
        cos, sin = np.cos(angle), np.sin(angle)
        x = self._arm_x * cos + self._arm_z * sin
        z = self._arm_z * cos - self._arm_x * sin
        centre = np.zeros((len(qpos), 3))
        centre[:, 0] = qpos[:, 0] + x.sum(0)
        centre[:, 2] = qpos[:, 1] + z.sum(0) + self._root_height
        return centre, qvel[:, 0] + (rate * z).sum(0)

    def _measure(self, states: ndarray, actions: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        centre, velocity = self.centre_of_mass(states[:, self._position], states[:, self._velocity])
        cost = 0.05 * np.square(actions).sum(-1)
        return np.concatenate([states[:, 2:], centre], -1), velocity, cost, np.zeros(len(states), bool)


class Ant(Locomotion):
    """A four-legged robot of 0.911 kg with eight motors; time step 0.02 s, one per action, Runge-Kutta.

    Observation (125): qpos (15), qvel (14), external contact forces on the 14 bodies, each a torque and a
    force, clipped to [-1, 1] (84), rotation matrix of the torso (9), centre of mass (3).
    Reward: the task's, plus 0.05, less 0.005 times the squared action and 0.0005 times the squared clipped
    contact forces.
    Terminates when the torso's height leaves [0.2, 1.0] m.
    """

    observation = 125
    contacts = True

    _of_process = (*Locomotion._of_process, "_measuring")

    def _open(self) -> None:
        super()._open()
        self._measuring = Physics(measuring(self.changed_spec(), contacts=True), self.num_envs, self.pool)

    @classmethod
    def model_spec(cls) -> mujoco.MjSpec:
        """Gymnasium's model with rllab's time step and contacts.

        rllab's controls of +/-150 at gear 1 are its +/-1 at 150.
        """
        spec = shipped("ant.xml")
        spec.option.timestep = 0.02
        for geom in spec.geoms:
            geom.solimp[:3] = 0.8, 0.8, 0.01
        return spec

    def start_pose(self) -> ndarray:
        """Torso at 0.55 m, upright, knees bent by 1 rad."""
        return np.array([0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1], np.float64)

    def _normalised(self, states: ndarray) -> ndarray:
        states[:, 4:8] /= np.sqrt(np.square(states[:, 4:8]).sum(-1, keepdims=True))
        return states

    def _measure(self, states: ndarray, actions: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        n = len(states)
        _, sensors = self._measuring(states, actions)
        centre, velocity = sensors[:, :3], sensors[:, 3]
        # the axes are its columns
        rotation = sensors[:, 6:15].reshape(n, 3, 3).transpose(0, 2, 1).reshape(n, 9)
        force, torque, point = np.moveaxis(sensors[:, 15:].reshape(n, 13, 3, 3), 2, 0)
        wrench = np.zeros((n, 14, 6))  # the world's, in front, stays zero, as in MuJoCo
        # A sensor tells what its geom does to the floor; the body gets the opposite, about the whole body's
        # centre.
        wrench[:, 1:, :3] = np.cross(force, point - centre[:, None]) - torque
        wrench[:, 1:, 3:] = -force
        contact = wrench.reshape(n, 84).clip(-1.0, 1.0)
        cost = 0.005 * np.square(actions).sum(-1) + 0.0005 * np.square(contact).sum(-1) - 0.05
        height = states[:, 3]
        return (
            np.concatenate([states[:, 1:], contact, rotation, centre], -1),
            velocity,
            cost,
            (height < 0.2) | (height > 1.0),
        )


def physics_rate(
    robot: type[Locomotion],
    *,
    num_envs: int = 800,
    threads: int | None = None,
    forward: bool = True,
    steps: int = 50,
) -> float:
    """Environment steps per second of MuJoCo alone, median over ``steps`` calls.

    It is what sampling is compared with.

    Args:
        robot: :class:`HalfCheetah` or :class:`Ant`.
        num_envs: simulations that advance together, from start states and under random controls.
        threads: simulation threads; None takes all cores.
        forward: add the forward pass at the new state, as a second ``mujoco.rollout``.
        steps: calls that are timed; episodes are never reset.
    """
    env = robot(Direction(), np.ones(num_envs), threads=threads)
    env.reset(seed=0)
    measure = Physics(measuring(env.changed_spec(), env.contacts), num_envs, env.pool)
    controls = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, num_envs, env.model.nu))
    state, seconds = env._state, []
    for control in controls:
        begin = time.perf_counter()
        after, _ = env._physics(state, control)
        if forward:
            measure(after, control)
        seconds.append(time.perf_counter() - begin)
        state[:] = after
    env.close()
    return num_envs / float(np.median(seconds))
