"""What is compared: a table of methods, each of which turns a learner into a :class:`Method`."""

__all__ = [
    "LOSSES",
    "METHODS",
    "EuclideanMatchingNetworks",
    "FullContextMatchingNetworks",
    "GradientMethod",
    "ImplicitMAML",
    "Learner",
    "MatchingNetworks",
    "MetaLearnerLSTM",
    "Method",
    "NearestNeighbour",
    "PretrainedClassifier",
    "PrototypicalNetworks",
    "ReptileAdam",
    "ScaledMatchingNetworks",
    "SequenceReader",
    "SiameseNetworks",
    "StepwiseMethod",
    "body_only",
    "first_order_first",
    "first_order_maml",
    "head_only",
    "implicit_maml",
    "learned_rates",
    "maml",
    "maml_plus_plus",
    "meta_learner_lstm",
    "meta_sgd",
    "moving_loss",
    "multi_step_loss",
    "nearest_neighbour",
    "norms_of_steps",
    "pretrained_classifier",
    "pretraining",
    "rates_and_steps",
    "reptile_adam",
]

from collections.abc import Callable

from mamlkit.methods.base import Learner, Method
from mamlkit.methods.baselines import (
    NearestNeighbour,
    PretrainedClassifier,
    nearest_neighbour,
    pretrained_classifier,
)
from mamlkit.methods.gradient import (
    GradientMethod,
    body_only,
    first_order_maml,
    head_only,
    maml,
    pretraining,
)
from mamlkit.methods.losses import LOSSES
from mamlkit.methods.memory import SequenceReader
from mamlkit.methods.meta_lstm import MetaLearnerLSTM, meta_learner_lstm
from mamlkit.methods.metric import (
    EuclideanMatchingNetworks,
    FullContextMatchingNetworks,
    MatchingNetworks,
    PrototypicalNetworks,
    ScaledMatchingNetworks,
    SiameseNetworks,
)
from mamlkit.methods.proximity import ImplicitMAML, ReptileAdam, implicit_maml, reptile_adam
from mamlkit.methods.steps import (
    StepwiseMethod,
    first_order_first,
    learned_rates,
    maml_plus_plus,
    meta_sgd,
    moving_loss,
    multi_step_loss,
    norms_of_steps,
    rates_and_steps,
)

METHODS: dict[str, Callable[[Learner], Method]] = {
    "maml": maml,
    "first-order maml": first_order_maml,
    "pretraining": pretraining,
    "pretrained classifier": pretrained_classifier,
    "nearest neighbour on pixels": nearest_neighbour,
    "prototypical networks": PrototypicalNetworks.of,
    "matching networks": MatchingNetworks.of,
    "matching networks, learned scale": ScaledMatchingNetworks.of,
    "matching networks, squared Euclid": EuclideanMatchingNetworks.of,
    "matching networks, full context": FullContextMatchingNetworks.of,
    "siamese": SiameseNetworks.of,
    "head only": head_only,
    "body only": body_only,
    "meta-sgd": meta_sgd,
    "maml, learned rates": learned_rates,
    "maml, multi-step loss": multi_step_loss,
    "maml++ without its schedules": rates_and_steps,
    "maml, moving multi-step loss": moving_loss,
    "maml, first order first": first_order_first,
    "maml, normalisation of each step": norms_of_steps,
    "maml++": maml_plus_plus,
    "reptile, inner adam": reptile_adam,
    "implicit maml": implicit_maml,
    "meta-learner lstm": meta_learner_lstm,
    "sequence reader": SequenceReader,
}
