"""Parameters and training state as safetensors files: written whole or not at all, read as written."""

__all__ = ["Store", "finite", "load_params", "load_state", "save_params", "save_state"]

import hashlib
import json
import re
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim import Optimizer

from mamlkit import files
from mamlkit.experiments.rows import Experiment
from mamlkit.maml import Params
from mamlkit.runs import logs, records

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # of Adam; the last is a count


def _digest(tensors: Params, metadata: dict[str, str]) -> str:
    """A hash of everything that a file holds."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, t in sorted(tensors.items()):
        found.update(json.dumps([name, str(t.dtype), list(t.shape)]).encode())
        found.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _save(tensors: Params, path: Path, metadata: dict[str, str]) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    record = json.dumps(metadata | {"digest": _digest(tensors, metadata)}, sort_keys=True)
    # One entry: several would come in another order each time, and the same state would be another file.
    files.write_bytes(path, safetensors.torch.save(tensors, {"record": record}))


def _load(path: Path, before: set[str]) -> tuple[Params, dict[str, str]]:
    """Tensors and metadata of a file; ``before`` are the metadata's keys when there was no digest."""
    if not path.exists():
        raise FileNotFoundError(
            f"there is no checkpoint {path}; of some rows and seeds none is kept, and a row that was not run "
            "is trained and kept by python -m mamlkit run NAME --keep"
        )
    away = records.to_move(path)
    advice = f"restore {path.name} from git or a backup; without one, move {away} away and train again"
    content = path.read_bytes()
    try:
        tensors, metadata = safetensors.torch.load(content), files.metadata(content)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); {advice}") from error
    wanted = metadata.pop("digest", None)
    if wanted != _digest(tensors, metadata) and (wanted is not None or set(metadata) != before):
        raise ValueError(f"{path} is damaged: it is not what was written (its digest is another); {advice}")
    return dict(sorted(tensors.items())), metadata  # in an order that is always the same


def save_params(params: Params, path: Path) -> None:
    """Write parameters; the file appears whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    _save(params, path, {})


def load_params(path: Path) -> Params:
    """Read a file of :func:`save_params`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    return _load(Path(path), before=set())[0]


def _named(params: Params, optimiser: Optimizer | None) -> Params:
    """Parameters and the optimiser's moments, if there is one, by the names that a state has for them."""
    tensors = {f"params/{name}": t for name, t in params.items()}
    names = list(params)
    for index, moments in (optimiser.state_dict()["state"] if optimiser else {}).items():
        tensors.update({f"optimiser/{names[index]}/{key}": value for key, value in moments.items()})
    return tensors


def finite(params: Params, optimiser: Optimizer | None) -> bool:
    """Whether training can go on from these: parameters and moments of which none is infinite or NaN."""
    return all(bool(tensor.isfinite().all()) for tensor in _named(params, optimiser).values())


def save_state(
    path: Path,
    iteration: int,
    params: Params,
    optimiser: Optimizer | None,
    window: list[Tensor],
    run: dict[str, str] | None = None,
) -> None:
    """Write what training needs to go on exactly.

    Args:
        path: of the file.
        iteration: outer updates done.
        params: theta.
        optimiser: whose moments are written, if there is one.
        window: the losses not yet logged.
        run: whose state it is, and a hash of its log.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    tensors = _named(params, optimiser)
    if window:
        tensors["window"] = torch.stack(window)
    _save(tensors, path, {"iteration": str(iteration)} | (run or {}))


def load_state(
    path: Path, params: Params, optimiser: Optimizer | None
) -> tuple[int, list[Tensor], dict[str, str]]:
    """Fill ``params`` and ``optimiser`` from a file; returns iteration, window, and what it says of its run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or belongs to another network. Nothing is filled then.
    """
    tensors, metadata = _load(path, before={"iteration"})
    iteration = records.iteration_of(path, metadata)
    like = {f"params/{name}": t for name, t in params.items()}
    if optimiser and iteration:  # Adam's
        for name, t in params.items():
            like |= {f"optimiser/{name}/{key}": torch.zeros(()) if key == "step" else t for key in MOMENTS}
    window = tensors.pop("window", torch.zeros(0))
    kinds = lambda parts: {name: (list(t.shape), str(t.dtype)) for name, t in parts.items()}
    came, wanted = kinds(tensors), kinds(like)
    if wrong := [name for name in came | wanted if came.get(name) != wanted.get(name)]:
        raise ValueError(
            f"{path} is not a training state of this row: its {wrong[0]} is {came.get(wrong[0])}, but must "
            f"be {wanted.get(wrong[0])} ({len(wrong)} differ in all); move {path.parent} away, or choose "
            "another folder"
        )
    if window.dim() != 1 or not window.is_floating_point():
        said = f"its window is {list(window.shape)}, {window.dtype}"
        raise ValueError(f"{path} is not a training state: {said}; {records.start_again(path)}")
    if optimiser:
        state = optimiser.state_dict()
        for index, name in enumerate(params if iteration else ()):
            state["state"][index] = {key: tensors[f"optimiser/{name}/{key}"] for key in MOMENTS}
        optimiser.load_state_dict(state)
    with torch.no_grad():
        for name, value in params.items():
            value.copy_(tensors[f"params/{name}"])
    device = next(iter(params.values())).device
    return iteration, [loss.to(device) for loss in window], metadata


class Store:
    """Where a training keeps what it needs to go on.

    Args:
        folder: of a run (see :func:`mamlkit.runs.folders.open_run`), or one without a run in it; None keeps
            nothing.
        row: the experiment at the scale it runs at.
        seed: of the run.
        every: iterations between two lines of the log.
        columns: that its lines may have.
    """

    def __init__(
        self, folder: Path | None, row: Experiment, seed: int, every: int, columns: list[str]
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.row, self.seed, self.every, self.columns = row, seed, every, columns
        self.saved = 0  # iterations that the state in the folder has
        self.seconds = 0.0  # of training that it took

    @property
    def begun(self) -> bool:
        """Whether there is a state, or no place for one."""
        return self.folder is None or (self.folder / "state.safetensors").exists()

    def load(self, params: Params, optimiser: Optimizer | None) -> tuple[int, list[Tensor], logs.Log]:
        """Fill ``params`` and ``optimiser`` with what is there.

        Returns:
            The iteration, the losses not yet logged, and the log.

        Raises:
            ValueError: state or log are damaged, do not belong together, or are of another run.
        """
        if self.folder is None:
            return 0, [], []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mark, record = _mark(self.folder), self.folder / "run.json"
        self.record = record.read_bytes() if record.exists() else None
        iteration, window, run = 0, list[Tensor](), dict[str, str]()
        if (path := self.folder / "state.safetensors").exists():
            records.refuse_another(path, self.row, self.seed)
            iteration, window, run = load_state(path, params, optimiser)
            due = 0 if iteration == self.row.iterations else iteration % self.every
            if len(window) != due:
                said = f"{len(window)} losses that are not logged yet, but needs {due}"
                raise ValueError(f"{path} has {said} at iteration {iteration}; {records.start_again(path)}")
        log = logs.read(
            self.folder / "metrics.csv",
            iteration,
            total=self.row.iterations,
            every=self.every,
            columns=self.columns,
            wanted=run.get("log"),
        )
        self.saved = iteration
        self.seconds = log[-1]["seconds"] if log else 0.0
        if (told := run.get("seconds")) is not None:  # states did not always say it
            if not re.fullmatch(r"[0-9]+\.[0-9]+", told):
                raise ValueError(
                    f"{path} is not a training state: its seconds are {told}; {records.start_again(path)}"
                )
            self.seconds = max(self.seconds, float(told))
        return iteration, window, log

    def save(
        self,
        iteration: int,
        params: Params,
        optimiser: Optimizer | None,
        window: list[Tensor],
        log: logs.Log,
        seconds: float,
    ) -> None:
        """Write state and log, and the seconds of training that they took.

        Raises:
            FileNotFoundError: somebody has removed or replaced the folder; the message says where the state
                is.
            OSError: they cannot be written; those of before are still there.
        """
        if self.folder is None:
            return
        whole = _mark(self.folder) == self.mark
        # Another process may be at work in what has taken the folder's place.
        folder = self.folder if whole else self.folder.with_name(f"{self.folder.name}-rescued-{iteration}")
        run = records.identity(self.row, self.seed) | {"log": logs.digest(log), "seconds": f"{seconds:.3f}"}
        logs.write(folder / "metrics.csv", log)  # first: one ahead of the state is cut, one behind has a gap
        save_state(folder / "state.safetensors", iteration, params, optimiser, window, run)
        if not whole:
            if self.record:
                files.write_bytes(folder / "run.json", self.record)
            raise FileNotFoundError(
                f"{self.folder} was removed, emptied or replaced while its training went on; "
                f"the state of iteration {iteration} is in {folder}, move that into its place to go on"
            )
        self.saved = iteration


def _mark(folder: Path) -> tuple[int, int, bool] | None:
    """What tells a folder from another in its place."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, (folder / "run.json").exists()
