"""Ways to explore a chain, many networks side by side: Figure 4 of Plappert et al. 2018, and a control."""

__all__ = [
    "FAILED",
    "LENGTHS",
    "MIXED_LENGTHS",
    "MIXED_WAYS",
    "WAYS",
    "ChainEvaluation",
    "ChainRow",
    "is_chain",
    "label",
    "name_of",
    "rows",
]

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from mamlkit.experiments.checks import check
from mamlkit.experiments.rows import Experiment, Stepless

LENGTHS = (5, 10, 20, 30, 40)
MIXED_LENGTHS = (4, 6, 8, 10, 12)  # of mixed chains, which are harder
FAILED = 2000  # episodes: who has not solved a chain by then counts as if it had
EXPLORATIONS: tuple[str, ...] = ("none", "epsilon-greedy", "parameter noise")

# A way to explore: its words, and what it changes in the row with adapted noise.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "parameter-noise": ("parameter noise, adapted", {}),
    "parameter-noise-on-q": ("parameter noise on Q itself", {"policy_head": False}),
    "parameter-noise-fixed": ("parameter noise, σ = 0.2 throughout", {"sigma": 0.2, "factor": 1.0}),
    "parameter-noise-no-layer-norm": ("parameter noise, no layer normalisation", {"layer_norm": False}),
    "epsilon-greedy": ("epsilon-greedy", {"exploration": "epsilon-greedy", "policy_head": False}),
    "greedy": ("no exploration", {"exploration": "none", "policy_head": False}),
}

MIXED_WAYS = ("parameter-noise", "parameter-noise-on-q", "epsilon-greedy", "greedy")


def label(length: int) -> str:
    """The name of the test on chains of a length.

    >>> label(20)
    'N=20'
    """
    return f"N={length}"


@dataclass(frozen=True)
class ChainEvaluation(Stepless):
    """What is told of the networks on chains of one length: after how many episodes each has solved it.

    Args:
        name: key of the results.
        length: states of the chain.
        tasks: networks.
    """

    name: str
    length: int
    tasks: int

    def __post_init__(self) -> None:
        check(self, at_least={"length": 3, "tasks": 1})


@dataclass(frozen=True, kw_only=True)
class ChainRow(Experiment):
    """Networks that learn to go along chains (see :mod:`mamlkit.rl.dqn`), each from its own beginning.

    Args:
        name, title, place, evaluations, quick: see :class:`mamlkit.experiments.rows.Experiment`.
        meta_batch_size: networks on each chain, which know nothing of each other.
        iterations: episodes; who has not solved its chain by then has failed.
        lengths: of the chains, in states.
        mixed: whether the action that goes right is drawn anew for each state of each network's chain (see
            :mod:`mamlkit.rl.chain`).
        exploration: ``"none"``, ``"epsilon-greedy"`` or ``"parameter noise"``.
        policy_head: whether a network that imitates the best action of Q acts, and has the noise; else Q.
        layer_norm: whether hidden layers are normalised.
        sigma: standard deviation of the noise at first.
        factor: by which it is adapted, at every step; 1 leaves it as it is.
        units: of each of two hidden layers.
        discount: gamma.
        batch: steps from memory for one step of Adam.
        memory: so many last steps are remembered.
        lag: steps between two copies of Q.
        idle: episodes before anything is learned.
        epsilons: share of random actions at first, and at last. Of parameter noise that share is not played,
            but the divergence that goes with it is wanted.
        falling: episodes over which the share falls.
        in_a_row: so many optimal episodes without noise, one after another, are a solved chain.
        outer_lr: Adam's step.

    Raises:
        ValueError: an unknown exploration, or a number that no run can have.
    """

    lengths: tuple[int, ...]
    exploration: str
    policy_head: bool
    layer_norm: bool = True
    sigma: float = 0.01
    factor: float = 1.01
    units: int = 16
    discount: float = 0.999
    batch: int = 32
    memory: int = 100_000
    lag: int = 100
    idle: int = 5
    epsilons: tuple[float, float] = (1.0, 0.1)
    falling: int = 100
    in_a_row: int = 100
    outer_lr: float = 0.001
    mixed: bool = field(default=False, metadata={"later": True})
    evaluations: tuple[ChainEvaluation, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        ones = ("meta_batch_size", "units", "batch", "memory", "lag", "falling", "in_a_row")
        zeros = ("iterations", "discount", "idle", "epsilons")
        at_least = dict.fromkeys(ones, 1) | dict.fromkeys(zeros, 0) | {"lengths": 3}
        positive, names = ("sigma", "factor", "outer_lr"), {"exploration": EXPLORATIONS}
        check(self, at_least=at_least, positive=positive, shares=("discount", "epsilons"), names=names)
        if len(set(self.lengths)) < len(self.lengths) or max(self.lengths, default=0) > 255:
            raise ValueError(
                f"{self.name}: lengths={self.lengths}, but they must differ, and none be above 255"
            )
        for test in self.evaluations:
            if test.length not in self.lengths or test.tasks != self.meta_batch_size:
                raise ValueError(
                    f"{self.name}: {test.name} is of {test.tasks} networks on {test.length} states, but "
                    f"there are {self.meta_batch_size} (meta_batch_size) on {self.lengths} (lengths)"
                )

    @property
    def metric(self) -> str:
        """What is reported of it: episodes until a chain was solved."""
        return "episodes"

    def epsilon(self, episode: int) -> float:
        """The share of random actions in an episode, counted from 0; it falls linearly and then stays."""
        first, last = self.epsilons
        return first + (last - first) * min(1.0, episode / self.falling)


def is_chain(name: str) -> bool:
    """Whether a row of that name goes along chains."""
    return name.startswith("chain-")


def name_of(way: str, mixed: bool = False) -> str:
    """The name of the row of a way to explore plain or mixed chains.

    >>> name_of("greedy"), name_of("greedy", mixed=True)
    ('chain-greedy', 'chain-mixed-greedy')
    """
    return f"chain-mixed-{way}" if mixed else f"chain-{way}"


def rows() -> list[ChainRow]:
    """A row for each way to explore, with all lengths in it, and for some of them one of mixed chains.

    Deviation: of the chain's settings the paper's text has the task, the observations and what counts as
    solved. The others are those that are known of its appendix at second hand: two layers of 16 units with
    layer normalisation, Adam with 0.001, 32 steps from a memory of 100,000, a discount of 0.999, a copy of Q
    every 100 steps, learning after 5 episodes, epsilon from 1 to 0.1 over 100. Errors are Huber's, and the
    last step of an episode is a last one, as in the authors' code. Initial sigma and factor are those of that
    code, too; a sigma that stays is 0.2, with which the code's policies for continuous actions begin. The
    policy head is a network of its own.
    """
    few, small = 10, (5, 10)
    tests = lambda lengths, count: tuple(ChainEvaluation(label(n), n, count) for n in lengths)
    adapted = ChainRow(
        name="",
        title="",
        place="not in the paper: Plappert et al. 2018, Fig. 4",
        meta_batch_size=few,
        iterations=FAILED,
        lengths=LENGTHS,
        exploration="parameter noise",
        policy_head=True,
        evaluations=tests(LENGTHS, few),
        quick={"lengths": small, "meta_batch_size": 5, "iterations": 300, "evaluations": tests(small, 5)},
    )
    plain = [
        dataclasses.replace(adapted, name=name_of(way), title=f"Chains: {words}", **changes)
        for way, (words, changes) in WAYS.items()
    ]
    mixed = dataclasses.replace(
        adapted,
        place="not in the paper: a control for Plappert et al. 2018",
        mixed=True,
        lengths=MIXED_LENGTHS,
        evaluations=tests(MIXED_LENGTHS, few),
        quick=adapted.quick | {"lengths": (4, 6), "evaluations": tests((4, 6), 5)},
    )
    return plain + [
        dataclasses.replace(
            mixed, name=name_of(way, mixed=True), title=f"Mixed chains: {WAYS[way][0]}", **WAYS[way][1]
        )
        for way in MIXED_WAYS
    ]
