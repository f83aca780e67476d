"""Random numbers: a generator for each purpose, and no state to save."""

__all__ = ["generator"]

import hashlib

from torch import Generator


def generator(seed: int, purpose: str, index: int = 0) -> Generator:
    """A random generator that depends on nothing but its arguments.

    The meta-batch of an iteration is drawn from ``generator(seed, "train", iteration)``, so a run has no
    random state to save, and a resumed one sees the tasks it would have seen. PyTorch's generator keeps 32
    bits of a seed, so that of many ten thousand iterations two may have the same tasks, which does no harm.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
