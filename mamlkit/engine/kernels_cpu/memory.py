"""Memory that is used again."""

__all__ = ["empty"]

import math
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

SMALL_BYTES = 64 << 10  # what the system's own allocator keeps at hand

_local = threading.local()


def empty(dtype: torch.dtype, *shape: int) -> Tensor:
    """Memory that this thread has had before and that nobody holds any more, or new memory; its values are
    anything.

    A page that the system gives out anew costs as much as all that an engine's pass does with it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL_BYTES:
        return torch.empty(shape, dtype=dtype)
    pool = _local.__dict__.setdefault(size.bit_length(), [])  # of powers of two, so that there are few pools
    place = next((i for i, (_, user) in enumerate(pool) if user() is None), len(pool))
    if place == len(pool):
        pool.append((np.empty(1 << size.bit_length(), np.uint8), None))
    buffer, _ = pool[place]
    user = buffer[:size]  # PyTorch holds this view as long as there is a tensor in the memory
    pool[place] = buffer, weakref.ref(user)
    return torch.from_numpy(user).view(dtype).view(shape)
