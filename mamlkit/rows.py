"""What an experiment is: its settings, and how it is tested. The experiments themselves are in :mod:`mamlkit.experiments`."""

__all__ = ["POLICY_METHODS", "Evaluation", "Experiment", "PolicyEvaluation", "PolicyRow", "Row", "as_stored"]

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Self

POLICY_METHODS = ("maml", "maml, ratios", "maml, first order", "trpo", "policy gradient")


def as_stored(settings: Any) -> dict[str, Any]:
    """A dataclass as a result file has it: tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


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
    """

    name: str
    shots: int
    queries: int
    inner_lr: float
    inner_steps: int = 10
    headline_step: int = 10
    tasks: int = 600


@dataclass(frozen=True)
class Experiment:
    """What every row has, whatever it trains.

    Args:
        name: its key, and its name on the command line.
        title: what a reader sees.
        place: where the paper has it.
    """

    name: str
    title: str
    place: str

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the trained parameters: all but the names, the tests and the quick scale."""
        return {k: v for k, v in as_stored(self).items() if k not in ("name", "title", "place", "evaluations", "quick")}

    @property
    def fingerprint(self) -> str:
        """Hash of :attr:`settings`; a committed result with another one is stale."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def at(self, scale: str) -> Self:
        """This row at a scale: ``"paper"`` is the row itself, ``"quick"`` the same with other sizes."""
        if scale not in ("quick", "paper"):
            raise ValueError(f"scale={scale!r}, but the scales are 'quick' and 'paper'")
        return self if scale == "paper" else dataclasses.replace(self, **self.quick)


@dataclass(frozen=True)
class Row(Experiment):
    """One experiment: a task family, a network, a method and their numbers.

    Args:
        name, title, place: see :class:`Experiment`.
        family: a key of ``mamlkit.tasks.FAMILIES``.
        network: a key of ``mamlkit.models.NETWORKS`` and its arguments.
        method: a key of ``mamlkit.methods.METHODS``.
        loss: a key of ``mamlkit.methods.LOSSES``.
        inner_lr, inner_steps: alpha and the steps of the inner update in meta-training.
        ways, shots, queries: classes of a task; support and query examples per class (or points).
        meta_batch_size: tasks per outer update.
        iterations: outer updates; 0 leaves the random initialisation.
        outer_lr: beta, Adam's step.
        clip: bound of each component of the meta-gradient, or None.
        evaluations: how it is tested.
        quick: what the quick scale changes.
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
    meta_batch_size: int
    iterations: int
    outer_lr: float = 0.001
    clip: float | None = None
    evaluations: tuple[Evaluation, ...] = ()
    quick: dict[str, Any] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """What the paper reports of it."""
        return "mse" if self.loss == "mse" else "accuracy"


@dataclass(frozen=True)
class PolicyEvaluation:
    """How a trained policy is tested: on the paper's own 40 goals, by gradient steps with fresh rollouts before each.

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

    @property
    def inner_steps(self) -> int:
        """Gradient steps followed; the curve has one more entry."""
        return len(self.inner_lrs)


@dataclass(frozen=True)
class PolicyRow(Experiment):
    """One reinforcement-learning experiment.

    Args:
        name, title, place: see :class:`Experiment`.
        environment: a key of ``mamlkit.rl.envs.ENVIRONMENTS``.
        method: ``"maml"``; ``"maml, ratios"`` and ``"maml, first order"``, the same with another curvature of the inner loss
            (see :mod:`mamlkit.rl.maml_rl`); ``"trpo"`` without any adaptation in training, goals drawn for every episode; or
            ``"policy gradient"``, the same by Adam on the tasks' mean policy gradient.
        show_goal: whether the observation holds the goal (the oracle).
        inner_lr: alpha in meta-training.
        meta_batch_size: tasks per iteration; 1 where goals are drawn for every episode.
        rollouts: episodes (of full length) per task and gradient.
        iterations: outer updates; 0 leaves the random initialisation.
        max_kl: TRPO's bound of the divergence.
        outer_lr: Adam's step of ``"policy gradient"``.
        activation: of the policy's two hidden layers of 100.
        discount: gamma.
        baseline_clip: bound of the observations in the baseline's features, or None.
        evaluations: how it is tested.
        quick: what the quick scale changes.

    Raises:
        ValueError: an unknown method, or a number that no run can have.
    """

    environment: str
    method: str
    show_goal: bool
    inner_lr: float
    meta_batch_size: int
    rollouts: int
    iterations: int
    max_kl: float = 0.01
    outer_lr: float = 0.001
    activation: str = "relu"
    discount: float = 0.99
    baseline_clip: float | None = 10.0
    evaluations: tuple[PolicyEvaluation, ...] = ()
    quick: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in POLICY_METHODS:
            raise ValueError(f"{self.name}: method={self.method!r}, but it is one of {', '.join(map(repr, POLICY_METHODS))}")
        least = {"meta_batch_size": 1, "rollouts": 1, "iterations": 0}
        for setting, bound in least.items():
            if getattr(self, setting) < bound:
                raise ValueError(f"{self.name}: {setting}={getattr(self, setting)}, but it must be at least {bound}")
        if not self.max_kl > 0:
            raise ValueError(f"{self.name}: max_kl={self.max_kl}, but the bound of the divergence must be positive")
        if not math.isfinite(self.inner_lr):
            raise ValueError(f"{self.name}: inner_lr={self.inner_lr}, but a step size must be finite")

    @property
    def metric(self) -> str:
        """What the paper reports of it: the undiscounted return."""
        return "return"
