"""Networks that learn to go along chains: what the training loop trains, and what is told of them."""

__all__ = ["LOG_EVERY", "ChainTraining", "evaluate", "told"]

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from mamlkit.engine.threads import one_thread
from mamlkit.experiments.chains import ChainEvaluation, ChainRow
from mamlkit.maml import Params
from mamlkit.rl import chain, dqn, parameter_noise
from mamlkit.rl.side_by_side import Networks
from mamlkit.runs.seeds import generator
from mamlkit.runs.steps import OneByOne

LOG_EVERY = 50
ACTIONS = 2


class _Draws(NamedTuple):
    """The random numbers of an episode: time first, then members."""

    begin: Tensor  # the noise of the episode, [members, numbers]
    luck: Tensor  # whether an action is random, [time, members]
    actions: Tensor  # random ones, [time, members]
    memory: Tensor  # which steps are remembered, uniform numbers [time, members, batch]
    again: Tensor  # noise with which the distance is measured, [time, members, numbers]


class OneLength:
    """All networks on the chain of one length. What changes is in ``params``, the memory included.

    Args:
        row: the experiment.
        seed: of the run.
        length: of the chain.
        device: where to compute.
    """

    def __init__(self, row: ChainRow, seed: int, length: int, device: torch.device) -> None:
        self.row, self.seed, self.length, self.device = row, seed, length, device
        self.time, self.members = chain.steps(length), range(row.meta_batch_size)
        self.networks = Networks((length, row.units, row.units, ACTIONS), row.layer_norm)
        self.noisy = parameter_noise.noisy(self.networks).to(device)
        draws = [self._generator("init", member) for member in self.members]
        count, room = len(self.members), row.iterations * self.time
        self.q = self.networks.init(draws).to(device)
        self.lagging = self.q.clone()
        self.policy = self.networks.init(draws).to(device) if row.policy_head else None
        self.sigma = torch.full((count,), row.sigma, device=device)
        self.optimal, self.episodes = (torch.zeros(count, dtype=torch.int64, device=device) for _ in range(2))
        self.states, self.actions = (
            torch.zeros(count, room, dtype=torch.uint8, device=device) for _ in range(2)
        )
        self.leaves = {"q": self.q} | ({} if self.policy is None else {"policy": self.policy})
        for leaf in self.leaves.values():
            leaf.requires_grad_(True)
        self.adam = torch.optim.Adam(
            list(self.leaves.values()), lr=row.outer_lr, fused=device.type in ("cpu", "cuda")
        )
        for leaf in self.leaves.values():  # here and not at the first step, so that they can be loaded
            zeros = {key: torch.zeros_like(leaf, requires_grad=False) for key in ("exp_avg", "exp_avg_sq")}
            self.adam.state[leaf] = {"step": torch.zeros((), device=device)} | zeros
        self.table = chain.observations(length).to(device)
        self.everyone = torch.arange(count, device=device)[:, None]
        goes = lambda member: chain.mixed(length, self._generator("mixed", member))
        rights = [goes(m) if row.mixed else torch.full((length,), chain.RIGHT) for m in self.members]
        self.right = torch.stack(rights).to(device)  # which action goes right, [members, states]

    @property
    def params(self) -> Params:
        """All that changes, by name."""
        moments = {
            f"{name}/{key}": value
            for name, leaf in self.leaves.items()
            for key, value in self.adam.state[leaf].items()
        }
        counts = {"sigma": self.sigma, "optimal": self.optimal, "episodes": self.episodes}
        memory = {"states": self.states, "actions": self.actions}
        return self.leaves | moments | {"lagging": self.lagging} | counts | memory

    @property
    def acting(self) -> Tensor:
        """The parameters of the networks that act, without noise."""
        return self.q if self.policy is None else self.policy

    @property
    def done(self) -> bool:
        """Whether all have solved their chain."""
        return bool((self.episodes > 0).all())

    def episode(self, number: int) -> float:
        """Play an episode, learning at each step; then one without noise. Gives the share of optimal ones.

        Args:
            number: of the episode, counted from 0.
        """
        row, draws, noisy = self.row, self._draws(number), self.row.exploration == "parameter noise"
        epsilon, acting = row.epsilon(number), self.acting
        if noisy:
            with torch.no_grad():
                acting = self._with_noise(draws.begin)
        state = torch.full((len(self.members),), chain.START, device=self.device)
        for time in range(self.time):
            now = number * self.time + time
            with torch.no_grad():
                action = self.networks.outputs(acting, self.table[state][:, None])[:, 0].argmax(-1)
            if row.exploration == "epsilon-greedy":
                action = torch.where(draws.luck[time] < epsilon, draws.actions[time], action)
            self.states[:, now], self.actions[:, now] = state, action
            state, _ = self._moved(state[:, None], action[:, None])
            state = state[:, 0]
            if number >= row.idle:
                batch = self._remembered(draws.memory[time], now + 1)
                self._learn(batch)
                if noisy and row.factor != 1:
                    self._adapt(batch.seen, draws.again[time], epsilon)
                if (now + 1) % row.lag == 0:
                    self.lagging.copy_(self.q.detach())
        return self._played_without_noise(number)

    def _played_without_noise(self, number: int) -> float:
        with torch.no_grad():
            everywhere = self.table.expand(len(self.members), -1, -1)
            done = self.networks.outputs(self.acting, everywhere).argmax(-1)
        optimal = chain.is_optimal(done, self.right)
        self.optimal.copy_((self.optimal + 1) * optimal)
        solved = (self.optimal >= self.row.in_a_row) & (self.episodes == 0)
        self.episodes[solved] = number + 1
        return float(optimal.float().mean())

    def _remembered(self, draws: Tensor, count: int) -> dqn.Batch:
        """Some of the last steps, of which there are so many."""
        first = max(0, count - self.row.memory)
        index = first + (draws * (count - first)).long().clamp(max=count - first - 1)
        state, action = (part[self.everyone, index].long() for part in (self.states, self.actions))
        after, rewards = self._moved(state, action)
        ended = index % self.time == self.time - 1
        return dqn.Batch(self.table[state], action, rewards, self.table[after], ended)

    def _moved(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's states and rewards after some actions in its own chain, ``[members, points]``."""
        return chain.move(states, actions, self.length, self.right[self.everyone, states])

    def _learn(self, batch: dqn.Batch) -> None:
        discount, leaves = self.row.discount, list(self.leaves.values())
        loss = dqn.losses(self.networks, self.q, self.policy, self.lagging, batch, discount).sum()
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        self.adam.step()

    @torch.no_grad()
    def _adapt(self, seen: Tensor, noise: Tensor, epsilon: float) -> None:
        """Change sigma by how far a copy with new noise is from the policy, on these observations."""
        logits, others = (self.networks.outputs(by, seen) for by in (self.acting, self._with_noise(noise)))
        distance = parameter_noise.kl(logits, others)
        wanted = parameter_noise.threshold(epsilon, ACTIONS)
        self.sigma.copy_(parameter_noise.rescaled(self.sigma, distance, wanted, self.row.factor))

    def _with_noise(self, noise: Tensor) -> Tensor:
        return parameter_noise.perturbed(self.acting, noise, self.sigma, self.noisy)

    def _draws(self, number: int) -> _Draws:
        """Each member has its own, so that it does not matter who is beside it."""
        row, time, numbers = self.row, self.time, 0
        if row.exploration == "parameter noise":
            numbers = self.acting.shape[1]
        again = numbers if row.factor != 1 else 0
        parts = []
        for member in self.members:
            draw = self._generator("episode", member, number)
            begin, luck = torch.randn(numbers, generator=draw), torch.rand(time, generator=draw)
            actions = torch.randint(ACTIONS, (time,), generator=draw)
            memory = torch.rand(time, row.batch, generator=draw)
            parts.append((begin, luck, actions, memory, torch.randn(time, again, generator=draw)))
        begun, *others = zip(*parts, strict=True)
        found = [torch.stack(begun), *(torch.stack(part, 1) for part in others)]
        return _Draws(*(part.to(self.device) for part in found))

    def _generator(self, purpose: str, member: int, index: int = 0) -> Generator:
        return generator(self.seed, f"chain {self.length}, member {member}, {purpose}", index)


class ChainTraining(OneByOne):
    """A :class:`mamlkit.runs.trainings.Training` of networks on chains; an iteration is an episode of all.

    All on one CPU thread, so no result depends on their number. Once all networks have solved the chain of a
    length, nothing is done there any more.

    Args:
        row: the experiment, at either scale.
        seed: of the initial values and the episodes.
        device: where to compute.
    """

    every = LOG_EVERY
    shown: tuple[str, ...] = ("optimal", "solved")

    def __init__(self, row: ChainRow, seed: int, device: str | torch.device) -> None:
        self.row = row
        self.chains = [OneLength(row, seed, length, torch.device(device)) for length in row.lengths]
        self.params: Params = {
            f"{one.length}/{name}": value for one in self.chains for name, value in one.params.items()
        }
        self.optimiser = None  # each chain's has its moments in the parameters
        self.columns = ["iteration", "seconds", "optimal", "solved"]
        self.columns += [f"{what} {length}" for what in ("solved", "sigma") for length in row.lengths]
        self.window = []  # share of optimal episodes without noise

    def step(self, iteration: int) -> None:
        """One episode of every network, after so many."""
        with one_thread():
            found = [1.0 if one.done else one.episode(iteration) for one in self.chains]
        self.window.append(torch.tensor(found).mean())

    def line(self, iteration: int) -> dict[str, float]:
        """Episodes that were optimal, networks that have solved their chain, and the median of sigma."""
        found = {"optimal": float(torch.stack(self.window).mean())}
        self.window.clear()
        solved = [float((one.episodes > 0).float().mean()) for one in self.chains]
        found["solved"] = sum(solved) / len(solved)
        for one, share in zip(self.chains, solved, strict=True):
            found[f"solved {one.length}"] = share
            if self.row.exploration == "parameter noise":
                found[f"sigma {one.length}"] = float(one.sigma.median())
        return found

    def result(self) -> Params:
        """After how many episodes each network has solved its chain, 0 where it has not: all that is kept."""
        return {told(one.length): one.episodes.float() for one in self.chains}


def told(length: int) -> str:
    """The name in :meth:`ChainTraining.result` of what is told of a length."""
    return f"episodes {length}"


def evaluate(row: ChainRow, params: Params, evaluation: ChainEvaluation) -> dict[str, NDArray[np.float64]]:
    """Episodes until each network has solved its chain: no new ones are played, since training is the test.

    Args:
        row: the experiment the parameters belong to.
        params: what :meth:`ChainTraining.result` gives.
        evaluation: which chain.

    Returns:
        ``"episodes"``, ``[networks, 1]``; the row's iterations where it was not solved.
    """
    found = params[told(evaluation.length)].double().cpu().numpy()
    return {"episodes": np.where(found > 0, found, row.iterations)[:, None]}
