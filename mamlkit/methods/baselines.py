"""The baselines of Table 1 that Ravi & Larochelle made: nearest neighbours, and fine-tuning."""

__all__ = [
    "CosineNeighbours",
    "NearestNeighbour",
    "PretrainedClassifier",
    "nearest_neighbour",
    "pretrained_classifier",
]

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params, Task
from mamlkit.methods import losses
from mamlkit.methods.base import Learner, Method
from mamlkit.methods.metric import Metric
from mamlkit.models import Layer, ways_of, xavier_uniform

ALL_CLASSES, ALL_CLASSES_BIAS = "all_classes", "all_classes_bias"


def _of_nearest(similarity: Tensor, of_class: Tensor) -> Tensor:
    """The similarity of each query ``[queries, support]`` to its nearest support image of each class."""
    return similarity[..., None].masked_fill(~of_class, -torch.inf).amax(-2)


class CosineNeighbours(Metric):
    """A query takes its class from the nearest support image, by the cosine of their features."""

    def compare(self, params: Params, near: Tensor, of_class: Tensor, far: Tensor) -> Tensor:
        """The cosine to the nearest support image of each class."""
        return _of_nearest(F.normalize(far) @ F.normalize(near).T, of_class)


@dataclass(frozen=True)
class PretrainedClassifier(Method):
    """An ordinary classifier of all training classes, used on new tasks in two ways.

    Paper: Table 1, "fine-tuning baseline" and "nearest neighbor baseline", quoted from Ravi & Larochelle.

    Step 0 of the predictions is the nearest neighbour, by cosine, among the single support images, on the
    features before the head. The steps after it are fine-tuning: all weights take gradient steps on the
    support loss, with the network's own head, which the classifier does not use. So it stays as drawn: a
    fresh head, the same for all tasks.

    Deviation: Ravi & Larochelle have 64 filters where MAML has 32, normalise by running statistics where we
    take those of the batch, fine-tune the shifts of batch normalisation too, which rest here as in MAML's
    rows, and take 15 steps, whose rate decays; the decay is searched on validation tasks,
    as the rate is, which is all that we search there. Their fine-tuning comes out below their nearest
    neighbour, probably since a random head, all layers in motion and statistics of few images undo at 1 shot
    what was learned.

    Args:
        learner: network, loss of both trainings, and fine-tuning's rate and steps. Its network has no
            layers, since the engine would hold the labels of all classes against the network's own head.
        layers: of the network, the head last.
        neighbours: the nearest neighbour, on the network without its head.
        classes: training classes, whose numbers are the labels of the support examples in training.
    """

    layers: tuple[Layer, ...]
    neighbours: CosineNeighbours
    classes: int = 64

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and a head for all classes."""
        params = super().init(generator)
        return params | {
            ALL_CLASSES: xavier_uniform((self.classes, self.neighbours.features), generator),
            ALL_CLASSES_BIAS: torch.zeros(self.classes),
        }

    def loss(self, params: Params, task: Task) -> Tensor:
        """The loss of the classifier of all classes on the support examples."""
        inputs, labels = task.support
        features = self.neighbours.learner.model.apply(params, inputs)
        outputs = F.linear(features, params[ALL_CLASSES], params[ALL_CLASSES_BIAS])
        return self.learner.loss_of(outputs, labels)

    def predict(self, params: Params, task: Task) -> Tensor:
        """Cosines to the nearest support images, then outputs after 1, 2, ... steps of fine-tuning."""
        network = {name: params[name] for name in self.learner.model.shapes}
        path = self.learner.adaptation_path(network, task.support)[1:]
        tuned = [self.learner.outputs(fast, task) for fast in path]
        return torch.stack([*self.neighbours.predict(network, task), *tuned])


def pretrained_classifier(learner: Learner) -> PretrainedClassifier:
    """The baselines of Ravi & Larochelle on this network.

    Raises:
        ValueError: a network without layers, or a loss that is not of classes.
    """
    neighbours = CosineNeighbours.of(learner)
    return PretrainedClassifier(
        _general(learner, learner.model.frozen), tuple(learner.model.layers), neighbours
    )


@dataclass(frozen=True)
class NearestNeighbour(Method):
    """The class of the nearest support image, by the Euclidean distance of pixels: a floor for what learns.

    Its one parameter, the scale of the distances, makes outputs of them that have a cross-entropy; which
    class is nearest does not depend on it. The learner's network is not used.

    Args:
        learner: the loss.
        ways: classes of a task.
    """

    ways: int

    def init(self, generator: Generator) -> Params:
        """The scale."""
        return {"scale": torch.ones(1)}

    def loss(self, params: Params, task: Task) -> Tensor:
        """The loss of the query examples."""
        return self.learner.loss_of(self.predict(params, task)[0], task.query[1])

    def predict(self, params: Params, task: Task) -> Tensor:
        """Distances to the nearest support images, scaled and negative; no step follows."""
        (support, labels), (query, _) = task
        distances = torch.cdist(query.flatten(1), support.flatten(1))
        of_class = labels[:, None] == torch.arange(self.ways, device=labels.device)
        return params["scale"] * _of_nearest(-distances, of_class)[None]


def nearest_neighbour(learner: Learner) -> NearestNeighbour:
    """Nearest neighbours on pixels, in as many classes as the network tells apart.

    Raises:
        ValueError: a loss that is not of classes.
    """
    losses.check_classes(learner.loss)
    return NearestNeighbour(_general(learner, frozenset()), ways_of(learner.model))


def _general(learner: Learner, frozen: frozenset[str]) -> Learner:
    """The learner for the engine's general way, which does not hold the labels against the network's head."""
    return dataclasses.replace(learner, model=learner.model._replace(layers=(), frozen=frozen))
