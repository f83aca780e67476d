"""Batches of environments among threads, in forked children, as copies, and seeded as Gymnasium's own are."""

import copy
import gc
import math
import pickle
import threading

import gymnasium
import numpy as np
import pytest

from forked import forks, in_a_child
from mamlkit.rl import envs
from mamlkit.rl.batched import Batched
from mamlkit.rl.navigation import Navigation
from mamlkit.rl.robot import Locomotion
from test_envs import NAMES, actions_for, make, rng

ROBOTS = ["half-cheetah-velocity", "ant-direction"]


def steps(env, count=3, seed=0):
    """What some random steps give, all together."""
    generator = rng(seed)
    return np.concatenate(
        [np.ravel(part) for _ in range(count) for part in env.step(actions_for(env, generator))[:4]]
    )


@pytest.mark.parametrize("name", NAMES)
def test_resets_after_a_seed_repeat_and_depend_on_ones_own_seed(name):
    one, other, fewer = make(name, 3), make(name, 3), make(name, 1)
    for seed in (5, [5, 6, 7]):
        found = [[env.reset(seed=seed)[0], env.reset()[0], env.reset()[0]] for env in (one, other)]
        assert np.array_equal(*found)
    alone = [fewer.reset(seed=[7])[0], fewer.reset()[0], fewer.reset(seed=[None])[0]]
    assert np.array_equal([each[2] for each in found[0]], [each[0] for each in alone])
    if issubclass(envs.ENVIRONMENTS[name].family, Locomotion):  # else the start may be a point
        assert len({each.tobytes() for each in found[0]}) == 3
        fresh = [make(name, 3).reset()[0].tobytes() for _ in range(2)]
        assert fresh[0] != fresh[1]


def test_a_masked_reset_goes_on_with_the_seeds_of_those_it_resets():
    env, twin = make("half-cheetah-velocity", 3), make("half-cheetah-velocity", 3)
    for each in (env, twin):
        each.reset(seed=5)
    second = twin.reset()[0]
    mask = np.array([False, True, False])
    env.reset(options={"reset_mask": mask})
    assert np.array_equal(env.reset(options={"reset_mask": ~mask})[0], second)


def test_seeds_are_those_of_gymnasiums_own_vectors():
    ours = make("half-cheetah-direction", 3)
    theirs = gymnasium.make_vec("mamlkit/HalfCheetahDir-v0", num_envs=3, vectorization_mode="sync")
    assert np.array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    found = [[theirs.reset(seed=5)[0], theirs.reset()[0]] for _ in range(2)]
    assert np.array_equal(*found)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused_and_nothing_is_reset(name):
    env, single = make(name, 3), envs.GoalEnv(name)
    env.reset(seed=5, options={})
    before = env.step(np.ones(env.action_space.shape))[0]
    with pytest.raises(ValueError, match="options have 'mask', but 'reset_mask' is all that is known"):
        env.reset(seed=5, options={"mask": np.array([True, False, False]), "reset_mask": np.ones(3, bool)})
    assert np.array_equal(env.reset(options={"reset_mask": np.zeros(3, bool)})[0], before)
    single.reset(seed=5, options={})
    with pytest.raises(ValueError, match="options have 'goal', but none is known"):
        single.reset(options={"goal": 1.0})


def test_every_place_that_navigation_reaches_is_in_its_space():
    longest = 403
    goals = np.array([[0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    env = envs.make("2d-navigation", goals, horizon=longest)
    env.reset(seed=0)
    away = -np.sign(goals)
    for horizon in range(1, longest + 1):
        place = env.step(away)[0]
        space = envs.make("2d-navigation", goals, horizon=horizon).observation_space
        assert space.contains(place), horizon
        assert horizon < 6 or space.high[0, 0] == np.abs(place).max()
    oracle = envs.make("2d-navigation", np.array([[-0.5, -0.5]]), horizon=15, show_goal=True)
    oracle.reset(seed=0)
    for _ in range(15):
        observation = oracle.step(np.ones((1, 2)))[0]
    assert observation[0].tolist() == [1.5000000000000002] * 2 + [
        -0.5
    ] * 2 and oracle.observation_space.contains(observation)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_goes_on_by_itself(name, duplicate):
    env = make(name, 3, show_goal=True)
    env.reset(seed=0)
    steps(env)
    twin, third = duplicate(env), duplicate(env)
    wanted = steps(env, seed=1)
    assert np.array_equal(steps(twin, seed=1), wanted)
    env.close()
    assert np.array_equal(steps(third, seed=1), wanted)  # it has not been moved by the others
    assert np.array_equal(third.reset()[0], twin.reset()[0]) and np.array_equal(third.goals, twin.goals)
    single = envs.GoalEnv(name)
    single.reset(seed=4)
    other = duplicate(single)
    action = np.ones(single.action_space.shape)
    assert all(
        np.array_equal(a, b) for a, b in zip(single.step(action)[:4], other.step(action)[:4], strict=True)
    )
    assert np.array_equal(single.reset()[0], other.reset()[0])


@pytest.mark.parametrize("name", NAMES)
def test_two_threads_in_one_batch_are_refused_by_name(name):
    env, found = make(name, 3), []
    env.reset(seed=0)
    entered, leave, advance = threading.Event(), threading.Event(), env._advance

    def slow(*args):
        entered.set()
        leave.wait()
        return advance(*args)

    env._advance = slow
    worker = threading.Thread(target=lambda: found.append(env.step(np.zeros(env.action_space.shape))))
    calls = {
        "step": lambda: env.step(np.zeros(env.action_space.shape)),
        "reset": lambda: env.reset(seed=0),
        "set_goals": lambda: env.set_goals(env.goals),
        "frame": lambda: env.frame(),
        "close": lambda: env.close(),
    }
    worker.start()
    try:
        assert entered.wait(60)
        for method, call in calls.items():
            with pytest.raises(
                RuntimeError,
                match=rf"{method}\(\) came while another thread uses these environments; give each",
            ):
                call()
    finally:
        leave.set()  # else a failure would leave a thread for which pytest waits
    worker.join()
    twin = make(name, 3)
    twin.reset(seed=0)
    assert np.array_equal(found[0][0], twin.step(np.zeros(env.action_space.shape))[0])
    env.step(np.zeros(env.action_space.shape))  # whoever comes afterwards is welcome
    env.close()


def test_many_threads_in_one_batch_crash_nothing():
    env, refused = make("ant-direction", 30, horizon=10_000), []
    env.reset(seed=0)

    def work():
        for _ in range(30):
            try:
                env.step(np.zeros(env.action_space.shape))
            except RuntimeError as error:
                refused.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for each in (threading.Thread.start, threading.Thread.join):
        for worker in workers:
            each(worker)
    assert env._elapsed.max() == 90 - len(refused) and all("another thread uses" in text for text in refused)


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**7])
@pytest.mark.parametrize("name", NAMES)
def test_a_number_of_threads_that_cannot_be_meant_is_refused(name, threads):
    goals = envs.sample_goals(name, rng(), 1)
    with pytest.raises(ValueError, match=f"threads={threads}, but whole numbers from 1 to 1024 are allowed"):
        envs.make(name, goals, threads=threads)


@forks
@pytest.mark.parametrize("name", ROBOTS)
def test_a_child_steps_what_was_made_before_the_fork(name):
    env = envs.make(name, envs.sample_goals(name, rng(), 20), threads=2)
    env.reset(seed=0)
    steps(env, 1)
    twin = copy.deepcopy(env)
    found = in_a_child(lambda: (steps(env), env.close(), math.isfinite(steps(copy.deepcopy(twin)).sum())))
    assert np.array_equal(found[0], steps(twin)) and found[1:] == (None, True)
    assert np.array_equal(found[0], steps(env))


@forks
def test_a_child_may_forget_what_was_made_before_the_fork():
    boxes = [envs.make("half-cheetah-velocity", np.ones(20), threads=2)]
    boxes[0].reset(seed=0)

    def forget():
        boxes.clear()
        return gc.collect() >= 0

    assert in_a_child(forget)


def test_a_shallow_copy_is_a_batch_of_its_own_too():
    env = make("half-cheetah-velocity", 2)
    before, _ = env.reset(seed=0)
    steps(copy.copy(env))
    assert np.array_equal(env._observations, before)


def test_a_seed_that_is_none_leaves_the_others():
    env = make("half-cheetah-velocity", 2)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    with pytest.raises(ValueError, match="non-negative"):
        env.reset(seed=[5, -1])
    assert np.array_equal(env.reset()[0], twin.reset()[0])


@pytest.mark.parametrize("name", ["2d-navigation", "half-cheetah-velocity"])
@pytest.mark.parametrize("horizon", [0, -1, 2.5])
def test_a_horizon_is_a_whole_number_of_steps(name, horizon):
    goals = envs.sample_goals(name, np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match=f"horizon={horizon}, but an episode has a whole number of steps"):
        envs.make(name, goals, horizon=horizon)


def points(family, count=3):
    goals = envs.sample_goals("2d-navigation", rng(), count)
    return family(envs.ENVIRONMENTS["2d-navigation"].goals, goals)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seen, paid, ended: (seen[0], paid, ended), r"the shapes \[2\], \[3\], \[3\], but"),
        (lambda seen, paid, ended: (seen, paid[:, None], ended), r"\[3, 2\], \[3, 1\], \[3\], but"),
        (lambda seen, paid, ended: (seen, -1.0, ended), r"\[3, 2\], \[\], \[3\], but"),
        (lambda seen, paid, ended: (seen, paid, False), r"\[3, 2\], \[3\], \[\], but"),
        (lambda seen, paid, ended: (seen, paid, ended, ended), r"must give observations \[3, 2\], rewards "),
        (lambda seen, paid, ended: None, r"the shapes \[\], but .* rewards \[3\], ends \[3\]: a row for"),
    ],
)
def test_a_step_of_another_shape_is_refused_and_never_broadcast(change, message):
    class Faulty(Navigation):
        def _advance(self, rows, actions):
            return change(*super()._advance(rows, actions))

    env = points(Faulty)
    before, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"Faulty\._advance\(\) gave .*{message}"):
        env.step(np.ones((3, 2)))
    assert np.array_equal(env._observations, before)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_a_step_that_is_not_finite_names_environment_and_number(part, number):
    class Faulty(Navigation):
        def _advance(self, rows, actions):
            found = super()._advance(rows, actions)
            found[part][1] = number
            return found

    env = points(Faulty)
    env.reset(seed=0)
    env._truncated[0] = True  # it takes no part, so the second of those that do is number 2
    name = ("observations", "rewards")[part]
    with pytest.raises(FloatingPointError, match=rf"_advance\(\) gave environment 2 the {name} .*{number}"):
        env.step(np.ones((3, 2)))


def test_a_start_of_another_shape_is_refused():
    class Faulty(Navigation):
        def _start(self, rows, rngs):
            return super()._start(rows, rngs)[0]

    with pytest.raises(
        ValueError, match=r"Faulty\._start\(\) gave the shapes \[2\], but .* observations \[3, 2\]"
    ):
        points(Faulty).reset(seed=0)


def test_a_family_that_lacks_a_part_is_told_which():
    class Bare(Batched):
        def __init__(self, task, goals):
            sizes = {"observation": 2, "action": 2, "bound": 1.0}
            super().__init__(task, goals, horizon=5, show_goal=False, **sizes)

    env = points(Bare)
    calls = {"_start": env.reset, "_advance": lambda: env._advance(None, None), "frame": env.frame}
    for method, call in calls.items():
        with pytest.raises(NotImplementedError, match=rf"Bare has no {method}\(\) of its own; define it, as"):
            call()
