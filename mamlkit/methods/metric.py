"""Methods that compare features, without any inner step: prototypical, matching and Siamese networks.

Each embeds support and query examples by the network without its head. What differs is how a query is
compared with the support. Their features are normalised like MAML's: per task, by the statistics that
:class:`mamlkit.methods.Learner` says; the original codes have running statistics in tests.
"""

__all__ = [
    "EuclideanMatchingNetworks",
    "FullContextMatchingNetworks",
    "MatchingNetworks",
    "Metric",
    "PrototypicalNetworks",
    "ScaledMatchingNetworks",
    "SiameseNetworks",
    "least_cosine_loss",
]

import dataclasses
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params, Task
from mamlkit.methods import losses
from mamlkit.methods.base import Learner, Method
from mamlkit.models import Layer, ways_of, without_head, xavier_uniform
from mamlkit.models.recurrent import init_lstm, lstm


@dataclass(frozen=True)
class Metric(Method):
    """A method whose outputs for a query come from comparing its features with those of the support.

    Args:
        learner: the loss of the query outputs, and a network whose outputs are features.
        ways: classes of a task.
        features: of an example.
        layers: of the network, for the engine's passes; without them it goes the general way.
    """

    ways: int
    features: int
    layers: tuple[Layer, ...] = ()

    @classmethod
    def of(cls, learner: Learner) -> Self:
        """The method on the features below a network's head.

        Raises:
            ValueError: a network without layers, or a loss that is not of classes.
        """
        losses.check_classes(learner.loss)
        body, ways = without_head(learner.model), ways_of(learner.model)
        features = learner.model.shapes[learner.model.layers[-1].weight][1]
        return cls(dataclasses.replace(learner, model=body), ways, features, learner.model.layers[:-1])

    def loss(self, params: Params, task: Task) -> Tensor:
        """The loss of the query examples."""
        return self.loss_of_features(params, *self._features(params, task), (task.support[1], task.query[1]))

    def predict(self, params: Params, task: Task) -> Tensor:
        """The outputs of :meth:`compare`, ``[1, points, ways]``: no step follows."""
        return self.outputs_of_features(params, *self._features(params, task), task.support[1])[None]

    def loss_of_features(
        self, params: Params, near: Tensor, far: Tensor, labels: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The loss of one task, a scalar.

        Args:
            params, near, far: as for :meth:`compare`; of the parameters those of the network may be missing.
            labels: of the support and of the query examples.
        """
        return self.learner.loss_of(self.outputs_of_features(params, near, far, labels[0]), labels[1])

    def outputs_of_features(self, params: Params, near: Tensor, far: Tensor, labels: Tensor) -> Tensor:
        """The outputs of :meth:`compare` for the labels of the support."""
        of_class = labels[:, None] == torch.arange(self.ways, device=labels.device)
        return self.compare(params, near, of_class, far)

    def _features(self, params: Params, task: Task) -> tuple[Tensor, Tensor]:
        return self.learner.model.apply(params, task.support[0]), self.learner.outputs(params, task)

    @abstractmethod
    def compare(self, params: Params, near: Tensor, of_class: Tensor, far: Tensor) -> Tensor:
        """Outputs for the queries of one task.

        Args:
            params: theta.
            near: features of the support examples, ``[support, features]``.
            of_class: whether a support example is of a class, ``[support, ways]``.
            far: features of the queries, ``[queries, features]``.

        Returns:
            ``[queries, ways]``, of which a softmax gives probabilities: 0 for a class without support.
        """


class PrototypicalNetworks(Metric):
    """A class is the mean of its support features; outputs are minus squared distances to the means.

    Source: Snell, Swersky, Zemel 2017.
    """

    def compare(self, params: Params, near: Tensor, of_class: Tensor, far: Tensor) -> Tensor:
        """Minus the squared distance to each class mean."""
        distances = _square_distances(far, _class_means(near.T, of_class).T)
        return -distances.masked_fill(~of_class.any(0), torch.inf)


class MatchingNetworks(Metric):
    """A query takes its class from the support examples, weighted by a softmax over their cosines.

    ``P(y | x, D) = sum over i of a(x, x_i) [y_i = y]``. Source: Vinyals et al. 2016, without full context.
    A cosine is at most 1, and after a ReLU at least 0, so that the loss has a floor far above zero: see
    :func:`mamlkit.methods.metric.least_cosine_loss`.
    """

    def similarity(self, params: Params, far: Tensor, near: Tensor) -> Tensor:
        """The cosine of each query with each support example, ``[queries, support]``."""
        return F.normalize(far) @ F.normalize(near).T

    def compare(self, params: Params, near: Tensor, of_class: Tensor, far: Tensor) -> Tensor:
        """The logarithm of the attention on each class, whose softmax is that attention again."""
        similarity = self.similarity(params, far, near)
        return similarity[..., None].masked_fill(~of_class, -torch.inf).logsumexp(-2).log_softmax(-1)


class ScaledMatchingNetworks(MatchingNetworks):
    """Matching networks whose cosines are multiplied by a learned positive number, 10 at first.

    Deviation: Vinyals et al. have no such scale. Reimplementations that divide by the norm of the support
    features alone have one without saying so: the norm of the query.
    """

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and the logarithm of the scale."""
        return super().init(generator) | {"log_scale": torch.full((1,), math.log(10))}

    def similarity(self, params: Params, far: Tensor, near: Tensor) -> Tensor:
        """Scaled cosines."""
        return params["log_scale"].exp() * super().similarity(params, far, near)


class EuclideanMatchingNetworks(MatchingNetworks):
    """Matching networks with minus the squared distance in place of the cosine.

    Source: Snell, Swersky, Zemel 2017, Table 5. At one shot they are prototypical networks.
    """

    def similarity(self, params: Params, far: Tensor, near: Tensor) -> Tensor:
        """Minus squared distances."""
        return -_square_distances(far, near)


@dataclass(frozen=True)
class FullContextMatchingNetworks(MatchingNetworks):
    """Matching networks whose features depend on the whole support ("full context embeddings").

    A support example adds to its features g' the outputs of two LSTMs that read the support forwards and
    backwards. A query reads the result with an LSTM that has its features f' as input at each step::

        r = sum over i of softmax(h . g_i) g_i        h, c = LSTM([f', r], h, c)        h = h + f'

    So **the order of the support matters**: tasks give it class by class. All that the order tells is the
    support's own labels, which every method is given.

    Source: Vinyals et al. 2016; how many steps, from Ravi & Larochelle's code.

    Args:
        learner, ways, features, layers: see :class:`mamlkit.methods.metric.Metric`.
        steps: of a query's LSTM.
    """

    steps: int = 3

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and three LSTMs, whose size goes with the square of the features."""
        params, size = super().init(generator), self.features
        for name, inputs in (("forwards", size), ("backwards", size), ("reader", 2 * size)):
            params |= init_lstm(name, inputs, size, generator)
        return params

    def compare(self, params: Params, near: Tensor, of_class: Tensor, far: Tensor) -> Tensor:
        """As matching networks, on features in context."""
        near = near + _outputs(params, "forwards", near) + _outputs(params, "backwards", near.flip(0)).flip(0)
        hidden = cell = torch.zeros_like(far)
        for _ in range(self.steps):
            read = (hidden @ near.T).softmax(-1) @ near
            hidden, cell = lstm(params, "reader", torch.cat([far, read], -1), (hidden, cell))
            hidden = hidden + far
        return super().compare(params, near, of_class, hidden)


class SiameseNetworks(Metric):
    """Whether two images are of one class, from the weighted distance of their features, feature by feature.

    ``P(same) = sigmoid(sum over j of a_j |h1_j - h2_j| + b)``, trained by the cross-entropy of same and
    different pairs. A query is of the class with the highest mean score. Source: Koch, Zemel, Salakhutdinov
    2015.

    Deviation: Siamese, but not Koch's. The network is the learner's. His formula has no b, and would say 1/2
    of an image and itself; codes have one. His pairs are drawn from all training classes, half of them same;
    ours are all pairs of a query and a support example of a task, and same and different ones count half
    each. We leave out his distortions and his penalty on weights.
    """

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and a and b."""
        weights = xavier_uniform((1, self.features), generator)
        return super().init(generator) | {"pair_weights": weights, "pair_bias": torch.zeros(1)}

    def loss_of_features(
        self, params: Params, near: Tensor, far: Tensor, labels: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The cross-entropy of pairs; the learner's loss is not used."""
        scores, same = self._scores(params, near, far), labels[1][:, None] == labels[0]
        errors = F.softplus(torch.where(same, -scores, scores))
        of_same, of_others = ((errors * kind).sum() / kind.sum() for kind in (same, ~same))
        return (of_same + of_others) / 2

    def compare(self, params: Params, near: Tensor, of_class: Tensor, far: Tensor) -> Tensor:
        """The mean score with the examples of each class."""
        scores = _class_means(self._scores(params, near, far), of_class)
        return scores.masked_fill(~of_class.any(0), -torch.inf)

    def _scores(self, params: Params, near: Tensor, far: Tensor) -> Tensor:
        """The logarithm of the odds that a pair is of one class, ``[queries, support]``."""
        differences = (far[:, None] - near).abs()
        return F.linear(differences, params["pair_weights"], params["pair_bias"])[..., 0]


def least_cosine_loss(ways: int) -> float:
    """What the mean loss of matching networks cannot fall below, with cosines from 0 to 1.

    The best case is a cosine of 1 with its own class and 0 with all others, whatever the shots: then
    ``P = e / (e + ways - 1)``.

    >>> [round(least_cosine_loss(ways), 2) for ways in (5, 20)]
    [0.9, 2.08]
    """
    return math.log1p((ways - 1) / math.e)


def _square_distances(far: Tensor, near: Tensor) -> Tensor:
    """Squared Euclidean distances, ``[queries, support]``."""
    return ((far[:, None] - near) ** 2).sum(-1)


def _class_means(values: Tensor, of_class: Tensor) -> Tensor:
    """Means over the support examples of each class, 0 without any: ``[..., support]`` to ``[..., ways]``."""
    return values @ of_class.to(values) / of_class.sum(0).clamp(min=1)


def _outputs(params: Params, name: str, sequence: Tensor) -> Tensor:
    """What a cell gives out after each point of a sequence, ``[points, units]``."""
    state, found = (torch.zeros_like(sequence[0]), torch.zeros_like(sequence[0])), []
    for point in sequence:
        state = lstm(params, name, point, state)
        found.append(state[0])
    return torch.stack(found)
