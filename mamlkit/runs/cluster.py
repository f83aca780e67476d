"""The queue on many machines, through Ray: each run is trained wherever there is room for it.

A run goes in slices of a minute. A slice gets what the run folder holds, trains on a machine that Ray has
chosen, and gives back what it came to. So the machines need no common disk and lose a minute at most, and all
that is kept lies with whoever asked: in the run folders and ``data/`` of this machine.
"""

__all__ = ["Machines", "Slice", "train_slice", "work"]

import functools
import itertools
import math
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mamlkit import files
from mamlkit.experiments.rows import Experiment
from mamlkit.runs import addresses, devices, folders, provenance, queue
from mamlkit.runs.plan import Job
from mamlkit.runs.terminal import Interrupted, deferred_interrupt

SLICE_SECONDS = 60.0  # what a lost machine costs at most, as a killed process does
LOSSES = 5  # of the same slice, after which its run counts as failed
POLL_SECONDS = 0.2


class Slice(NamedTuple):
    """What a slice gives back.

    Args:
        iteration: outer updates done.
        evaluations: tests of the parameters there, if it has reached its goal.
        content: of the files in the run folder, by name.
    """

    iteration: int
    evaluations: queue.Evaluations | None
    content: dict[str, bytes]


def train_slice(
    row: Experiment,
    seed: int,
    goal: int,
    content: dict[str, bytes],
    *,
    code: str,
    device: str,
    threads: int,
    seconds: float,
) -> Slice:
    """Bring a run nearer to a goal, in a folder that nobody else sees.

    Args:
        row: the experiment.
        seed: of the run.
        goal: iterations after which it is tested.
        content: of the files in its folder, by name.
        code: :func:`mamlkit.runs.provenance.code` of whoever asks.
        device, threads: where to compute, as for :func:`mamlkit.runs.devices.set_up`.
        seconds: after which training ends; one iteration is done in any case.

    Raises:
        ValueError: this machine has the package at another commit, or with other files.
    """
    here = provenance.code()
    if here != code:
        raise ValueError(
            f"{os.uname().nodename} has mamlkit at commit {here}, but the queue was started at {code}; "
            "bring all machines to the same commit, unchanged (MAMLKIT_COMMIT names that of a copy "
            "without .git)"
        )
    chosen = devices.set_up(device, threads=threads)
    end, calls = time.monotonic() + seconds, itertools.count()
    stop = lambda: next(calls) > 0 and time.monotonic() >= end
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        _write(base / row.name / f"seed{seed}", content)
        with folders.open_run(row, seed, devices.described(chosen), base=base) as folder:
            iteration, evaluations = queue.advance(
                row, seed, folder, goal, stop, device=chosen, threads=threads, progress=False
            )
            return Slice(iteration, evaluations, _read(folder, folders.STATE + folders.RESULT))


def _read(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def _write(folder: Path, content: dict[str, bytes]) -> None:
    """In the order in which they came: a state after its log, a result last."""
    for name, written in content.items():
        files.write_bytes(folder / name, written)


class Machines:
    """The machines of a Ray cluster, and what a run needs of one.

    Args:
        address: of the cluster (see :mod:`mamlkit.runs.addresses`); ``"auto"`` is the one that this machine
            belongs to. None is that one too, or this machine alone where there is none.
        device: ``"auto"`` takes the GPU where ``gpus`` asks for one, else the CPU.
        threads: CPUs of a run.
        gpus: share of a GPU that a run takes; None is 1 where ``device`` names one, else 0.

    Raises:
        ValueError: there is no such address or device, Ray is not installed, there is no cluster, or no
            machine of it has what a run needs.
    """

    def __init__(
        self, address: str | None = None, *, device: str = "auto", threads: int = 1, gpus: float | None = None
    ) -> None:
        addresses.check(address)
        devices.check_name(device)  # this machine need not have it
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # no second cluster after the end of this one
        try:
            import ray
        except ImportError as error:
            raise ValueError(
                "--on ray needs Ray, which is not installed; "
                "in the clone: .venv/bin/python -m pip install -c constraints.txt -e '.[cluster]'"
            ) from error
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            raise ValueError(
                f"there is no Ray cluster at {address!r} ({error}); start one with: ray start --head, "
                "or leave --address out"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray has one of its own
        self.ray: Any = ray
        self.needs = {
            "CPU": float(threads),
            "GPU": float(device.startswith("cuda")) if gpus is None else gpus,
        }
        chosen = device if device != "auto" else "cuda" if self.needs["GPU"] else "cpu"
        # A lost slice is told and asked for again here, where it can be seen.
        task = ray.remote(train_slice).options(num_cpus=threads, num_gpus=self.needs["GPU"], max_retries=0)
        where = {"code": provenance.code(), "device": chosen, "threads": threads}
        self.task: Callable[..., Any] = lambda *run: task.remote(*run, seconds=SLICE_SECONDS, **where)
        if not self.room():
            self.close()
            wanted = " and ".join(f"{value:g} {name}" for name, value in self.needs.items() if value)
            raise ValueError(f"no machine of the cluster has the {wanted} that a run needs; ask for less")

    def room(self) -> int:
        """How many runs these machines have room for, all together."""
        alive = [machine["Resources"] for machine in self.ray.nodes() if machine["Alive"]]
        share = lambda has: min(has.get(name, 0) / need for name, need in self.needs.items() if need)
        return sum(int(share(has) + 1e-6) for has in alive)

    def slice(
        self, tell: Callable[[str], None], row: Experiment, seed: int, goal: int, content: dict[str, bytes]
    ) -> Slice:
        """:func:`train_slice` on one of the machines, and on another one if that is lost.

        Raises:
            RuntimeError: it was lost again and again.
            Exception: what the run itself has failed of.
        """
        errors = self.ray.exceptions
        for _ in range(LOSSES):
            try:
                return self.ray.get(self.task(row, seed, goal, content))
            except errors.RayTaskError as error:
                raise error.cause from None
            except errors.RayError as error:
                lost = error
                kind = type(error).__name__
                tell(f"{row.name}, seed {seed}: lost with its machine ({kind}), goes on elsewhere")
        raise RuntimeError(f"{LOSSES} times in a row its machine was lost; at last: {lost}")

    def advance(
        self,
        tell: Callable[[str], None],
        row: Experiment,
        seed: int,
        folder: Path,
        goal: int,
        stop: Callable[[], bool],
    ) -> tuple[int, queue.Evaluations | None]:
        """:class:`mamlkit.runs.queue.Advance` on these machines, after the line of progress ``tell``."""
        done = folders.iterations_done(folder)
        while not stop():
            done, evaluations, content = self.slice(tell, row, seed, goal, _read(folder, folders.STATE))
            _write(folder, content)
            if evaluations is not None:
                return done, evaluations
        return done, None

    def close(self) -> None:
        """Let the cluster go; what was started for this process alone ends."""
        self.ray.shutdown()


def work(
    found: Sequence[Job],
    machines: Machines,
    *,
    hours: float = math.inf,
    base: Path = Path("runs"),
    tell: Callable[[str], None] = queue.say,
) -> list[str]:
    """As :func:`mamlkit.runs.queue.work`, with as many runs under way as the machines have room for.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the slices under way have ended and their states are
            put into ``data/partial``; on the second one at once, which loses these slices.
    """
    end = time.monotonic() + 3600 * hours
    failed: list[str] = []
    waiting, running = deque(found), list[threading.Thread]()
    notice = (
        f"waits for the slices under way, {SLICE_SECONDS:g} s and a test at most; once more stops at once"
    )
    bring = functools.partial(machines.advance, tell)
    with deferred_interrupt(lambda _: tell(notice)) as asked:
        over = lambda: bool(asked) or time.monotonic() >= end
        while running or (waiting and not over()):
            while waiting and not over() and len(running) < machines.room():
                given = waiting.popleft(), bring, None, over, base, tell, failed
                # A daemon, which a second Ctrl-C does not wait for.
                running.append(threading.Thread(target=queue.attempt, args=given, daemon=True))
                running[-1].start()
            time.sleep(POLL_SECONDS)
            running = [thread for thread in running if thread.is_alive()]
    if failed:
        tell("\n  ".join(["failed:", *failed]))
    if asked:
        raise Interrupted("stopped; the same command goes on", asked[0])
    return failed
