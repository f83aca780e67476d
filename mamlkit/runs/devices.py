"""Where is computed, and with which arithmetic."""

__all__ = ["available", "check_name", "described", "set_up"]

import re

import torch

from mamlkit.engine import convolutions
from mamlkit.engine.threads import check


def set_up(
    device: str = "auto", *, tf32: bool = False, threads: int | None = None, form: str | None = None
) -> torch.device:
    """Choose the device and make its arithmetic explicit.

    Args:
        device: ``"auto"`` (CUDA where there is one, else CPU), or a name torch knows (``"mps"`` is untested).
        tf32: let a GPU round the inputs of matrix products to 10 bits. Off for every reported number, and
            for GPUs alone.
        threads: CPU threads; torch's own choice if None.
        form: of convolutions, one of :data:`mamlkit.engine.convolutions.FORMS`, for all but CPUs, which have
            their own; None leaves the one that is in use.

    Raises:
        ValueError: for a device that is not there or has no such products or convolutions, and a number of
            threads that cannot be meant.
    """
    if threads is not None:
        check(threads)
    chosen = available(device)
    if tf32 and chosen.type != "cuda":
        raise ValueError(f"--tf32 is for a GPU, but the device is {chosen}; leave it out")
    if form is not None and chosen.type == "cpu":
        raise ValueError(f"--convolutions {form} is for a GPU, but the device is {chosen}; leave it out")
    if form is not None:
        convolutions.use(form)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if threads is not None:
        torch.set_num_threads(threads)
    return chosen


def available(device: str | torch.device) -> torch.device:
    """A device on which can be computed here, by names as for :func:`set_up`. No setting is changed.

    Raises:
        ValueError: it is not there, or nothing is called so.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # which "meta" has not
    except (RuntimeError, AssertionError, TypeError) as error:
        said = str(error).splitlines()[0].split(". ")[0]  # what follows is for who builds PyTorch
        shown = repr(str(device) if isinstance(device, torch.device) else device)
        raise ValueError(
            f"device={shown} cannot be used ({said}); use 'cpu', or 'auto' for what is there"
        ) from error
    return chosen


def check_name(device: str) -> None:
    """``ValueError`` for a device that no machine has; whether this one has it is not asked."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ValueError(
            f"device={device!r}, but no device is called so; use 'auto', 'cpu', 'cuda', 'cuda:0' (or another "
            "number) or 'mps'"
        )


def described(device: torch.device) -> str:
    """A device as the record of a run names it, with what changes the rounding there.

    PyTorch's own settings let convolutions round to TF32: who trains on a GPU from Python calls
    :func:`set_up` first.
    """
    if device.type == "cuda":
        form = convolutions.in_use()
        words = [f"{form} convolutions"] * (form != convolutions.DEFAULT)
        coarse = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        words += ["TF32"] * coarse  # by which `keeping` knows it
        return ", ".join([torch.cuda.get_device_name(device), *words])
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"
