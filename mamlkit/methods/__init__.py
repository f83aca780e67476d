"""What is compared: a table of methods, each of which turns a learner into a :class:`Method`."""

__all__ = [
    "LOSSES",
    "METHODS",
    "GradientMethod",
    "Learner",
    "MetaLearnerLSTM",
    "Method",
    "NearestNeighbour",
    "PretrainedClassifier",
    "first_order_maml",
    "maml",
    "meta_learner_lstm",
    "nearest_neighbour",
    "pretrained_classifier",
    "pretraining",
]

from collections.abc import Callable

from mamlkit.methods.base import Learner, Method
from mamlkit.methods.baselines import (
    NearestNeighbour,
    PretrainedClassifier,
    nearest_neighbour,
    pretrained_classifier,
)
from mamlkit.methods.gradient import GradientMethod, first_order_maml, maml, pretraining
from mamlkit.methods.losses import LOSSES
from mamlkit.methods.meta_lstm import MetaLearnerLSTM, meta_learner_lstm

METHODS: dict[str, Callable[[Learner], Method]] = {
    "maml": maml,
    "first-order maml": first_order_maml,
    "pretraining": pretraining,
    "pretrained classifier": pretrained_classifier,
    "nearest neighbour on pixels": nearest_neighbour,
    "meta-learner lstm": meta_learner_lstm,
}
