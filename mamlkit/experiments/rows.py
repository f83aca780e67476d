"""What an experiment is: its settings, and how it is tested.

The experiments themselves are in :mod:`mamlkit.experiments.paper`.
"""

__all__ = [
    "DIRECTIONS",
    "PHYSICS",
    "POLICY_ACTIVATIONS",
    "POLICY_METHODS",
    "SCALES",
    "Evaluation",
    "Experiment",
    "PolicyEvaluation",
    "PolicyRow",
    "Row",
    "Stepless",
    "as_stored",
]

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Self

from mamlkit.experiments.checks import check, check_headline, check_quick, check_tests

SCALES = ("quick", "paper")
POLICY_METHODS = ("maml", "maml, ratios", "maml, first order", "trpo", "policy gradient")
POLICY_ACTIVATIONS = ("relu", "tanh")
DIRECTIONS = ("half-cheetah-direction", "ant-direction")  # the environments whose goals are directions
# Named changes of a robot's model; mamlkit.rl.physics says what each does, and why.
PHYSICS = ("pgs", "elliptic cones", "linear impedance", "explicit damping")


def as_stored(settings: Any) -> dict[str, Any]:
    """A dataclass as a result file has it: tuples become lists, fields of later date show when set."""
    stored = json.loads(json.dumps(dataclasses.asdict(settings)))
    for each in dataclasses.fields(settings):  # results from before a field was there have not got it
        if each.metadata.get("later") and getattr(settings, each.name) == each.default:
            del stored[each.name]
    return stored


@dataclass(frozen=True)
class Evaluation:
    """How a trained initialisation is tested.

    Args:
        name: key of the published values and of the results, e.g. ``"K=5"``.
        shots: support examples per class, or points.
        queries: query examples per class, or points.
        inner_lr: alpha at test time (the baselines have a tuned one).
        inner_steps: gradient steps followed; the curve has one more entry.
        headline_step: the step that the paper reports.
        tasks: test tasks.
        transductive: whether a task's queries are normalised together (see
            :class:`mamlkit.methods.Learner`).
    """

    name: str
    shots: int
    queries: int
    inner_lr: float
    inner_steps: int = 10
    headline_step: int = 10
    tasks: int = 600
    transductive: bool = field(default=True, metadata={"later": True})

    def __post_init__(self) -> None:
        ones, zeros = ("shots", "queries", "tasks"), ("inner_lr", "inner_steps", "headline_step")
        check(self, at_least=dict.fromkeys(ones, 1) | dict.fromkeys(zeros, 0))
        check_headline(self, "inner_steps")


@dataclass(frozen=True)
class PolicyEvaluation:
    """How a trained policy is tested: on the paper's 40 goals, with fresh rollouts before each gradient step.

    Args:
        name: key of the published values and of the results.
        rollouts: episodes (of full length) for a gradient step and for a return.
        inner_lrs: alpha of each step; none for a policy that is told its task.
        headline_step: the step that the paper's text speaks of.
        tasks: test goals.
    """

    name: str
    rollouts: int
    inner_lrs: tuple[float, ...]
    headline_step: int = 1
    tasks: int = 40

    def __post_init__(self) -> None:
        check(self, at_least={"rollouts": 1, "inner_lrs": 0, "headline_step": 0, "tasks": 1})
        check_headline(self, "inner_lrs")

    @property
    def inner_steps(self) -> int:
        """Gradient steps followed; the curve has one more entry."""
        return len(self.inner_lrs)


class Stepless:
    """A test without gradient steps: its curve has entries instead, such as later episodes."""

    entries = 1

    @property
    def inner_steps(self) -> int:
        """One less than the curve has entries."""
        return self.entries - 1

    @property
    def headline_step(self) -> int:
        """The last one."""
        return self.entries - 1


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What every row has, whatever it trains.

    Args:
        name: its key, and its name on the command line.
        title: what a reader sees.
        place: where the paper has it.
        meta_batch_size: tasks per outer update; 1 where each episode has a goal of its own.
        iterations: outer updates; 0 leaves the random initialisation.
        evaluations: how it is tested.
        quick: what the quick scale changes.
    """

    name: str
    title: str
    place: str
    meta_batch_size: int
    iterations: int
    evaluations: tuple[Any, ...] = ()
    quick: dict[str, Any] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """What the paper reports of it."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the trained parameters: all but the names, the tests and the quick scale."""
        others = ("name", "title", "place", "evaluations", "quick")
        return {k: v for k, v in as_stored(self).items() if k not in others}

    @property
    def fingerprint(self) -> str:
        """Hash of :attr:`settings`; a committed result with another one is stale."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def __post_init__(self) -> None:
        check_tests(self)
        check_quick(self)

    def at(self, scale: str) -> Self:
        """This row at a scale: ``"paper"`` is the row itself, ``"quick"`` the same with other sizes."""
        if scale not in SCALES:
            raise ValueError(f"scale={scale!r}, but the scales are {' and '.join(map(repr, SCALES))}")
        return self if scale == "paper" else dataclasses.replace(self, **self.quick)


@dataclass(frozen=True, kw_only=True)
class Row(Experiment):
    """One experiment: a task family, a network, a method and their numbers.

    Args:
        name, title, place, meta_batch_size, iterations, evaluations, quick: see :class:`Experiment`.
        family: a key of ``mamlkit.tasks.FAMILIES``.
        network: a key of ``mamlkit.models.NETWORKS`` and its arguments.
        method: a key of ``mamlkit.methods.METHODS``.
        loss: a key of ``mamlkit.methods.LOSSES``.
        inner_lr, inner_steps: alpha and the steps of the inner update in meta-training.
        ways, shots, queries: classes of a task; support and query examples per class (or points).
        outer_lr: beta, the step of the outer update.
        clip: bound of each component of the meta-gradient, or None.
        outer: the outer update: ``"adam"``; ``"adam, cosine"``, whose rate falls from ``outer_lr`` along half
            a cosine, as MAML++ has it (Antoniou et al. 2019; see :mod:`mamlkit.runs.rates`); or
            ``"descent, falling"``, a step along the meta-gradient whose rate falls from ``outer_lr`` to 0 in
            equal parts, as Reptile has it (Nichol et al. 2018).

    Raises:
        ValueError: a number that no run can have, and a change of the quick scale that is no field.
    """

    family: str
    network: tuple[str, dict[str, Any]]
    method: str
    loss: str
    inner_lr: float
    inner_steps: int
    ways: int
    shots: int
    queries: int
    outer_lr: float = 0.001
    clip: float | None = None
    outer: str = field(default="adam", metadata={"later": True})
    evaluations: tuple[Evaluation, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (outputs := self.network[1].get("ways", self.ways)) != self.ways:
            raise ValueError(f"{self.name}: ways={self.ways}, but the network tells {outputs} classes apart")
        ones = ("ways", "shots", "queries", "meta_batch_size")
        at_least = dict.fromkeys(ones, 1) | {"inner_lr": 0, "inner_steps": 0, "iterations": 0}
        names: dict[str, tuple[str, ...]] = {"outer": ("adam", "adam, cosine", "descent, falling")}
        check(self, at_least=at_least, positive=("outer_lr", "clip"), names=names)

    @property
    def metric(self) -> str:
        """What the paper reports of it."""
        return "mse" if self.loss == "mse" else "accuracy"


@dataclass(frozen=True, kw_only=True)
class PolicyRow(Experiment):
    """One reinforcement-learning experiment.

    Args:
        name, title, place, meta_batch_size, iterations, evaluations, quick: see :class:`Experiment`.
        environment: a key of ``mamlkit.rl.envs.ENVIRONMENTS``.
        method: ``"maml"``; ``"maml, ratios"`` and ``"maml, first order"``, the same with another curvature of
            the inner loss (see :mod:`mamlkit.rl.maml_rl`); ``"trpo"`` without any adaptation in training,
            goals drawn for every episode; or ``"policy gradient"``, the same by Adam on the tasks' mean
            policy gradient.
        show_goal: whether the observation holds the goal (the oracle).
        inner_lr: alpha in meta-training.
        rollouts: episodes (of full length) per task and gradient.
        max_kl: TRPO's bound of the divergence.
        outer_lr: Adam's step of ``"policy gradient"``.
        activation: of the policy's two hidden layers of 100.
        discount: gamma.
        baseline_clip: bound of the observations in the baseline's features, or None.
        forward: share of the goals in training that are forward, of an environment in :data:`DIRECTIONS`;
            test goals are those of the paper in any case.
        physics: changes of the robot's model in training and tests, of :data:`PHYSICS`.
        context: numbers of a vector among the policy's inputs, which is then all that the inner step moves;
            0 for none.

    Raises:
        ValueError: an unknown method, activation or change of the model, a number that no run can have, and
            what an environment does not have: directions, or a model.
    """

    environment: str
    method: str
    show_goal: bool
    inner_lr: float
    rollouts: int
    max_kl: float = 0.01
    outer_lr: float = 0.001
    activation: str = "relu"
    discount: float = 0.99
    baseline_clip: float | None = 10.0
    forward: float = field(default=0.5, metadata={"later": True})
    physics: tuple[str, ...] = field(default=(), metadata={"later": True})
    context: int = field(default=0, metadata={"later": True})
    evaluations: tuple[PolicyEvaluation, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least = {"inner_lr": 0, "meta_batch_size": 1, "rollouts": 1, "iterations": 0, "discount": 0}
        at_least["context"] = 0
        names = {"method": POLICY_METHODS, "activation": POLICY_ACTIVATIONS, "physics": PHYSICS}
        positive = ("max_kl", "outer_lr", "baseline_clip")
        check(self, at_least=at_least, positive=positive, shares=("discount", "forward"), names=names)
        if self.forward != 0.5 and self.environment not in DIRECTIONS:
            raise ValueError(
                f"{self.name}: forward={self.forward}, but {self.environment} has no directions; leave it out"
            )
        if self.physics and self.environment == "2d-navigation":
            raise ValueError(
                f"{self.name}: physics={self.physics}, but {self.environment} has no model to change; "
                "leave it out"
            )

    @property
    def metric(self) -> str:
        """What the paper reports of it: the undiscounted return."""
        return "return"
