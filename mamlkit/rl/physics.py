"""A step of many simulations at once, and a twin model that measures the new state.

``mujoco.rollout`` steps rows of states on a pool of threads. It reports sensors of the state *before* the
step, while rllab's observations and rewards need the centre of mass, its velocity and the contact forces
*after* it, under the control just applied. So a second, Euler step is taken on a twin model with sensors, and
its result thrown away: its sensors are those of the new state.

Every step starts the constraint solver afresh (``mujoco.rollout`` zeroes its warm start), so a step depends
on the state and the control alone, whoever computes it.
"""

__all__ = ["CHANGES", "Physics", "Pool", "changed", "measuring", "shipped"]

import ctypes
import os
from collections.abc import Callable, Sequence
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


def _pgs(spec: mujoco.MjSpec) -> None:
    """Projected Gauss-Seidel, 50 iterations.

    Which solver MuJoCo 1.31 had by default is not confirmed. Models of its time that name one name this one,
    with 50 iterations (OpenAI Gym's ``humanoid.xml``).
    """
    spec.option.solver, spec.option.iterations = mujoco.mjtSolver.mjSOL_PGS, 50


def _elliptic(spec: mujoco.MjSpec) -> None:
    """Elliptic friction cones, where MuJoCo 4 has pyramids.

    The options of 1.31 leave no choice of a cone, and its contacts have the zones of an elliptic one (rllab's
    ``mujoco_py/mjtypes.py``).
    """
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC


def _linear(spec: mujoco.MjSpec) -> None:
    """Impedance of contacts and joint limits that grows in proportion to the penetration, not as a sigmoid.

    The options of 1.31 have a field for the shape of this function; what it was by default is not known.
    """
    for part in spec.geoms:
        part.solimp[4] = 1  # the power
    for part in spec.joints:
        part.solimp_limit[4] = 1


def _explicit(spec: mujoco.MjSpec) -> None:
    """Joint damping at the velocity before Euler's step, where MuJoCo 4 takes the one after it.

    Which of them 1.31 did is not known. The Ant, which Runge-Kutta steps, moves as before.
    """
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP.value


# Named changes of a model, towards the program that the authors had.
CHANGES: dict[str, Callable[[mujoco.MjSpec], None]] = {
    "pgs": _pgs,
    "elliptic cones": _elliptic,
    "linear impedance": _linear,
    "explicit damping": _explicit,
}


def changed(spec: mujoco.MjSpec, names: Sequence[str]) -> mujoco.MjSpec:
    """A model with some of :data:`CHANGES`; it is changed in place and returned.

    Raises:
        ValueError: an unknown change.
    """
    for name in names:
        if name not in CHANGES:
            raise ValueError(
                f"physics has {name!r}, but the changes are {', '.join(map(repr, CHANGES))}; use some of them"
            )
        CHANGES[name](spec)
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
