"""Policies that learn to play bandits: what the training loop trains, and the test of what it gives."""

__all__ = ["LOG_EVERY", "BanditTraining", "bandits_of", "evaluate", "of_strategy"]

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.engine.threads import one_thread
from mamlkit.experiments.bandits import BanditEvaluation, BanditRow
from mamlkit.maml import Params
from mamlkit.rl import bandits, rl2
from mamlkit.runs.seeds import generator

LOG_EVERY = 10
LOG_COLUMNS = ["iteration", "seconds", "return", "entropy", "divergence"]
TRAIN, TEST = 0, 1  # purposes of random numbers
CHUNK = 1000  # bandits that are played at a time in a test


class BanditTraining:
    """A :class:`mamlkit.runs.train.Training` of RL^2: sample trials, then some epochs of PPO.

    All on one CPU thread, so no result depends on their number. Adam's step and what the entropy counts fall
    linearly, by the iteration alone, to zero after the last one.

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation, the bandits and the pulls.
        device: of the networks.
    """

    every, columns = LOG_EVERY, LOG_COLUMNS
    shown: tuple[str, ...] = ("return", "entropy")

    def __init__(self, row: BanditRow, seed: int, device: str | torch.device) -> None:
        self.row, self.seed, self.device = row, seed, torch.device(device)
        begun = rl2.init(row.arms, row.units, generator(seed, "init"))
        self.params: Params = {name: value.to(device) for name, value in begun.items()}
        self._adam = torch.optim.Adam(list(self.params.values()), lr=row.outer_lr)
        self.optimiser: torch.optim.Optimizer | None = self._adam
        self.window: list[Tensor] = []  # mean returns of the iterations
        self.found: dict[str, float] = {}

    def step(self, iteration: int) -> None:
        """One iteration, after so many."""
        row, left = self.row, 1 - iteration / self.row.iterations
        key = _number(self.seed, TRAIN, iteration)
        arms = bandits.sample_arms(key, row.meta_batch_size, row.arms, row.kind)
        draw = generator(self.seed, "train", iteration)
        for group in self._adam.param_groups:
            group["lr"] = row.outer_lr * left
        with one_thread():
            trials = _played(self.params, arms, row.pulls, key, draw, self.device)
            spread, divergence = rl2.update(
                self.params,
                self._adam,
                trials,
                draw,
                arms=row.arms,
                discount=row.discount,
                decay=row.decay,
                epochs=row.epochs,
                minibatches=row.minibatches,
                clip=row.clip,
                entropy=row.entropy * left,
            )
        self.window.append(trials.rewards.sum(1).mean())
        self.found = {"entropy": float(spread), "divergence": float(divergence)}

    def check(self, iteration: int) -> None:
        """Rewards are finite; a loss that is not ends the step itself."""

    def line(self, iteration: int) -> dict[str, float]:
        """The mean total reward of the trials since the last line, and how the last update ended."""
        mean = float(torch.stack(self.window).mean())
        self.window.clear()
        return {"return": mean, **self.found}

    def result(self) -> Params:
        """The policy, in half precision: what is committed, and so what the tests begin with."""
        return {name: value.half() for name, value in rl2.policy_of(self.params).items()}

    def close(self) -> None:
        """Nothing was started."""


def bandits_of(row: BanditRow, evaluation: BanditEvaluation, seed: int = 0) -> NDArray[np.float64]:
    """The bandits of a test, ``[tasks, arms]``: all who play with this seed have the same."""
    return bandits.sample_arms(_number(seed, TEST), evaluation.tasks, row.arms, row.kind)


def evaluate(
    row: BanditRow,
    params: Params,
    evaluation: BanditEvaluation,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    most_probable: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """What a policy gets from the bandits of a test, and what the best arm would have paid more.

    Args:
        row: the experiment the parameters belong to.
        params: of the policy.
        evaluation: so many bandits.
        seed: of bandits, rewards and choices.
        device: of the policy.
        most_probable: pull the most probable arm at each pull, instead of one drawn.

    Returns:
        ``"return"``: the rewards of all pulls, and ``"regret"``: the best arm's probabilities less those of
        the pulled ones, both summed over the trial, ``[tasks, 1]``.

    Raises:
        FloatingPointError: what the policy makes of the parameters is not finite.
    """
    arms, key = bandits_of(row, evaluation, seed), _number(seed, TEST)
    full = {name: value.to(device, torch.float32) for name, value in params.items()}
    if not all(bool(value.isfinite().all()) for value in full.values()):
        raise FloatingPointError(f"{row.name}: the parameters of the policy are not finite")
    draw = generator(seed, "evaluate bandits")
    with one_thread():
        trials = _played(full, arms, row.pulls, key, draw, device, most_probable)
    return _totals(arms, trials.actions.cpu().numpy(), trials.rewards.cpu().numpy())


def of_strategy(
    row: BanditRow, strategy: bandits.Strategy, evaluation: BanditEvaluation, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """As :func:`evaluate`, of a strategy of :mod:`mamlkit.rl.bandits`: the same bandits, the same luck."""
    arms = bandits_of(row, evaluation, seed)
    return _totals(arms, *bandits.play(strategy, arms, row.pulls, _number(seed, TEST)))


def _totals(
    arms: NDArray[np.float64], actions: NDArray[np.int64], rewards: NDArray[np.floating]
) -> dict[str, NDArray[np.float64]]:
    missed = bandits.regret(arms, actions)
    return {"return": rewards.sum(1, keepdims=True).astype(float), "regret": missed.sum(1, keepdims=True)}


def _played(
    params: Params,
    arms: NDArray[np.float64],
    pulls: int,
    key: int,
    draw: torch.Generator,
    device: str | torch.device,
    most_probable: bool = False,
) -> rl2.Trials:
    """Trials of these bandits, whose luck depends on the key alone."""
    on = lambda values: torch.as_tensor(values, dtype=torch.float32, device=device)
    luck, draws = on(bandits.luck(key, len(arms), pulls)), torch.rand(len(arms), pulls, generator=draw)
    parts = zip(*(on(values).split(CHUNK) for values in (arms, luck, draws)), strict=True)
    found = [rl2.sample(params, *part, most_probable=most_probable) for part in parts]
    return rl2.Trials(*map(torch.cat, zip(*found, strict=True)))


def _number(*key: int) -> int:
    """A seed for what is drawn for a purpose, from the run's own."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
