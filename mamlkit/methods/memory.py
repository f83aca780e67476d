"""Learning within a sequence: a recurrent network reads labelled examples and names each before its label."""

__all__ = ["SequenceReader"]

import torch
import torch.nn.functional as F
from torch import Tensor

from mamlkit.maml import Params, Task
from mamlkit.methods.base import Method


class SequenceReader(Method):
    """A recurrent network that gets an image x_t with the label of the image before, y_t-1, and says y_t.

    With ``network="mann"`` this is the memory-augmented network of Santoro et al. 2016, with
    ``network="lstm"`` their LSTM. Tasks are those of :class:`mamlkit.tasks.sequences.Sequences`. There is no
    inner step: the network's state is all that changes within a task, and it begins anew with each.

    In place of inner steps, predictions have *instances*: entry k of a curve is what was said of drawings of
    whose class k labelled ones had been seen. So entries 1 and 4, the 2nd and the 5th instance, are what
    MAML's Table 1 calls 1-shot and 5-shot; strictly, 5-shot is the 6th.

    Deviation: the loss is that of the learner, in our rows the mean over time where the source has the sum,
    and the optimiser Adam, to whose steps this factor is nothing.
    """

    @property
    def ways(self) -> int:
        """Labels that the network tells apart; ``ValueError`` for a network that reads no sequences."""
        shapes = self.learner.model.shapes
        if "head_bias" not in shapes:
            raise ValueError(
                f"this network has {', '.join(shapes)}, but a sequence reader needs one that reads one input "
                "after the other; use 'lstm' or 'mann'"
            )
        return shapes["head_bias"][0]

    def loss(self, params: Params, task: Task) -> Tensor:
        """The loss of all images of a sequence."""
        return self.learner.loss_of(self.answers(params, task), task.support[1])

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the first ``inner_steps + 1`` instances, ``[instances, ways, outputs]``."""
        places = task.query[0][:, : self.learner.inner_steps + 1]
        return self.answers(params, task)[places].transpose(0, 1)

    def answers(self, params: Params, task: Task) -> Tensor:
        """What is said of each image before its label is seen, ``[time, outputs]``."""
        (images, labels), (places, _) = task
        classes = torch.arange(len(places), device=labels.device)
        known = (labels[:-1, None] == classes).to(images)  # one-hot
        return self.learner.model.apply(
            params, torch.cat([images.flatten(1), F.pad(known, (0, 0, 1, 0))], dim=1)
        )
