"""Supervised tasks on a GPU, with the whole iteration recorded: see :mod:`mamlkit.engine.recorded`."""

__all__ = ["RecordedTraining"]

from typing import Any

import torch
from torch import Tensor

from mamlkit.engine.recorded import Recorded
from mamlkit.engine.threads import one_thread
from mamlkit.maml import Task
from mamlkit.runs.seeds import generator
from mamlkit.runs.supervised_training import SupervisedTraining
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks


class RecordedTraining(SupervisedTraining):
    """The same iterations, each of which is one call: gather, meta-gradient, clip and Adam are recorded.

    What is random is drawn on the CPU as ever, so that the tasks are the same. Where a bank of images lies on
    the device, only its choices are copied there; else the meta-batch is. Between two lines of the log
    nothing waits for the GPU.
    """

    optimiser: torch.optim.Adam  # see trainings.can_record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.small = False  # an iteration is a recording
        for group in self.optimiser.param_groups:
            group["capturable"] = self.device.type == "cuda"
        self.images: ImageTasks | None = None
        if isinstance(self.family, ImageTasks) and isinstance(self.family.bank, ClassBank):
            self.images = self.family
        self.recorded: Recorded | None = None

    def step(self, iteration: int) -> None:
        """One outer update."""
        if self.recorded is None:  # after a state was loaded, which may bring moments of its own
            self.recorded = Recorded(self._whole, self._changed(), self.device)
        self.window.append(self.recorded(*self._drawn(generator(self.seed, "train", iteration))))

    def close(self) -> None:
        """Give the recording's memory back: it holds this training, and so would hold itself."""
        self.recorded = None

    def _drawn(self, draw: torch.Generator) -> tuple[Tensor, ...]:
        """What an iteration begins with."""
        count = self.row.meta_batch_size
        with one_thread():
            if self.images is not None:
                return self.images.draw(draw, count)
            support, query = self.family.sample(draw, count)
        return *support, *query

    def _whole(self, *drawn: Tensor) -> Tensor:
        """The rest of it."""
        with one_thread():
            batch = Task(drawn[:2], drawn[2:]) if self.images is None else self.images.gather(*drawn)
        return self.update(batch)

    def _changed(self) -> list[Tensor]:
        """Parameters and moments, which Adam would else make at its first step, within the recording."""
        state = self.optimiser.state
        for value in self.params.values():
            if not state[value]:
                moments = {name: torch.zeros_like(value) for name in ("exp_avg", "exp_avg_sq")}
                state[value] = {"step": torch.zeros((), device=self.device), **moments}
        return [*self.params.values(), *(t for s in state.values() for t in s.values())]
