"""The contract of every environment: goals, seeds, masks, horizons, Gymnasium's interface. Physics:
test_envs_physics.py."""

import math
import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from mamlkit.rl import envs
from mamlkit.rl.goals import Direction, Square, Velocity
from mamlkit.rl.robot import Locomotion

NAMES = list(envs.ENVIRONMENTS)
ROBOTS = [name for name in NAMES if issubclass(envs.ENVIRONMENTS[name].family, Locomotion)]


def rng(seed=0):
    return np.random.default_rng(seed)


def make(name, n=3, seed=0, **options):
    return envs.make(name, envs.sample_goals(name, rng(seed), n), threads=1, **options)


def actions_for(env, generator):
    return generator.normal(0, 1, env.action_space.shape)


@pytest.mark.parametrize(
    ("name", "size", "actions", "horizon", "goals"),
    [
        ("2d-navigation", 2, 2, 100, Square(0.5)),
        ("half-cheetah-velocity", 20, 6, 200, Velocity(2.0)),
        ("half-cheetah-direction", 20, 6, 200, Direction()),
        ("ant-velocity", 125, 8, 200, Velocity(3.0, bonus=1.0)),
        ("ant-direction", 125, 8, 200, Direction()),
    ],
)
def test_sizes_horizons_and_goals_are_the_papers(name, size, actions, horizon, goals):
    plain, oracle = make(name), make(name, show_goal=True)
    goal_size = 2 if name == "2d-navigation" else 1
    assert (
        plain.single_observation_space.shape == (size,) and plain.single_observation_space.dtype == np.float64
    )
    assert oracle.single_observation_space.shape == (size + goal_size,)
    assert plain.single_action_space == gymnasium.spaces.Box(-1, 1, (actions,), np.float64)
    assert plain.horizon == horizon and plain.num_envs == 3 and envs.ENVIRONMENTS[name].goals == goals
    assert plain.metadata["autoreset_mode"] == AutoresetMode.DISABLED


def test_continuous_goals_are_uniform():
    # Kolmogorov-Smirnov with 20,000 values: a true sampler fails one of four tests at 1e-6 less often than
    # 4e-6.
    bound = math.sqrt(-math.log(1e-6 / 2) / 2) / math.sqrt(20_000)
    points = envs.sample_goals("2d-navigation", rng(1), 20_000)
    cheetah, ant = (
        envs.sample_goals(f"{robot}-velocity", rng(1), 20_000) for robot in ("half-cheetah", "ant")
    )
    for values in (points[:, 0] + 0.5, points[:, 1] + 0.5, cheetah / 2, ant / 3):
        assert np.abs(np.sort(values) - (np.arange(20_000) + 0.5) / 20_000).max() < bound


@pytest.mark.parametrize("name", ["half-cheetah-direction", "ant-direction"])
def test_directions_are_forward_or_backward_equally_often(name):
    goals = envs.sample_goals(name, rng(2), 20_000)
    assert set(goals) == {-1.0, 1.0}
    assert abs(goals.mean()) < 5 / math.sqrt(20_000)  # five standard errors: a fair coin fails at 6e-7


@pytest.mark.parametrize("name", NAMES)
def test_a_start_state_depends_on_its_own_seed_and_nothing_else(name):
    five, two = make(name, 5, seed=0), make(name, 2, seed=1)
    first, _ = five.reset(seed=[7, 8, 9, [1, 2, 3], 11])
    five.step(actions_for(five, rng()))
    second, _ = two.reset(seed=[[1, 2, 3], 8])
    assert np.array_equal(first[[3, 1]], second)
    if name in ROBOTS:  # else the start may be a point
        assert len({row.tobytes() for row in first}) == 5
        assert np.array_equal(five.reset(seed=7)[0][[0, 1, 2, 4]], first[[0, 1, 2, 4]])  # 7, 8, 9, 10, 11
        assert not np.array_equal(five.reset()[0], five.reset()[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_masked_reset_leaves_the_others_where_they_are(name):
    env, twin = make(name, 4), make(name, 4)
    mask = np.array([True, False, False, True])
    for e in (env, twin):
        e.reset(seed=0)
        before = e.step(actions_for(e, rng(0)))[0]
    start = make(name, 4).reset(seed=[5, 6, 7, 8])[0]
    after, _ = env.reset(seed=[5, 6, 7, 8], options={"reset_mask": mask})
    assert np.array_equal(after[~mask], before[~mask]) and np.array_equal(after[mask], start[mask])
    action = actions_for(env, rng(1))
    for got, wanted in zip(env.step(action)[:4], twin.step(action)[:4], strict=True):
        assert np.array_equal(got[~mask], wanted[~mask])
    # nobody was reset
    assert not np.array_equal(env.reset(options={"reset_mask": np.zeros(4, bool)})[0], start)


@pytest.mark.parametrize("name", NAMES)
def test_episodes_are_truncated_at_the_horizon_and_then_stay(name):
    env = make(name, 2, horizon=4)
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.zeros(env.action_space.shape))
    env.reset(seed=0, options={"reset_mask": np.array([False, True])})  # the second is two steps behind now
    for time in range(1, 5):
        observations, rewards, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape))
        assert truncated.tolist() == [time >= 2, time >= 4] and not terminated.any()
        assert (rewards != 0).tolist() == [time <= 2, True]
        if time == 2:
            last = observations[0]
    assert np.array_equal(observations[0], last)
    # nobody takes part, so nobody looks at the actions
    ended = env.step(np.full(env.action_space.shape, np.nan))
    assert np.array_equal(ended[0], observations) and not ended[1].any() and ended[3].all()


@pytest.mark.parametrize("name", NAMES)
def test_the_default_horizon_truncates_and_not_a_step_earlier(name):
    env = make(name, 1)
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape)
    flags = [env.step(still)[3][0] for _ in range(env.horizon)]
    assert flags == [False] * (env.horizon - 1) + [True]


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_clipped(name):
    one, other, inside = make(name), make(name), make(name)
    action = actions_for(one, rng(3)) * 3
    assert np.abs(action).max() > 1
    results = []
    for env, act in ((one, action), (other, action.clip(-1, 1)), (inside, action / 10)):
        env.reset(seed=0)
        results.append(env.step(act))
    assert all(np.array_equal(a, b) for a, b in zip(results[0][:4], results[1][:4], strict=True))
    assert not np.array_equal(results[0][0], results[2][0])


@pytest.mark.parametrize("name", NAMES)
def test_the_oracle_sees_the_goal_and_new_goals_count_at_once(name):
    env, blind = make(name, 4, show_goal=True), make(name, 4)
    goals = envs.sample_goals(name, rng(9), 4)
    for e in (env, blind):
        e.reset(seed=0)
        e.set_goals(goals)
    action = actions_for(env, rng(0))
    seen, rewards, *_ = env.step(action)
    plain, blind_rewards, *_ = blind.step(action)
    width = plain.shape[1]
    assert np.array_equal(seen[:, :width], plain) and np.array_equal(seen[:, width:], goals.reshape(4, -1))
    assert np.array_equal(rewards, blind_rewards) and np.array_equal(env.goals, goals)
    fresh = envs.make(name, goals, threads=1)
    fresh.reset(seed=0)
    assert np.array_equal(fresh.step(action)[1], rewards)
    env.reset(seed=0)
    assert np.array_equal(env.reset(seed=1)[0][:, width:], goals.reshape(4, -1))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_returned_is_not_changed_by_what_follows(name):
    env = make(name)
    kept = [env.reset(seed=0)[0]]
    for _ in range(2):
        kept += env.step(actions_for(env, rng(1)))[:4]
    copies = [k.copy() for k in kept]
    env.step(actions_for(env, rng(2)))
    env.reset(seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused_with_a_reason(name):
    goals = envs.sample_goals(name, rng(), 3)
    with pytest.raises(ValueError, match="horizon=0"):
        envs.make(name, goals, horizon=0)
    for wrong in (goals[..., None], goals[0], goals[:0]):
        with pytest.raises(ValueError, match="give each environment one"):
            envs.make(name, wrong)
    for bad in (-3.5, np.nan):
        outside = goals.copy()
        outside[1] = bad
        with pytest.raises(
            ValueError, match="of environment 1 is not allowed; use (points|velocities|the directions)"
        ):
            envs.make(name, outside)
    env = envs.make(name, goals, threads=1)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(np.zeros(env.action_space.shape))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="goal"):
        env.set_goals(goals[:2])
    with pytest.raises(ValueError, match="2 seeds came, but there are 3"):
        env.reset(seed=[1, 2])
    for mask in (np.ones(2, bool), np.ones(3)):
        with pytest.raises(ValueError, match=r"must be bool \[3\]"):
            env.reset(seed=0, options={"reset_mask": mask})
    with pytest.raises(ValueError, match="actions have shape"):
        env.step(np.zeros(env.action_space.shape[1]))
    action = np.zeros(env.action_space.shape)
    action[2, 0] = np.nan
    with pytest.raises(ValueError, match="of environment 2 is not finite"):
        env.step(action)


def test_unknown_names_and_modes_are_refused_with_what_there_is():
    made = lambda: envs.make("walker", [1.0])
    for call in (made, lambda: envs.sample_goals("walker", rng(), 1), lambda: envs.GoalEnv("walker")):
        with pytest.raises(ValueError, match="'walker' is unknown; use one of '2d-navigation'"):
            call()
    with pytest.raises(ValueError, match="render_mode='depth'"):
        envs.GoalEnv("2d-navigation", render_mode="depth")
    with pytest.raises(ValueError, match="threads=0"):
        envs.make("half-cheetah-velocity", [1.0], threads=0)
    with pytest.raises(ValueError, match=r"velocities in \[0, 2.0\] m/s"):
        gymnasium.make("mamlkit/HalfCheetahVel-v0", goal=2.5)


@pytest.mark.parametrize("angle", [0.3, 2.0])
def test_navigation_moves_by_a_tenth_and_pays_the_distance(angle):
    goal = 0.4 * np.array([[math.cos(angle), math.sin(angle)]])
    env = envs.make("2d-navigation", goal)
    position = np.zeros(2)
    assert np.array_equal(env.reset(seed=0)[0], [position])
    for action in ([0.5, -1.0], [7.0, 0.25]):
        observation, reward, *_ = env.step(np.array([action]))
        position = position + 0.1 * np.clip(action, -1, 1)
        assert np.allclose(observation[0], position, rtol=0, atol=1e-15)
        assert abs(reward[0] + math.hypot(*(position - goal[0]))) < 1e-15


@pytest.mark.parametrize(
    ("off", "near"),
    [((0.0099, -0.0099), True), ((0.0101, 0.0), False), ((0.0, -0.0101), False), ((-0.0099, 0.0), True)],
)
def test_navigation_terminates_in_a_square_around_the_goal(off, near):
    # (0.0099, 0.0099) is 0.014 away: within the square, though not within a circle of 0.01.
    env = envs.make("2d-navigation", np.array([[0.05, 0.05]]))
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(np.array([0.5, 0.5]) + np.array([off]) * 10)
    assert terminated[0] == near and not truncated[0] and abs(reward[0] + math.hypot(*off)) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_checks_every_environment_without_a_warning(name):
    made = gymnasium.make(envs.ENVIRONMENTS[name].gymnasium_id)
    with warnings.catch_warnings(action="error"):
        check_env(made.unwrapped, skip_render_check=name in ROBOTS)  # whose pictures: below


@pytest.mark.parametrize("name", NAMES)
def test_a_single_environment_is_a_batch_of_one(name):
    (goal,) = envs.sample_goals(name, rng(5), 1)
    single = gymnasium.make(envs.ENVIRONMENTS[name].gymnasium_id, goal=goal, show_goal=True)
    batch = envs.make(name, np.array([goal, goal]), show_goal=True, threads=2)
    observation, info = single.reset(seed=12)
    assert np.array_equal(info["goal"], goal)
    assert np.array_equal(observation, batch.reset(seed=[0, 12])[0][1])
    generator = rng(4)
    for _ in range(30):
        actions = actions_for(batch, generator)
        got, wanted = single.step(actions[1]), batch.step(actions)
        assert np.array_equal(got[0], wanted[0][1]) and got[1:4] == tuple(w[1] for w in wanted[1:4])
    single.reset()
    assert np.array_equal(single.unwrapped.step(actions[1])[4]["goal"], goal)  # it stays


@pytest.mark.parametrize("name", NAMES)
def test_without_a_goal_each_reset_draws_one_that_the_seed_fixes(name):
    one, two = (gymnasium.make(envs.ENVIRONMENTS[name].gymnasium_id) for _ in range(2))
    drawn = [
        [env.reset(seed=3 if i == 0 else None)[1]["goal"].tolist() for i in range(30)] for env in (one, two)
    ]
    assert drawn[0] == drawn[1] and len({str(g) for g in drawn[0]}) > 1


def test_gymnasium_makes_vectors_of_them_too():
    env = gymnasium.make_vec("mamlkit/HalfCheetahDir-v0", num_envs=2, vectorization_mode="sync", goal=-1.0)
    env.reset(seed=5)
    observations, rewards, *_ = env.step(np.zeros((2, 6)))
    batch = envs.make("half-cheetah-direction", [-1.0, -1.0], threads=1)
    batch.reset(seed=[5, 6])
    wanted = batch.step(np.zeros((2, 6)))
    assert np.array_equal(observations, wanted[0]) and np.array_equal(rewards, wanted[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_says_what_it_is(name):
    env = make(name, 3)
    assert repr(env) == f"{type(env).__name__}(num_envs=3)"


def test_the_navigation_picture_shows_path_point_and_goal():
    env = gymnasium.make("mamlkit/Navigation2D-v0", goal=[0.4, -0.4], render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.array([1.0, 1.0]))
    after = env.render()
    assert before.shape == after.shape == (300, 300, 3) and before.dtype == np.uint8
    assert before.std() > 5 and (before != after).any()
    env.unwrapped._batch.set_goals([[-0.4, 0.4]])
    assert (env.render() != after).any()
    assert gymnasium.make("mamlkit/Navigation2D-v0").unwrapped.render() is None


DRAW = """
import warnings, gymnasium, numpy as np
from gymnasium.utils.env_checker import check_env
import mamlkit.rl.envs
for name in ("HalfCheetahVel", "AntDir"):
    env = gymnasium.make(f"mamlkit/{name}-v0", render_mode="rgb_array")
    env.reset(seed=0)
    frames = [env.render()]
    for _ in range(10):
        env.step(np.ones(env.action_space.shape))
    frames.append(env.render())
    moved, fps = (frames[0] != frames[1]).any(), env.metadata["render_fps"]
    print(name, frames[0].shape, frames[0].dtype, frames[0].std() > 5, moved, fps)
    with warnings.catch_warnings(action="error"):
        check_env(env.unwrapped)
    print(env.unwrapped._batch.frame(width=800, height=600).shape)
    env.close()
"""


def draw(backend):
    keep = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")
    }
    return subprocess.run(
        [sys.executable, "-c", DRAW], env=keep | backend, capture_output=True, text=True, timeout=120
    )


def test_the_robots_can_be_drawn_off_screen():
    for name in ("egl", "osmesa"):
        done = draw({"MUJOCO_GL": name})
        if done.returncode == 0:
            break
    else:
        if "MuJoCo cannot draw" in done.stderr or "OpenGL" in done.stderr:
            pytest.skip("neither EGL nor OSMesa can draw here: install libegl1 or libosmesa6")
    assert not done.stderr
    assert done.stdout.splitlines() == [
        "HalfCheetahVel (360, 480, 3) uint8 True True 100",
        "(600, 800, 3)",
        "AntDir (360, 480, 3) uint8 True True 50",
        "(600, 800, 3)",
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere OpenGL needs no display variable")
def test_without_a_display_the_error_says_what_to_set():
    done = draw({})
    assert (
        done.returncode == 1 and "set the environment variable MUJOCO_GL=egl" in done.stderr.splitlines()[-1]
    )
    assert "GLFWError" not in done.stderr
