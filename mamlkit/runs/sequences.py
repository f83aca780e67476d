"""Methods with support and query, tested on the sequences of the recurrent networks."""

__all__ = ["accuracy_by_instance"]

import dataclasses
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from mamlkit.engine import meta_batch
from mamlkit.experiments.rows import Row
from mamlkit.maml import Params, Task
from mamlkit.methods import (
    GradientMethod,
    ImplicitMAML,
    Method,
    NearestNeighbour,
    PretrainedClassifier,
    StepwiseMethod,
)
from mamlkit.methods.metric import Metric
from mamlkit.runs.seeds import generator
from mamlkit.runs.supervised import EVALUATION_CHUNK, check_tasks, method, tasks_of

PER_SHOT = "cross-entropy, sum over examples / shots"
PLAIN = (ImplicitMAML, Metric, NearestNeighbour, PretrainedClassifier)  # beside those of gradients


@torch.no_grad()
def accuracy_by_instance(
    row: Row,
    params: Params,
    reader: Row,
    *,
    instances: Sequence[int] = (2, 5),
    own_loss: bool = False,
    n_tasks: int | None = None,
) -> np.ndarray:
    """How often a method names the k-th drawing of a class, given all that came before it in a sequence.

    The support is what came before: k - 1 drawings of the class, and any number of the others; some classes
    may be missing. The query is this drawing alone, normalised by the statistics of the support.

    A row whose loss is the sum over examples divided by the shots says nothing of supports of other lengths.
    Two readings are here: the mean over the support with a step ways times as long, or the row's own loss,
    with which the step grows with the support. They are the same where the support has the row's length.

    Args:
        row: of the method, whose first evaluation says step size and number of steps (the headline's).
        params: theta.
        reader: the recurrent network's row, whose first evaluation says which sequences; they are those of
            :func:`mamlkit.runs.supervised.evaluate`.
        instances: k, from 2 on.
        own_loss: take the second reading.
        n_tasks: sequences, the reader's own number if None.

    Returns:
        Percent of the classes of a sequence, ``[tasks, instances]``.

    Raises:
        ValueError: an instance that a sequence has not got, or before which nothing may have been seen; rows
            of other numbers of classes; a method with another step, for which that is not the same update.
    """
    sizes, test = reader.evaluations[0], row.evaluations[0]
    known = range(2, sizes.shots + 1)
    if not len(instances) or not all(isinstance(k, Integral) and k in known for k in instances):
        raise ValueError(
            f"instances={tuple(instances)}, but they must be whole numbers that lie from 2 to {sizes.shots}"
        )
    if row.ways != reader.ways:
        raise ValueError(
            f"{row.name} tells {row.ways} classes apart, but sequences of {reader.name} have {reader.ways}"
        )
    n_tasks = check_tasks(sizes.tasks if n_tasks is None else n_tasks)
    if row.loss == PER_SHOT and not own_loss:
        if not _is_plain(method(row)):
            raise ValueError(
                f"{row.name}: the step of method {row.method!r} is not inner_lr times the gradient, so it "
                "would be another one with the mean; use a row whose loss is the mean"
            )
        test = dataclasses.replace(test, inner_lr=test.inner_lr * row.ways)
        row = dataclasses.replace(row, loss="cross-entropy, mean")
    test = dataclasses.replace(test, inner_steps=test.headline_step, transductive=False)
    made = method(row, test)
    # one image is given twice, see _right; a sum over examples / shots stays what it is with twice the shots
    of_one = method(row, dataclasses.replace(test, shots=2 * test.shots))
    family = tasks_of(reader, "test", "cpu", sizes)
    found = []
    for start in range(0, n_tasks, EVALUATION_CHUNK):
        batch = family.sample(generator(0, "evaluate test", start), EVALUATION_CHUNK)
        few = Task(*(tuple(tensor[: n_tasks - start] for tensor in part) for part in batch))
        right = [_right(made, of_one, params, few, few.query[0][..., k - 1]) for k in instances]
        found.append(100 * torch.stack(right, dim=-1).mean(1).cpu().numpy())
    return np.concatenate(found)


def _is_plain(made: Method) -> bool:
    """Whether the step of a method, if there is one, is its fixed rate times the gradient."""
    stepwise = isinstance(made, StepwiseMethod) and made.rates is None
    return stepwise or type(made) is GradientMethod or isinstance(made, PLAIN)


def _right(made: Method, of_one: Method, params: Params, batch: Task, places: Tensor) -> Tensor:
    """1 where the image at a place is named right, else 0: ``[tasks, ways]``, as the places.

    ``of_one`` is the method for a support of one image, which it gets twice.
    """
    images, labels = batch.support
    right = torch.zeros(places.shape, device=places.device)
    for place in places.unique().tolist():  # supports of one length at a time
        which, ways = (places == place).nonzero(as_tuple=True)
        # a normalisation asks for two values of a channel; without convolutions their variance is 0
        before = [0, 0] if place == 1 else list(range(place))
        support = images[which][:, before], labels[which][:, before]
        outputs = meta_batch.predictions(
            of_one if place == 1 else made, params, Task(support, (images[which, place, None], ways[:, None]))
        )[-1]
        right[which, ways] = (outputs[:, 0].argmax(-1) == ways).float()
    return right
