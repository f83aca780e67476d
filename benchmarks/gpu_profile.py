"""The part of ``gpu.py`` that looks into an iteration: its functions, its launches, its products."""

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import gpu_parts
import torch
from gpu_parts import Failures, Lines
from problems import timed
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

PRODUCTS = re.compile(r"gemm|cutlass|bmm|conv", re.I)  # kernels that are matrix products, by their names
# what the CPU tells the GPU to do, by its names in CUDA; a whole recording is one of these
LAUNCHES = re.compile(r"^cu(da)?(Launch|GraphLaunch|Memcpy|Memset)")
LAUNCH_US = 5.0  # microseconds of a launch: an assumption, on the side of the slow
SHOWN = 20  # functions of a row


def profiles(device: torch.device, failed: Failures) -> Lines:
    """Functions of one iteration by their time, plain and, where that can be, recorded.

    The line ``all`` has the operations that were launched too, and how long their launching takes as a part
    of the whole: an iteration with more than 1 there waits for launches.
    """
    lines = []
    for name in gpu_parts.TIMED:
        form = gpu_parts.use_best(name, device)
        for kind in (False, True)[: 1 + gpu_parts.can_repeat(name, device)]:
            with failed.noted(f"a profile of {name}, {'recorded' if kind else 'plain'}"):
                of_row = {"row": name, "form": form, "recorded": kind}
                with closing(gpu_parts.begun(name, device, kind)) as training:
                    events = _events(training, device)
                lines += [of_row | line for line in described(events, device.type == "cuda")]
    return lines


def _events(training: Any, device: torch.device) -> Sequence[Any]:
    """What the second iteration does; the first one makes the recording, if there is one."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    training.step(0)
    with profile(activities=kinds) as found:
        timed(lambda: training.step(1), device)
    return found.key_averages()


def described(events: Sequence[Any], of_gpu: bool) -> Lines:
    """The lines of one profile.

    On a GPU the time is its own, and launches are those of the CPU. On a CPU every function counts as
    launched, those within others too.
    """
    microseconds = lambda e: e.self_device_time_total if of_gpu else e.self_cpu_time_total
    # what the GPU does itself: who asks for it has the same time, and so has a named part
    work = [e for e in events if not of_gpu or of_kernel(e)]
    launches = sum(e.count for e in events if not of_gpu or LAUNCHES.match(e.key))
    total, calls = sum(map(microseconds, work)) or 1.0, sum(e.count for e in work)
    products = sum(microseconds(e) for e in work if PRODUCTS.search(e.key))
    part = f"launches x {LAUNCH_US:g} us, of the whole"
    return [
        {
            "what": "all",
            "calls": calls,
            "us": total,
            "launches": launches,
            part: launches * LAUNCH_US / total,
        },
        {"what": "products", "calls": None, "us": products},
        *(
            {"what": event.key[:100], "calls": event.count, "us": microseconds(event)}
            for event in sorted(work, key=microseconds, reverse=True)[:SHOWN]
        ),
    ]


def of_kernel(event: Any) -> bool:
    """Whether an event of a profile is the GPU's own work."""
    return event.device_type == DeviceType.CUDA and not event.is_user_annotation
