"""HalfCheetah and Ant against MuJoCo stepped slowly, and their rewards as formulas at hand-set states."""

import math

import mujoco
import numpy as np
import pytest

from mamlkit.rl import envs
from mamlkit.rl.goals import Direction, Velocity
from mamlkit.rl.locomotion import Ant, HalfCheetah, physics_rate
from mamlkit.rl.physics import Physics, measuring
from mamlkit.rl.robot import LARGEST

ROBOTS = [HalfCheetah, Ant]
VELOCITY = {HalfCheetah: Velocity(2.0), Ant: Velocity(3.0, bonus=1.0)}


def rng(seed=0):
    return np.random.default_rng(seed)


def make(robot, n=1, task=None, seed=0, **options):
    task = task or VELOCITY[robot]
    return robot(task, task.sample(rng(seed), n), **{"threads": 1} | options)


def slow_step(model, state, control):
    """The twin: one mj_step from (qpos, qvel), then everything at the new state under the same control."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = state[: model.nq], state[model.nq :], control
    mujoco.mj_step(model, data)
    return look(model, data)


def look(model, data):
    data.qacc_warmstart[:] = 0  # as mujoco.rollout begins
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    return data


def slow_observation(robot, data):
    com = data.subtree_com[1]
    if robot is HalfCheetah:
        return np.concatenate([data.qpos[1:], data.qvel, com])
    return np.concatenate([data.qpos, data.qvel, data.cfrc_ext.ravel().clip(-1, 1), data.xmat[1], com])


def slow_reward(robot, task, goal, data, control):
    velocity = data.subtree_linvel[1, 0]
    earned = goal * velocity if isinstance(task, Direction) else -abs(velocity - goal)
    if robot is HalfCheetah:
        return earned - 0.05 * sum(c * c for c in control)
    earned += 0.0 if isinstance(task, Direction) else 1.0
    contact = sum(c * c for c in data.cfrc_ext.ravel().clip(-1, 1))
    return earned + 0.05 - 0.005 * sum(c * c for c in control) - 0.0005 * contact


def at(env, states, actions):
    """What ``env`` reports when its step leads to hand-set (qpos, qvel) ``[n, nq + nv]``."""
    env.reset(seed=0)
    env._physics = lambda before, controls: (np.concatenate([before[:, :1], states], -1), None)
    return env.step(np.asarray(actions, float))


def test_the_cheetah_is_rllabs():
    model = HalfCheetah.model_spec().compile()
    assert abs(model.body_mass.sum() - 14) < 1e-12 and model.opt.timestep == 0.01
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert (model.nq, model.nv, model.nu) == (9, 9, 6) and not model.qpos0.any()
    assert model.actuator_gear[:, 0].tolist() == [120, 90, 60, 120, 60, 30]
    assert np.array_equal(model.actuator_ctrlrange, [[-1, 1]] * 6)
    # Scaling densities is what the file asks of the compiler, body by body.
    spec = HalfCheetah.model_spec()
    for geom in spec.geoms:
        geom.density = 1000
    scaled = spec.compile()
    assert abs(scaled.body_mass.sum() - 14) > 1
    mujoco.mj_setTotalmass(scaled, 14)
    assert np.allclose(scaled.body_mass, model.body_mass, rtol=1e-12, atol=0)
    assert np.allclose(scaled.body_inertia, model.body_inertia, rtol=1e-12, atol=0)


def test_the_ant_is_rllabs():
    model = Ant.model_spec().compile()
    assert abs(model.body_mass.sum() - 0.911) < 5e-4 and model.opt.timestep == 0.02
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    assert (model.nq, model.nv, model.nu, model.nbody) == (15, 14, 8, 14)
    assert np.array_equal(model.geom_solimp[:, :3], [[0.8, 0.8, 0.01]] * 14)
    assert np.array_equal(model.geom_solref, [[0.02, 1]] * 14)
    assert (model.actuator_gear[:, 0] == 150).all() and np.array_equal(
        model.actuator_ctrlrange, [[-1, 1]] * 8
    )
    assert make(Ant).start_pose().tolist() == [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]


@pytest.mark.parametrize("robot", ROBOTS)
def test_one_action_is_one_time_step(robot):
    env = make(robot)
    env.reset(seed=0)
    env.step(np.zeros((1, env.model.nu)))
    assert env._state[0, 0] == env.model.opt.timestep  # MuJoCo's own clock


@pytest.mark.parametrize("robot", ROBOTS)
def test_start_states_are_the_pose_with_normal_noise(robot):
    # Kolmogorov-Smirnov on 1000 starts, positions and velocities apart: a true sampler fails one of two at
    # 1e-6 less often than 2e-6. The Ant's quaternion is normalised, which its noise of 0.01 hardly shows; it
    # is left out.
    env = make(robot, 1000)
    observations, _ = env.reset(seed=0)
    nq = env.model.nq
    noise = env.states - np.concatenate([env.start_pose(), np.zeros(env.model.nv)])
    if robot is Ant:
        quaternion = env.states[:, 3:7]
        assert np.allclose((quaternion**2).sum(1), 1, atol=1e-15) and (quaternion.std(0)[1:] > 0.008).all()
        noise, nq = np.delete(noise, slice(3, 7), axis=1), nq - 4
    for part in (noise[:, :nq] / 0.01, noise[:, nq:] / 0.1):
        values = np.sort(part.ravel())
        n = len(values)
        assert n >= 9000
        normal = np.array([0.5 + 0.5 * math.erf(v / math.sqrt(2)) for v in values])
        assert np.abs(normal - (np.arange(n) + 0.5) / n).max() < math.sqrt(
            -math.log(1e-6 / 2) / 2
        ) / math.sqrt(n)
        # no coordinate is left out: a standard error is 1/sqrt(2000) = 0.022
        assert (np.abs(part.std(0) - 1) < 0.15).all()
    # The first observation is that of the start state without control.
    data = mujoco.MjData(env.model)
    for i in range(3):
        data.qpos[:], data.qvel[:] = np.split(env.states[i], [env.model.nq])
        assert np.allclose(
            observations[i], slow_observation(robot, look(env.model, data)), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("task", ["velocity", "direction"])
@pytest.mark.parametrize("robot", ROBOTS)
def test_every_step_equals_mujoco_stepped_slowly(robot, task):
    # Random actions over whole episodes: the Ant touches the ground, jumps and falls.
    task = VELOCITY[robot] if task == "velocity" else Direction()
    env = make(robot, 4, task, seed=1)
    env.reset(seed=20)
    generator, touched, fell = rng(2), 0, 0
    for time in range(env.horizon):
        before, running = env.states, ~(env._terminated | env._truncated)
        actions = 1.5 * generator.standard_normal(env.action_space.shape)
        observations, rewards, terminated, truncated, _ = env.step(actions)
        for i in np.flatnonzero(running):
            control = actions[i].clip(-1, 1)
            data = slow_step(env.model, before[i], control)
            assert np.array_equal(env.states[i], np.concatenate([data.qpos, data.qvel]))
            assert np.allclose(observations[i], slow_observation(robot, data), rtol=0, atol=1e-10)
            assert abs(rewards[i] - slow_reward(robot, task, env.goals[i], data, control)) < 1e-10
            assert terminated[i] == (robot is Ant and not 0.2 <= data.qpos[2] <= 1.0)
            touched += data.ncon > 0
            fell += terminated[i]
        assert truncated[running].all() == (time == env.horizon - 1) or not running.any()
    assert touched > 50 and (fell > 0) == (robot is Ant)


@pytest.mark.parametrize("robot", ROBOTS)
def test_neither_threads_nor_batch_size_change_a_bit(robot):
    n, steps = 7, 120
    task = VELOCITY[robot]
    goals = task.sample(rng(5), n)
    actions = 1.5 * rng(6).standard_normal((steps, n, make(robot).model.nu))

    def run(rows, threads):
        env = robot(task, goals[rows], threads=threads)
        history = [env.reset(seed=[100 + i for i in rows])[0]]
        for action in actions[:, rows]:
            history += env.step(action)[:4]
        env.close()
        return history

    whole = run(list(range(n)), 1)
    for rows, threads in (([*range(n)], 2), ([*range(n)], 3), ([4], 1), ([6, 0], 2), ([5, 3, 1], 1)):
        for got, wanted in zip(run(rows, threads), whole, strict=True):
            assert np.array_equal(got, wanted[rows])


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_small_batch_equals_rows_of_a_large_one(robot):
    large = make(robot, 300, threads=2)
    small = robot(large.task, large.goals[[17, 299]], threads=1)
    large.reset(seed=0)
    small.reset(seed=[17, 299])
    for _ in range(3):
        actions = rng(7).standard_normal(large.action_space.shape)
        for got, wanted in zip(small.step(actions[[17, 299]])[:4], large.step(actions)[:4], strict=True):
            assert np.array_equal(got, wanted[[17, 299]])


def test_the_cheetahs_centre_of_mass_is_mujocos_at_any_pose():
    env = make(HalfCheetah)
    data = mujoco.MjData(env.model)
    for qpos, qvel in zip(rng(1).uniform(-3, 3, (50, 9)), rng(2).normal(0, 10, (50, 9)), strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        look(env.model, data)
        centre, velocity = env.centre_of_mass(qpos[None], qvel[None])
        assert np.allclose(centre[0], data.subtree_com[1], rtol=0, atol=1e-12)
        assert abs(velocity[0] - data.subtree_linvel[1, 0]) < 1e-12


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_measuring_twin_reports_the_state_it_is_given(robot):
    # one forward pass a step, not four
    assert measuring(robot.model_spec(), False).opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    env = make(robot, 2)
    env.reset(seed=3)
    controls = rng(4).uniform(-1, 1, (2, env.model.nu))
    _, sensors = Physics(measuring(env.model_spec(), robot.contacts), 2, env.pool)(env._state, controls)
    for state, control, row in zip(env.states, controls, sensors, strict=True):
        data = mujoco.MjData(env.model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = state[: env.model.nq], state[env.model.nq :], control
        look(env.model, data)
        wanted = [data.subtree_com[1], data.subtree_linvel[1], data.xmat[1].reshape(3, 3).T.ravel()]
        assert np.allclose(row[:15], np.concatenate(wanted), rtol=0, atol=1e-12)
        assert len(row) == (15 + 13 * 9 if robot is Ant else 15)


@pytest.mark.parametrize("v", [-1.0, 0.0, 0.5, 1.75])
def test_the_cheetahs_reward_is_its_formula(v):
    state = np.zeros((1, 18))
    state[0, 9] = v  # the whole body moves at v, so its centre does
    action = [[0.5, -3.0, 0.0, 1.0, -0.25, 2.0]]  # clipped: 0.25 + 1 + 0 + 1 + 0.0625 + 1
    cost = 0.05 * 3.3125
    assert (
        abs(at(HalfCheetah(Velocity(2.0), [0.5], threads=1), state, action)[1][0] - (-abs(v - 0.5) - cost))
        < 1e-12
    )
    for direction in (1.0, -1.0):
        env = HalfCheetah(Direction(), [direction], threads=1)
        assert abs(at(env, state, action)[1][0] - (direction * v - cost)) < 1e-12


@pytest.mark.parametrize("v", [-1.0, 0.0, 2.5])
def test_the_ants_reward_in_the_air_is_its_formula(v):
    state = np.zeros((1, 29))
    state[0, :15] = make(Ant).start_pose()
    state[0, 2], state[0, 15] = 0.9, v
    action = [[0.5, -3.0, 0.0, 1.0, -0.25, 2.0, 0.0, 0.0]]
    cost = 0.005 * 3.3125
    observation, reward, terminated, *_ = at(Ant(Velocity(3.0, bonus=1.0), [2.0], threads=1), state, action)
    assert not observation[0, 29:113].any() and not terminated[0]  # nothing touches
    assert abs(reward[0] - (1 - abs(v - 2.0) + 0.05 - cost)) < 1e-12
    for direction in (1.0, -1.0):
        reward = at(Ant(Direction(), [direction], threads=1), state, action)[1]
        assert abs(reward[0] - (direction * v + 0.05 - cost)) < 1e-12


def test_the_ant_pays_for_contact_forces_clipped_at_one():
    state = np.zeros((1, 29))
    state[0, :15] = make(Ant).start_pose()
    state[0, 2] = 0.53
    env = Ant(Direction(), [1.0], threads=1)
    observation, reward, *_ = at(env, state, np.zeros((1, 8)))
    data = mujoco.MjData(env.model)
    data.qpos[:] = state[0, :15]
    look(env.model, data)
    forces = data.cfrc_ext.ravel()
    assert (
        (np.abs(forces) > 1).any()
        and ((np.abs(forces) > 1e-3) & (np.abs(forces) < 1)).any()
        and (forces < -1).any()
    )
    assert np.allclose(observation[0, 29:113], forces.clip(-1, 1), rtol=0, atol=1e-10)
    wanted = data.subtree_linvel[1, 0] + 0.05 - 0.0005 * (forces.clip(-1, 1) ** 2).sum()
    assert abs(reward[0] - wanted) < 1e-10
    assert not forces[:6].any()  # the world's own row


def test_contact_torques_are_about_the_whole_bodys_centre():
    # Ants thrown down anyhow. A leg that lies flat touches at two points, whose net contact has a torque of
    # its own besides the one of its force.
    n = 2000
    env, states = make(Ant, n), rng(0).normal(0, 1, (n, 29))
    states[:, 3:7] /= np.linalg.norm(states[:, 3:7], axis=1, keepdims=True)
    model, data = env.model, mujoco.MjData(env.model)
    for state in states:  # put the lowest point of the robot 1 cm into the ground
        state[2] = 0
        data.qpos[:] = state[:15]
        mujoco.mj_kinematics(model, data)
        half = np.abs(data.geom_xmat[1:, 8]) * model.geom_size[1:, 1] + model.geom_size[1:, 0]
        state[2] = -0.01 - (data.geom_xpos[1:, 2] - half).min()
    observations = at(env, states, np.zeros((n, 8)))[0]
    torques = env._measuring(env._state, np.zeros((n, 8)))[1][:, 15:].reshape(n, 13, 3, 3)[:, :, 1]
    shown = 0
    for state, observation, torque in zip(states, observations, torques, strict=True):
        data.qpos[:], data.qvel[:] = np.split(state, [15])
        look(model, data)
        # not clipped
        shown += (np.abs(torque).max() > 1e-3) & (
            np.abs(data.cfrc_ext[1:, :3])[np.abs(torque) > 1e-3] < 1
        ).any()
        assert np.allclose(observation[29:113], data.cfrc_ext.ravel().clip(-1, 1), rtol=0, atol=1e-9)
    assert shown >= 5


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_step_that_blows_up_ends_the_episode(robot, tmp_path, monkeypatch):
    # MuJoCo would start the simulation over and say so only in a log; the model is told not to.
    monkeypatch.chdir(tmp_path)
    env = make(robot, 2)
    env.reset(seed=0)
    env._state[1, env._velocity] = 1e8 * rng(0).standard_normal(env.model.nv)
    kept = env.states[1]
    terminated = env.step(np.zeros(env.action_space.shape))[2]
    assert terminated.tolist() == [False, True] and np.array_equal(env.states[1], kept)


@pytest.mark.parametrize(
    ("height", "fallen"), [(0.19, True), (0.2, False), (0.6, False), (1.0, False), (1.01, True)]
)
def test_the_ant_falls_outside_its_heights(height, fallen):
    state = np.zeros((1, 29))
    state[0, :15] = make(Ant).start_pose()
    state[0, 2] = height
    assert at(make(Ant), state, np.zeros((1, 8)))[2][0] == fallen


def test_the_cheetah_never_falls():
    state = np.zeros((1, 18))
    state[0, 1:3] = -0.6, math.pi  # on its back
    assert not at(make(HalfCheetah), state, np.zeros((1, 6)))[2][0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.01 * LARGEST])
@pytest.mark.parametrize("robot", ROBOTS)
def test_an_unstable_state_ends_the_episode_and_goes_no_further(robot, value, capfd):
    env = make(robot, 2)
    env.reset(seed=0)
    before, physics = env.states, env._physics
    bad = np.array([[False], [True]])
    column = np.arange(env._state.shape[1]) == env.model.nq + 2  # one velocity
    env._physics = lambda states, controls: (
        np.where(bad & column, value, physics(states, controls)[0]),
        None,
    )
    observations, rewards, terminated, *_ = env.step(np.zeros(env.action_space.shape))
    assert (
        terminated.tolist() == [False, True]
        and np.isfinite(observations).all()
        and np.isfinite(rewards).all()
    )
    assert np.array_equal(env.states[1], before[1])
    env._physics = physics
    after = env.step(np.zeros(env.action_space.shape))
    assert (
        np.array_equal(after[0][1], observations[1])
        and after[1][1] == 0
        and after[2].tolist() == [False, True]
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("speed", [10.0, 100.0, 1000.0, LARGEST])
@pytest.mark.parametrize("robot", ROBOTS)
def test_mujoco_never_warns(robot, speed, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = make(robot, 10, horizon=20)
    env.reset(seed=0)
    env._state[:, env._velocity] = rng(3).uniform(-speed, speed, (10, env.model.nv))
    for _ in range(20):
        observations, rewards, *_ = env.step(rng(4).standard_normal(env.action_space.shape))
        assert np.isfinite(observations).all() and np.isfinite(rewards).all()
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())  # MuJoCo would leave a log


def test_the_physics_rate_counts_environment_steps():
    bare, forward = (
        physics_rate(HalfCheetah, num_envs=100, threads=1, steps=15, forward=f) for f in (False, True)
    )
    assert 1e3 < forward < bare < 1e7


def test_the_ants_episodes_may_end_early_and_begin_again():
    env = envs.make("ant-direction", np.ones(20), threads=2)
    env.reset(seed=0)
    generator = rng(1)
    while not (terminated := env.step(1.5 * generator.standard_normal(env.action_space.shape))[2]).any():
        pass
    observations, _ = env.reset(seed=[900 + i for i in range(20)], options={"reset_mask": terminated})
    _, rewards, again, *_ = env.step(np.zeros(env.action_space.shape))
    assert terminated.sum() < 20 and not again[terminated].any() and (rewards[terminated] != 0).all()
    assert np.allclose(observations[terminated][:, 2], 0.55, atol=0.06)
