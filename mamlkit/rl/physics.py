"""A step of many simulations at once, and a twin model that measures the new state.

``mujoco.rollout`` steps rows of states on a pool of threads. It reports sensors of the state *before* the
step, while rllab's observations and rewards need the centre of mass, its velocity and the contact forces
*after* it, under the control just applied. So a second, Euler step is taken on a twin model with sensors, and
its result thrown away: its sensors are those of the new state.

Every step starts the constraint solver afresh (``mujoco.rollout`` zeroes its warm start), so a step depends
on the state and the control alone, whoever computes it.
"""

__all__ = ["Physics", "Pool", "measuring", "shipped"]

import ctypes
import os
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import gymnasium
import mujoco
import numpy as np
from mujoco.rollout import Rollout
from numpy import ndarray

ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


def shipped(name: str) -> mujoco.MjSpec:
    """A model that Gymnasium ships, told not to start over by itself when a simulation becomes unstable."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / name))
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
    return spec


class Pool:
    """Simulation threads. A forked child, in which they are missing, starts others when it needs them.

    Args:
        threads: at least one; with one alone the calling thread does the work.
    """

    _all: ClassVar["WeakSet[Pool]"] = WeakSet()

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._rollout: Rollout | None = self._begun()
        self._all.add(self)

    def _begun(self) -> Rollout:
        return Rollout(nthread=self.threads if self.threads > 1 else 0)

    def rollout(self, *args: Any, **kwargs: Any) -> None:
        """As ``mujoco.rollout.Rollout.rollout``."""
        if self._rollout is None:
            self._rollout = self._begun()
        self._rollout.rollout(*args, **kwargs)

    def close(self) -> None:
        """Stop the threads."""
        if self._rollout is not None:
            self._rollout.close()

    @classmethod
    def forked(cls) -> None:
        """Forget the parent's threads.

        Their pools are never freed, which would wait for threads that are gone.
        """
        for pool in cls._all:
            if pool._rollout is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool._rollout))
                pool._rollout = None


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=Pool.forked)


class Physics:
    """One step of up to ``num_envs`` simulations of a model.

    Args:
        model: the model, without actuator states.
        num_envs: the most rows in a call.
        pool: the threads.
    """

    def __init__(self, model: mujoco.MjModel, num_envs: int, pool: Pool) -> None:
        self._pool = pool
        self._models = [model] * num_envs
        self._data = [mujoco.MjData(model) for _ in range(pool.threads)]
        self._after = np.empty((num_envs, 1, 1 + model.nq + model.nv))
        self._sensors = np.empty((num_envs, 1, model.nsensordata))

    def __call__(self, states: ndarray, controls: ndarray) -> tuple[ndarray, ndarray]:
        """The states after a step under controls ``[n, nu]``, and the sensors *before* it.

        Both, ``[n, 1 + nq + nv]`` (time, qpos, qvel) and ``[n, nsensordata]``, are overwritten by the next
        call.
        """
        n = len(states)
        self._pool.rollout(
            self._models[:n],
            self._data,
            states,
            controls[:, None],
            nstep=1,
            skip_checks=True,
            state=self._after[:n],
            sensordata=self._sensors[:n],
        )
        return self._after[:n, 0], self._sensors[:n, 0]


def measuring(spec: mujoco.MjSpec, contacts: bool) -> mujoco.MjModel:
    """A twin of a model that measures: its Euler step costs one forward pass.

    Its sensors are, in order, the centre of mass (3), its velocity (3), the axes of the torso (9), and with
    ``contacts`` for each geom but the floor the net force (3) and torque (3) with which it presses on others
    and the point where they act (3), in world coordinates.
    """
    spec = spec.copy()
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    sensor, obj, data = mujoco.mjtSensor, mujoco.mjtObj, mujoco.mjtConDataField
    for kind in (sensor.mjSENS_SUBTREECOM, sensor.mjSENS_SUBTREELINVEL):
        spec.add_sensor(type=kind, objtype=obj.mjOBJ_BODY, objname="torso")
    for kind in (sensor.mjSENS_FRAMEXAXIS, sensor.mjSENS_FRAMEYAXIS, sensor.mjSENS_FRAMEZAXIS):
        spec.add_sensor(type=kind, objtype=obj.mjOBJ_XBODY, objname="torso")
    for geom in spec.geoms if contacts else ():
        if geom.name != "floor":
            net = spec.add_sensor(type=sensor.mjSENS_CONTACT, objtype=obj.mjOBJ_GEOM, objname=geom.name)
            fields = (data.mjCONDATA_FORCE, data.mjCONDATA_TORQUE, data.mjCONDATA_POS)
            # fields; reduce="netforce"; one slot
            net.intprm[:3] = [sum(1 << int(field) for field in fields), 3, 1]
    return spec.compile()
