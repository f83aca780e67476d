"""What is compared: a table of methods, each of which turns a learner into a :class:`Method`."""

__all__ = [
    "LOSSES",
    "METHODS",
    "EuclideanMatchingNetworks",
    "FullContextMatchingNetworks",
    "GradientMethod",
    "Learner",
    "MatchingNetworks",
    "Method",
    "NearestNeighbour",
    "PretrainedClassifier",
    "PrototypicalNetworks",
    "ScaledMatchingNetworks",
    "SiameseNetworks",
    "first_order_maml",
    "maml",
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
from mamlkit.methods.metric import (
    EuclideanMatchingNetworks,
    FullContextMatchingNetworks,
    MatchingNetworks,
    PrototypicalNetworks,
    ScaledMatchingNetworks,
    SiameseNetworks,
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
}
