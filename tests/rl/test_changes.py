"""Changes of a robot's model and of the share of forward goals: what they say happens, and nothing else."""

import copy

import mujoco
import numpy as np
import pytest

from mamlkit.rl import envs, physics
from mamlkit.rl.goals import Direction
from mamlkit.rl.locomotion import Ant, HalfCheetah

FIELDS = [n for n in dir(mujoco.MjModel) if n.startswith(("geom_", "jnt_", "dof_", "body_", "actuator_"))]
OPTIONS = [n for n in dir(mujoco.MjOption) if not n.startswith("_")]


def everything(model):
    """Numbers of a model that its motion can depend on."""
    arrays = {name: getattr(model, name) for name in FIELDS}
    found = {name: value.copy() for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return found | {f"opt.{name}": np.array(getattr(model.opt, name)) for name in OPTIONS}


def differing(robot, names):
    """Fields in which a robot's model with changes differs, with their new values."""
    before, after = (
        everything(robot.model_spec().compile()),
        robot(Direction(), [1.0], threads=1, physics=names),
    )
    found = everything(after.model)
    after.close()
    return {name: found[name] for name in before if not np.array_equal(before[name], found[name])}


@pytest.mark.parametrize("robot", [HalfCheetah, Ant])
def test_each_change_is_what_it_says_and_nothing_else(robot):
    assert differing(robot, ()) == {}
    found = differing(robot, ["pgs"])
    assert found == {"opt.solver": mujoco.mjtSolver.mjSOL_PGS.value, "opt.iterations": 50}
    assert differing(robot, ["elliptic cones"]) == {"opt.cone": mujoco.mjtCone.mjCONE_ELLIPTIC.value}
    found = differing(robot, ["explicit damping"])
    flags = robot.model_spec().option.disableflags | mujoco.mjtDisableBit.mjDSBL_EULERDAMP.value
    assert found == {"opt.disableflags": flags}
    found = differing(robot, ["linear impedance"])
    assert found.keys() == {"geom_solimp", "jnt_solimp"}
    assert (found["geom_solimp"][:, 4] == 1).all() and (found["jnt_solimp"][:, 4] == 1).all()
    untouched = robot.model_spec().compile()
    assert np.array_equal(found["geom_solimp"][:, :4], untouched.geom_solimp[:, :4])
    assert differing(robot, ["pgs", "elliptic cones"]).keys() == {"opt.solver", "opt.iterations", "opt.cone"}


def moved(changes, steps=60):
    """The states of some cheetahs under random controls."""
    env = envs.make("half-cheetah-direction", np.ones(4), threads=1, physics=changes)
    env.reset(seed=0)
    controls = np.random.default_rng(0).normal(0, 1, (steps, 4, 6))
    for control in controls:
        env.step(control)
    states = env.states
    again = copy.deepcopy(env)  # has the same model
    assert np.array_equal(env.step(controls[0])[0], again.step(controls[0])[0])
    env.close()
    again.close()
    return states


def test_every_change_moves_the_robot_elsewhere():
    plain = moved(())
    assert np.array_equal(plain, moved(()))
    for name in physics.CHANGES:
        assert not np.allclose(plain, moved((name,)), atol=1e-6), name


def test_damping_is_explicit():
    """A cheetah in the air whose joints turn: the step that Euler's method takes, by hand."""
    model = physics.changed(HalfCheetah.model_spec(), ["explicit damping"]).compile()
    data = mujoco.MjData(model)
    data.qpos[1], data.qvel[3:] = 5.0, 3.0
    mujoco.mj_forward(model, data)
    wanted = data.qvel + model.opt.timestep * data.qacc
    mujoco.mj_step(model, data)
    assert data.qvel == pytest.approx(wanted, abs=1e-12)
    implicit = HalfCheetah.model_spec().compile()
    other = mujoco.MjData(implicit)
    other.qpos[1], other.qvel[3:] = 5.0, 3.0
    mujoco.mj_step(implicit, other)
    assert np.abs(other.qvel - wanted).max() > 0.1


def test_impedance_is_linear_in_the_penetration():
    """The model's own is two parabolas, from 0 to 0.8 over 0.01 m; MuJoCo cuts both off at 0.0001."""
    x = DEPTHS / 0.01
    sigmoid = np.where(x < 0.5, 2 * x**2, 1 - 2 * (1 - x) ** 2)
    assert np.allclose(impedances([]), 0.8 * sigmoid, atol=2e-4)
    assert np.allclose(impedances(["linear impedance"]), 0.8 * x, atol=2e-4)


DEPTHS = np.array([0.002, 0.004, 0.005, 0.008])  # m


def impedances(names):
    """Of the deepest contact of a cheetah that is put so deep into the floor."""
    model = physics.changed(HalfCheetah.model_spec(), names).compile()
    data, found = mujoco.MjData(model), []
    data.qpos[1] = -10  # far below: so much for where its lowest point is
    mujoco.mj_forward(model, data)
    lowest = min(contact.dist for contact in data.contact)
    for depth in DEPTHS:
        data.qpos[1] = -10 - lowest - depth
        mujoco.mj_forward(model, data)
        deepest = min(range(data.ncon), key=lambda i: data.contact[i].dist)
        assert data.contact[deepest].dist == pytest.approx(-depth, abs=1e-9)
        row = data.contact[deepest].efc_address
        found.append(data.efc_KBIP[row, 2])
    return np.array(found)


def test_the_share_of_forward_goals():
    # 100,000 goals: a true sampler misses by more than 5 standard errors in 6 of 10 million draws.
    for share in (0.0, 0.57, 0.8, 1.0):
        drawn = Direction(share).sample(np.random.default_rng(1), 100_000)
        assert np.isin(drawn, (-1.0, 1.0)).all()
        assert abs((drawn == 1).mean() - share) <= 5 * np.sqrt(share * (1 - share) / 100_000)
    with pytest.raises(ValueError, match="forward=1.5, but a probability lies between 0 and 1"):
        Direction(1.5)


def test_the_usual_goals_are_drawn_as_they_always_were():
    drawn, rng = Direction().sample(np.random.default_rng(3), 50), np.random.default_rng(3)
    assert np.array_equal(drawn, 2.0 * rng.integers(0, 2, 50) - 1.0)


def test_what_an_environment_does_not_have_is_refused():
    with pytest.raises(ValueError, match="'jacobi', but the changes are 'pgs'"):
        envs.make("ant-direction", [1.0], threads=1, physics=["jacobi"])
    with pytest.raises(ValueError, match="half-cheetah-velocity has no directions"):
        envs.make("half-cheetah-velocity", [1.0], threads=1, forward=0.8)
    with pytest.raises(ValueError, match="2d-navigation has no model"):
        envs.make("2d-navigation", [[0.0, 0.0]], physics=["pgs"])
    env = envs.make("ant-direction", [1.0], threads=1, forward=0.8, physics=["elliptic cones"])
    assert env.task == Direction(0.8) and env._measuring._models[0].opt.cone == 1
    env.close()
