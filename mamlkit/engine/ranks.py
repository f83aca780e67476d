"""One run over many processes, which ``torchrun`` starts: each is a rank, and computes some parts of every
meta-batch.

All ranks draw the same tasks and take the same steps, so that only what they compute of their parts is
exchanged: sums of gradients, and in reinforcement learning the episodes. It is gathered in the order of the
parts, and added as one process adds it: on CPUs of one kind the number of ranks does not move a digit.
"""

__all__ = ["ALONE", "Lost", "Ranks", "joined"]

import datetime
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from mamlkit.maml import Params, Task

# A rank waits so long for the others: the first one tests on validation tasks, another may have gone unheard.
PATIENCE = datetime.timedelta(minutes=30)
Thing = TypeVar("Thing")


class Lost(ConnectionError):
    """Another rank of the run has ended, or does not answer."""


class Ranks:
    """The processes of a run, as one of them sees them.

    Args:
        rank: of this one, from 0.
        count: of all.
        device: where tensors are that are exchanged.
    """

    def __init__(self, rank: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.count, self.device = rank, count, device

    @property
    def first(self) -> bool:
        """Whether this one logs, saves, tests and keeps the result."""
        return self.rank == 0

    @property
    def here(self) -> int:
        """Processes of this machine, which share its cores."""
        return 1 if self.count == 1 else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def dealt(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """Those that this rank computes; the first, for nobody's use, where there are fewer than ranks."""
        return things[self.rank :: self.count] or things[:1]

    def gathered(self, own: Tensor, count: int) -> Tensor:
        """What all ranks have computed of so many things, in their order, ``[count, ...]``.

        Args:
            own: of those that :meth:`dealt` gave, ``[dealt, ...]``; on ``device``, or on the CPU.
            count: of all things.

        Raises:
            Lost: another rank has.
        """
        if self.count == 1:
            return own
        sent = own.new_zeros(-(-count // self.count), *own.shape[1:], device=self.device)
        sent[: len(own)] = own
        every = [torch.empty_like(sent) for _ in range(self.count)]
        with _together():
            dist.all_gather(every, sent)
        return torch.stack(every, 1).flatten(0, 1)[:count].to(own.device)

    def each(
        self,
        work: Callable[[Sequence[Task]], list[tuple[Params, Tensor]]],
        parts: Sequence[Task],
        like: Params,
    ) -> list[tuple[Params, Tensor]]:
        """Sums of gradients and losses of all parts of a meta-batch, in their order.

        Args:
            work: gives them for some parts.
            parts: of which none has more tasks than the first.
            like: parameters with the names and shapes of the gradients.

        Raises:
            Lost: another rank has.
        """
        if self.count == 1 or len(parts) == 1:  # one part takes each rank as long as it takes one
            return work(parts)
        longest, sizes = len(parts[0].query[1]), [value.numel() for value in like.values()]
        found, own = [], self.dealt(parts)
        lines = next(iter(like.values())).new_zeros(len(own), sum(sizes) + longest)
        for line, (gradient, losses) in zip(lines, work(own)):
            values = torch.cat([*(gradient[name].flatten() for name in like), losses])
            line[: len(values)] = values
        for line, part in zip(self.gathered(lines, len(parts)), parts):
            *gradients, losses = line.split([*sizes, longest])
            named = zip(like.items(), gradients)
            gradient = {name: values.view_as(value) for (name, value), values in named}
            found.append((gradient, losses[: len(part.query[1])]))
        return found

    def most(self, number: int) -> int:
        """The largest number that a rank has; ``Lost`` if one is not there."""
        if self.count == 1:
            return number
        found = torch.tensor(number, device=self.device)
        with _together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def of_first(self, thing: Any) -> Any:
        """What the first rank has; ``Lost`` if one is not there."""
        if self.count == 1:
            return thing
        sent = [thing]
        with _together():
            dist.broadcast_object_list(sent, src=0)
        return sent[0]


ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """This process among those that ``torchrun`` has started, or :data:`ALONE`.

    Args:
        device: of the computation; each process of a machine takes a GPU of its own.

    Raises:
        ValueError: this machine has more processes than GPUs.
        Lost: the others do not come.
    """
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= (count := torch.cuda.device_count()):
            raise ValueError(f"process {local} of this machine has no GPU; use --nproc-per-node={count}")
        torch.cuda.set_device(local)
    with _together():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # the first sentence, without gloo's own place in its source; what follows is advice for others
        said = re.sub(r"^\[[^\]]*\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise Lost(f"another process of this run has ended, or does not answer ({said})") from error
