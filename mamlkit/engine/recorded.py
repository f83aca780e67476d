"""A step that a GPU records once and then repeats by itself: a CUDA graph.

An iteration calls hundreds of small functions, and a GPU may be done with each before Python has called the
next. A recorded step is called once. In return everything about it is fixed: shapes, and the memory that it
reads and writes. So its inputs are copied into tensors of its own, and what it changes, it changes in place.

Nothing here has ever run on a GPU. On other devices the same way is gone without a recording: the step is
called on those tensors, which must give the bits of the plain step.
"""

__all__ = ["Recorded"]

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3  # calls before a recording, as PyTorch advises: what a library sets up at first is not recorded

Call = Callable[[], Tensor]


def _on_gpu(call: Call) -> Callable[[], Tensor]:
    """Record a call; the function returned repeats it, and returns where the recording leaves its result.

    What no longer is in use is removed before it, since a collection that frees another recording ends one
    that is under way.
    """
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
    finally:
        if collects:
            gc.enable()

    def repeat() -> Tensor:
        graph.replay()
        return result

    return repeat


def _aside(call: Call) -> None:
    """A call on a stream of its own, as recordings ask of what comes before them."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)


class Recorded:
    """A function of tensors that always have the same shapes, recorded at its first call.

    Args:
        function: of the inputs; it may wait for no result, and may change tensors, but only in place.
        changed: those tensors. The calls before a recording leave no trace in them.
        device: where it computes.
        record: makes a recording of a call; None is ``_on_gpu`` on a GPU, and elsewhere the call itself.
        warm_up: makes a call whose effects do not count; none is made where ``record`` is the call itself.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        changed: Sequence[Tensor],
        device: torch.device,
        record: Callable[[Call], Call] | None = None,
        warm_up: Callable[[Call], None] | None = None,
    ) -> None:
        gpu = device.type == "cuda"
        self.function, self.changed, self.device = function, changed, device
        self.record, self.warm_up = record or (_on_gpu if gpu else None), warm_up or (_aside if gpu else None)
        self.inputs: list[Tensor] = []
        self.repeat: Call | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function of these inputs; they may lie on the CPU.

        Raises:
            ValueError: inputs of other shapes or types than the first ones.
        """
        like = [(x.shape, x.dtype) for x in self.inputs]
        if self.inputs and [(x.shape, x.dtype) for x in inputs] != like:
            came = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in inputs)
            raise ValueError(f"{came} came, but the step was recorded for {like}; make another Recorded")
        if not self.inputs:
            self.inputs = [torch.empty_like(x, device=self.device) for x in inputs]
        for own, x in zip(self.inputs, inputs, strict=True):
            # From pinned memory the copy takes its turn behind the steps before it, and nobody waits.
            if self.device.type == "cuda" and x.device.type == "cpu":
                x = x.contiguous().pin_memory()  # one that was expanded cannot be pinned
            own.copy_(x, non_blocking=True)
        if self.repeat is None:
            self.repeat = self._recording()
        return self.repeat().clone()  # the next repetition writes over it

    def _recording(self) -> Call:
        call = lambda: self.function(*self.inputs)
        if self.record is None:
            return call
        before = [tensor.clone() for tensor in self.changed]
        if self.warm_up is not None:
            for _ in range(WARM_UPS):
                self.warm_up(call)
        with torch.no_grad():
            for tensor, value in zip(self.changed, before, strict=True):
                tensor.copy_(value)
        return self.record(call)
