"""What is compared. Each method turns a learner into an objective ``(params, task) -> loss``."""

__all__ = [
    "LOSSES",
    "METHODS",
    "Learner",
    "Objective",
    "first_order_maml",
    "maml",
    "predictor",
    "pretraining",
]

from collections.abc import Callable

from mamlkit.maml import LossFn
from mamlkit.methods.gradient import Learner, Objective, first_order_maml, maml, predictor, pretraining
from mamlkit.methods.losses import LOSSES

METHODS: dict[str, Callable[[Learner], LossFn]] = {
    "maml": maml,
    "first-order maml": first_order_maml,
    "pretraining": pretraining,
}
