"""Convolutions with a kernel for each task, as PyTorch operations: several forms of the same numbers.

Which form is fastest depends on the device and on the shape. The forms of :data:`FORMS` are

* ``unfolded``: the neighbourhood of each pixel is written out as a row, and one batched product follows;
* ``grouped``: one convolution whose groups are the tasks, on images with the channels first;
* ``channels-last``: the same, on images whose channels lie last in memory, as the engine's own do.

A process uses one form at a time, ``unfolded`` unless :func:`use` says another. They agree up to rounding.
``benchmarks/gpu.py`` times all of them on the paper's shapes. None has ever run on a GPU.
"""

__all__ = ["DEFAULT", "FORMS", "Form", "in_use", "input_gradient", "product", "use", "weight_gradient"]

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from mamlkit.models import Window

Terms = Sequence[tuple[Tensor, Tensor]]


class Form(ABC):
    """A convolution and its two adjoints. Kernels are as for :func:`product`."""

    @abstractmethod
    def product(self, x: Tensor, kernel: Tensor, window: Window) -> Tensor:
        """See :func:`product`."""

    @abstractmethod
    def weight_gradient(self, d: Tensor, x: Tensor, window: Window) -> Tensor:
        """See :func:`weight_gradient`."""

    @abstractmethod
    def input_gradient(self, terms: Terms, window: Window) -> Tensor:
        """See :func:`input_gradient`."""


class Unfolded(Form):
    """One unfolding and one batched product."""

    def product(self, x: Tensor, kernel: Tensor, window: Window) -> Tensor:
        return (self._rows(x, window) @ kernel).view(*x.shape[:2], window.out, window.out, -1)

    def weight_gradient(self, d: Tensor, x: Tensor, window: Window) -> Tensor:
        return self._rows(x, window).mT @ d.flatten(1, 3)

    def input_gradient(self, terms: Terms, window: Window) -> Tensor:
        d = terms[0][0]
        rows = reduce(torch.add, (d.flatten(1, 3) @ kernel.mT for d, kernel in terms))
        rows = rows.view(*d.shape[:4], 3, 3, window.channels)
        padded = window.before + window.size + window.after
        x = d.new_zeros(*d.shape[:2], padded, padded, window.channels)
        last = window.stride * (window.out - 1) + 1
        for ky in range(3):
            for kx in range(3):
                x[:, :, ky : ky + last : window.stride, kx : kx + last : window.stride] += rows[
                    ..., ky, kx, :
                ]
        return _inside(x, window)

    def _rows(self, x: Tensor, window: Window) -> Tensor:
        """The 3x3 neighbourhoods of every output pixel: ``[tasks, points * out * out, 9 * channels]``."""
        patches = _padded(x, window).unfold(2, 3, window.stride).unfold(3, 3, window.stride)
        return patches.permute(0, 1, 2, 3, 5, 6, 4).reshape(len(x), -1, 9 * window.channels)


@dataclass(frozen=True)
class Grouped(Form):
    """One convolution with a group per task. Its images are ``[points, tasks * channels, height, width]``.

    Args:
        memory: where the channels of those images lie.
    """

    memory: torch.memory_format

    def product(self, x: Tensor, kernel: Tensor, window: Window) -> Tensor:
        shape = (*x.shape[:2], window.out, window.out, kernel.shape[-1])
        x, kernel = _of_its_tasks(x, kernel)
        images, padding = self._padded(x, window)
        with _as_products_are():
            z = F.conv2d(images, self._filters(kernel), None, window.stride, padding, groups=len(kernel))
        return _apart(z, len(kernel)).view(shape)

    def weight_gradient(self, d: Tensor, x: Tensor, window: Window) -> Tensor:
        tasks, filters = len(d), d.shape[-1]
        images, padding = self._padded(x, window)
        # of which the form alone is asked
        like = d.new_empty(tasks * filters, window.channels, 3, 3).to(memory_format=self.memory)
        sides = [window.stride] * 2, [padding] * 2, [1, 1], False, [0, 0]
        with _as_products_are():
            _, gradient, _ = torch.ops.aten.convolution_backward(
                self._joined(d), images, like, None, *sides, tasks, [False, True, False]
            )
        return gradient.unflatten(0, (tasks, filters)).permute(0, 3, 4, 2, 1).flatten(1, 3)

    def input_gradient(self, terms: Terms, window: Window) -> Tensor:
        return reduce(torch.add, (self._turned(d, kernel, window) for d, kernel in terms))

    def _turned(self, d: Tensor, kernel: Tensor, window: Window) -> Tensor:
        """The transposed convolution, which is the adjoint in the images."""
        both = d.shape[:2]
        d, kernel = _of_its_tasks(d, kernel)
        own, padding = len(kernel), _own_padding(window)
        images, filters = self._joined(d), self._filters(kernel)
        with _as_products_are():
            x = F.conv_transpose2d(images, filters, None, window.stride, padding, groups=own)
        x = _apart(x, own).unflatten(1, (-1, both[1])).flatten(0, 1)
        return x if padding else _inside(x, window)

    def _padded(self, x: Tensor, window: Window) -> tuple[Tensor, int]:
        """The images of a convolution, and how many zeros it is to add to them on each side."""
        padding = _own_padding(window)
        return self._joined(x if padding else _padded(x, window)), padding

    def _joined(self, x: Tensor) -> Tensor:
        """``[tasks, points, height, width, channels]`` as images whose channels are those of all tasks."""
        if self.memory is torch.channels_last:
            return x.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)
        points, height, width = x.shape[1:4]
        # by way of one axis, or the strides of one pixel would say that its channels lie last
        return x.permute(1, 0, 4, 2, 3).reshape(-1).view(points, -1, height, width)

    def _filters(self, kernel: Tensor) -> Tensor:
        """``[tasks, 9 * channels, filters]`` as ``[tasks * filters, channels, 3, 3]``."""
        filters = kernel.unflatten(1, (3, 3, -1)).permute(0, 4, 3, 1, 2).flatten(0, 1)
        return filters.contiguous(memory_format=self.memory)


@contextmanager
def _as_products_are() -> Iterator[None]:
    """cuDNN rounds inputs to TF32 unless told otherwise, matrix products only if asked: one rule for both."""
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


FORMS: dict[str, Form] = {
    "unfolded": Unfolded(),
    "grouped": Grouped(torch.contiguous_format),
    "channels-last": Grouped(torch.channels_last),
}
DEFAULT = "unfolded"
_form = DEFAULT


def use(form: str) -> None:
    """Compute all convolutions of this process in a form of :data:`FORMS` from now on.

    A step that was recorded before keeps its own.

    Raises:
        ValueError: no such form.
    """
    global _form
    if form not in FORMS:
        raise ValueError(
            f"form={form!r}, but convolutions have the forms {', '.join(FORMS)}; use one of them"
        )
    _form = form


def in_use() -> str:
    """The name of the form that this process uses."""
    return _form


def product(x: Tensor, kernel: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """Convolution ``[tasks, points, out, out, filters]``, added to ``out`` if one is given.

    Args:
        x: images ``[tasks, points, size, size, channels]``.
        kernel: ``[tasks, 9 * channels, filters]``, or without ``tasks`` where all have one.
        window: of the convolution.
        out: what it is added to.
    """
    z = FORMS[_form].product(x, kernel, window)
    return z if out is None else out.add_(z)


def weight_gradient(d: Tensor, x: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """Adjoint of :func:`product` in the kernel: ``[tasks, 9 * channels, filters]``, added to ``out``."""
    gradient = FORMS[_form].weight_gradient(d, x, window)
    return gradient if out is None else out.add_(gradient)


def input_gradient(terms: Terms, window: Window) -> Tensor:
    """Adjoint of :func:`product` in the images, summed over ``(d, kernel)`` pairs."""
    return FORMS[_form].input_gradient(terms, window)


def _padded(x: Tensor, window: Window) -> Tensor:
    """Images with zeros around them."""
    sides = (window.before, window.after)
    return F.pad(x, (0, 0, *sides, *sides))


def _inside(x: Tensor, window: Window) -> Tensor:
    """What lies within the zeros."""
    inside = slice(window.before, window.before + window.size)
    return x[:, :, inside, inside]


def _own_padding(window: Window) -> int:
    """Zeros that PyTorch's convolution can add by itself: as many before as after, or none."""
    return window.before if window.before == window.after else 0


def _of_its_tasks(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Images and kernels; where all tasks share a kernel, their images are those of one task."""
    return (x.flatten(0, 1)[None], kernel[None]) if kernel.dim() == 2 else (x, kernel)


def _apart(z: Tensor, tasks: int) -> Tensor:
    """The inverse of joining: ``[tasks, points, height, width, channels]``."""
    return z.unflatten(1, (tasks, -1)).permute(1, 0, 3, 4, 2).contiguous()
