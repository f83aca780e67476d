"""Memory that is used again."""

__all__ = ["empty"]

import math
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

SMALL_BYTES = 64 << 10  # what the system's own allocator keeps at hand
LINE_BYTES = 64  # of the cache


class _Pools(threading.local):
    """A thread's memory by the length of its size in bits, so that there are few pools.

    Each piece has the view that a tensor was made of: who holds that uses the memory.
    """

    def __init__(self) -> None:
        self.of_length: dict[int, list[tuple[np.ndarray, weakref.ref[np.ndarray]]]] = {}


_pools = _Pools()


def empty(dtype: torch.dtype, *shape: int) -> Tensor:
    """Memory that this thread had before and nobody holds any more, or new memory.

    Its values are anything. A page that the system gives out anew costs as much as all that an engine's pass
    does with it. It begins where a line of the cache does: else each of the widest vectors lies in two.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL_BYTES:
        return torch.empty(shape, dtype=dtype)
    pool = _pools.of_length.setdefault(size.bit_length(), [])
    place = next((i for i, (_, view) in enumerate(pool) if view() is None), len(pool))
    buffer = pool[place][0] if place < len(pool) else _at_a_line(1 << size.bit_length())
    view = buffer[:size]  # PyTorch holds this as long as there is a tensor in the memory
    pool[place : place + 1] = [(buffer, weakref.ref(view))]
    return torch.from_numpy(view).view(dtype).view(shape)


def _at_a_line(size: int) -> np.ndarray:
    memory = np.empty(size + LINE_BYTES, np.uint8)
    return memory[-memory.ctypes.data % LINE_BYTES :]
