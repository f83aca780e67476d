"""Policies with a memory: what the training loop trains, and the test of what it gives."""

__all__ = [
    "LOG_EVERY",
    "TEST",
    "MemoryTraining",
    "evaluate",
    "has_goals",
    "init",
    "number",
    "of_play",
    "played",
    "tasks_of",
]

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from mamlkit.engine.threads import one_thread
from mamlkit.experiments.bandits import BanditRow
from mamlkit.experiments.memory import MemoryRow
from mamlkit.experiments.trials import TOTALS, TrialRow
from mamlkit.maml import Params
from mamlkit.rl import bandits, memory, rl2, tabular, tabular_play, two_step
from mamlkit.rl.trials import Bandits
from mamlkit.runs.seeds import generator
from mamlkit.runs.steps import OneByOne

LOG_EVERY = 10
LOG_COLUMNS = ["iteration", "seconds", "return", "entropy", "divergence"]
TRAIN, TEST = 0, 1  # purposes of random numbers
GOALS = 0, 0, 5  # behind a key; NumPy fills up with zeros, and start states have two numbers behind it
CHUNK = 1000  # trials that are played at a time


class MemoryTraining(OneByOne):
    """A :class:`mamlkit.runs.trainings.Training` of RL^2: sample trials, then some epochs of PPO.

    All on one CPU thread, so no result depends on their number. Adam's step and what the entropy counts fall
    linearly, by the iteration alone, to zero after the last one, unless the row says that they stay.

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation, the tasks and the trials.
        device: of the networks.
    """

    every, columns = LOG_EVERY, LOG_COLUMNS
    shown: tuple[str, ...] = ("return", "entropy")

    def __init__(self, row: MemoryRow, seed: int, device: str | torch.device) -> None:
        self.row, self.seed, self.device = row, seed, torch.device(device)
        for test in row.evaluations:  # what is wrong there, before hours of training
            _goals_of(row, test)
        self.params: Params = {name: value.to(device) for name, value in init(row, seed).items()}
        self.optimiser = torch.optim.Adam(list(self.params.values()), lr=row.outer_lr)
        self.window = []  # mean returns of the iterations
        self.found: dict[str, float] = {}

    def step(self, iteration: int) -> None:
        """One iteration, after so many."""
        row = self.row
        left = 1 - iteration / row.iterations if row.falling else 1.0
        some = tasks_of(row, number(self.seed, TRAIN, iteration), row.meta_batch_size, self.device)
        draw = generator(self.seed, "train", iteration)
        for group in self.optimiser.param_groups:
            group["lr"] = row.outer_lr * left
        with one_thread():
            parts = played(self.params, some, draw, tell_reward=row.tell_reward)
            trials = memory.Trials(*map(torch.cat, zip(*parts, strict=True)))
            spread, divergence = rl2.update(
                self.params,
                self.optimiser,
                trials,
                draw,
                actions=some[0].actions,
                discount=row.discount,
                decay=row.decay,
                epochs=row.epochs,
                minibatches=row.minibatches,
                clip=row.clip,
                entropy=row.entropy * left,
                tell_reward=row.tell_reward,
            )
        self.window.append(trials.rewards.sum(1).mean())
        self.found = {"entropy": float(spread), "divergence": float(divergence)}

    def line(self, iteration: int) -> dict[str, float]:
        """The mean total reward of the trials since the last line, and how the last update ended."""
        mean = float(torch.stack(self.window).mean())
        self.window.clear()
        return {"return": mean, **self.found}

    def result(self) -> Params:
        """The policy, in half precision: what is committed, and so what the tests begin with."""
        return {name: value.half() for name, value in memory.policy_of(self.params).items()}


def init(row: MemoryRow, seed: int = 0) -> Params:
    """The parameters that a row's training begins with."""
    one = tasks_of(row, 0, 1)[0]
    return memory.init(one.observation, one.actions, row.units, generator(seed, "init"))


def tasks_of(
    row: MemoryRow,
    key: int,
    count: int,
    device: str | torch.device = "cpu",
    goals: NDArray[np.float64] | None = None,
) -> list[memory.Tasks]:
    """Tasks of a row, in parts that are played one after the other.

    Args:
        row: the experiment.
        key: of the tasks and of all that is random in them.
        count: so many.
        device: of what the networks get.
        goals: of an environment that has them, ``[count, ...]``; drawn if None.

    Raises:
        ValueError: it is no row of this module.
    """
    make: Any
    arrays: list[NDArray[Any]]
    if isinstance(row, BanditRow):
        arms = bandits.sample_arms(key, count, row.arms, row.kind)
        make, arrays = Bandits, [arms, bandits.luck(key, count, row.pulls)]
    elif has_goals(row):
        from mamlkit.rl import envs, goal_trials  # imports MuJoCo, which takes its time

        make = partial(
            goal_trials.GoalTrials, environment=row.family, episodes=row.episodes, show_goal=row.show_goal
        )
        if goals is None:
            goals = envs.sample_goals(row.family, np.random.default_rng((key, *GOALS)), count)
        arrays = [goals, np.stack([np.full(count, key), np.arange(count)], 1)]
    elif isinstance(row, TrialRow) and row.family == "two-step":
        make, arrays = two_step.TwoStep, [*two_step.sample(key, count, row.episodes)]
    elif isinstance(row, TrialRow):
        time = row.episodes * tabular.HORIZON
        make, arrays = tabular.Tabular, [*tabular.sample(key, count), *tabular.luck(key, count, time)]
    else:
        raise ValueError(f"{row.name} is a {type(row).__name__}, but must be a BanditRow or a TrialRow")
    parts = zip(*(np.split(each, range(CHUNK, count, CHUNK)) for each in arrays), strict=True)
    return [make(*part, device=device) for part in parts]


def played(
    params: Params, some: Sequence[memory.Tasks], draw: Generator, *, tell_reward: bool
) -> list[memory.Trials]:
    """A trial of each task, in the parts that they come in.

    Args:
        params: of the policy at least.
        some: of :func:`tasks_of`.
        draw: of the actions, on the CPU.
        tell_reward: see :func:`mamlkit.rl.memory.sample`.
    """
    begun = [part.begin() for part in some]
    noise = some[0].actions.noise(sum(map(len, begun)), some[0].time, draw).to(begun[0])
    parts = zip(some, noise.split([len(each) for each in begun]), strict=True)
    return [memory.sample(params, tasks, each, tell_reward=tell_reward) for tasks, each in parts]


def evaluate(
    row: MemoryRow, params: Params, evaluation: Any, *, seed: int = 0, device: str | torch.device = "cpu"
) -> dict[str, NDArray[np.float64]]:
    """What a policy gets from the tasks of a test.

    Args:
        row: the experiment the parameters belong to.
        params: of the policy.
        evaluation: so many tasks.
        seed: of tasks, all that is random in them, and choices.
        device: of the policy.

    Returns:
        What the tasks measure (see :meth:`mamlkit.rl.memory.Tasks.measured`), ``[tasks, entries]``.

    Raises:
        ValueError: the test wants more goals than there are.
        FloatingPointError: what the policy makes of the parameters is not finite.
    """
    full = {name: value.to(device, torch.float32) for name, value in params.items()}
    if not all(bool(value.isfinite().all()) for value in full.values()):
        raise FloatingPointError(f"{row.name}: the parameters of the policy are not finite")
    repeats, goals = getattr(evaluation, "repeats", 1), _goals_of(row, evaluation)
    if goals is not None:
        goals = np.repeat(goals, repeats, 0)
    some = tasks_of(row, number(seed, TEST), evaluation.tasks * repeats, device, goals)
    with one_thread():
        draw = generator(seed, "evaluate bandits")
        trials = played(full, some, draw, tell_reward=row.tell_reward)
    found = [part.measured(each) for part, each in zip(some, trials, strict=True)]
    whole = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return {name: v.reshape(-1, repeats, v.shape[1]).mean(1) for name, v in whole.items()}


def _goals_of(row: MemoryRow, evaluation: Any) -> NDArray[np.float64] | None:
    """The goals that a test takes, where tasks have some; ``ValueError`` if it takes more than there are."""
    if not has_goals(row):
        return None
    from mamlkit.runs.policies import goals_of  # imports MuJoCo, which takes its time

    return goals_of(row.family, evaluation)


def has_goals(row: MemoryRow) -> TypeGuard[TrialRow]:
    """Whether the tasks of a row are those of an environment, and its test goals the paper's."""
    return isinstance(row, TrialRow) and row.family not in TOTALS


def of_play(
    row: TrialRow, strategy: tabular_play.Strategy, evaluation: Any, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """As :func:`evaluate`, of a way to play small Markov decision processes: the same ones, the same luck.

    Args:
        row: whose processes are played.
        strategy: see :mod:`mamlkit.rl.tabular_play`.
        evaluation: so many tasks.
        seed: of all that is random.

    Raises:
        ValueError: it is a row of other tasks.
    """
    found: list[dict[str, NDArray[np.float64]]] = []
    for index, part in enumerate(tasks_of(row, number(seed, TEST), evaluation.tasks)):
        if not isinstance(part, tabular.Tabular):
            raise ValueError(f"{row.name} has tasks of {row.family}, but the strategy is for 'tabular'")
        found.append(part.measured(tabular_play.play(strategy, part, number(seed, TEST, index))))
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def number(*key: int) -> int:
    """A seed for what is drawn for a purpose, from the run's own."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
