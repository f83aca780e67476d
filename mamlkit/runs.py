"""Run folders: what was run, with what, how it went, and what of it is committed. No torch here.

A folder ``runs/<name>/seed<k>/`` holds ``run.json`` (row and provenance), ``metrics.csv``,
``state.safetensors`` (to go on from), and, once evaluated, ``params.safetensors``, ``tasks.npz`` (error of
every test task) and ``result.json``, written last.
"""

__all__ = ["LOG_COLUMNS", "diverged", "keep", "open_run", "provenance", "read_log", "repository", "statistics", "write_log", "write_result"]

import datetime
import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mamlkit.rows import Experiment, as_stored

LOG_COLUMNS = ["iteration", "seconds", "meta_loss", "validation"]
LOG_ROWS_KEPT = 1000  # a committed log is thinned to this
DECIMALS = 6  # of a committed mean: far below its standard error
DIVERGED_MSE = 25.0  # A^2 at most, which predicting zero never exceeds: see diverged()
EXPLODED_MSE = 1000.0  # no overshoot but an explosion, even if it lands well in the end
STEPS_KEPT = (0, 1, 3, 5, 10)  # of a single task's curve: those the paper reports; means are kept for all


def repository() -> Path:
    """The clone this package runs from, where ``data/`` lies.

    Raises:
        FileNotFoundError: the package was installed without its repository.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").exists():
        raise FileNotFoundError(
            "the committed results lie in the repository's data/ folder, and this mamlkit was installed without it; "
            "clone the repository and run from there: pip install -e ."
        )
    return root


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_log(path: Path, log: list[dict[str, float]]) -> None:
    """Write the lines of ``metrics.csv``; of policies they have other columns (see :mod:`mamlkit.rl.train`)."""
    columns = list(dict.fromkeys(key for line in log for key in line)) or LOG_COLUMNS
    write_text(path, pd.DataFrame(log, columns=columns).to_csv(index=False))


def read_log(path: Path, until: int, every: int | None = None) -> list[dict[str, float]]:
    """The lines of ``metrics.csv`` up to an iteration: what a resumed run had logged by then.

    Args:
        path: of the file.
        until: the iteration.
        every: iterations between two lines, if none may be missing.

    Raises:
        ValueError: lines are missing.
    """
    log = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["iteration"])
    lines = log[log.iteration <= until].to_dict("records")
    if every and len(lines) < (wanted := until // every):
        raise ValueError(
            f"{path} has {len(lines)} lines up to iteration {until}, where the run's state is, but {wanted} were written; "
            "restore the file, or move the run folder away to start again"
        )
    return [{k: v for k, v in line.items() if not (isinstance(v, float) and np.isnan(v))} for line in lines]


def _commit() -> str:
    if "MAMLKIT_COMMIT" in os.environ:  # for a copy without .git
        return os.environ["MAMLKIT_COMMIT"]
    root = Path(__file__).resolve().parents[1]
    git = lambda *words: subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "mamlkit") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def provenance(device: str) -> dict[str, Any]:
    """Where a number comes from: commit, date, device, versions.

    Args:
        device: name of the accelerator, or ``"cpu, 2 threads"``.
    """
    packages = ["torch", "numpy", "numba", "safetensors", "mujoco"]
    return {
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device,
        "processor": _processor(),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
    }


def open_run(row: Experiment, seed: int, device: str, *, scale: str = "paper", base: Path = Path("runs")) -> Path:
    """The folder of a run, made if need be. A run found there, or committed unfinished, is one to go on with.

    Args:
        row: the experiment at the scale it runs at.
        seed: of the run.
        device: for the record.
        scale: ``"quick"`` runs have folders of their own.
        base: where the run folders lie.

    Raises:
        ValueError: the folder holds a run of another row; the message names the fields that differ.
    """
    name = row.name if scale == "paper" else f"{row.name}-{scale}"
    folder = Path(base) / name / f"seed{seed}"
    if not (folder / "run.json").exists() and scale == "paper":
        try:
            unfinished = repository() / "data" / "partial" / name / f"seed{seed}"
        except FileNotFoundError:
            unfinished = folder
        if unfinished.exists() and unfinished != folder:
            shutil.copytree(unfinished, folder, dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"name": row.name, "scale": scale, "seed": seed, "settings": row.settings, "origin": [provenance(device)]}
    path = folder / "run.json"
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            settings, origins = dict(earlier["settings"]), list(earlier["origin"])
            last = origins[-1]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path} is not a whole record of a run ({error}); restore it, or move {folder} away to start again") from error
        fields = [k for k in record["settings"] if settings.get(k) != record["settings"][k]]
        if fields:
            changes = ", ".join(f"{k} was {settings.get(k)!r}, is {record['settings'][k]!r}" for k in fields)
            raise ValueError(f"{folder} holds a run of other settings ({changes}); move or delete it, or undo the change")
        record["origin"] = origins if last == record["origin"][0] else origins + record["origin"]
    write_json(path, record)
    return folder


def diverged(errors: np.ndarray) -> np.ndarray:
    """Where gradient descent on a regression task has diverged: a mask of the shape of ``errors``.

    It diverges on up to a few tasks in a thousand, to errors that swamp any mean: whether a sample holds such a
    task would decide the number. A task has diverged at a step if its error there is above
    :data:`EXPLODED_MSE`, or above :data:`DIVERGED_MSE` there and at the last step as well. One that
    overshoots and comes back has not.

    Args:
        errors: mean squared errors ``[..., steps]``.
    """
    above = ~(errors <= DIVERGED_MSE)  # written so that NaN counts
    return above & above[..., -1:] | ~(errors <= EXPLODED_MSE)


def statistics(metric: str, values: np.ndarray) -> dict[str, Any]:
    """Mean and standard deviation over tasks at each step, diverged tasks counted apart.

    ``mean`` and ``sd`` leave the diverged out (see :func:`diverged`), ``diverged`` counts them, and
    ``mean_of_all`` leaves nothing out (None where it is not finite). Accuracies have no such tasks, returns where they are NaN.

    Args:
        metric: ``"mse"``, or another, of which a task is left out only where it is not finite.
        values: error or accuracy ``[tasks, steps]``.

    Example:
        >>> statistics("mse", np.array([[1.0, 30.0, 2.0], [3.0, 30.0, 1e9]]))["mean"]
        [2.0, 30.0, 2.0]
    """
    out = diverged(values) if metric == "mse" else ~np.isfinite(values)
    kept = np.where(out, np.nan, values).astype(float)
    return {
        "mean": np.nanmean(kept, 0).round(DECIMALS).tolist(),
        "sd": np.nanstd(kept, 0).round(DECIMALS).tolist(),
        "tasks": len(values),
        "diverged": out.sum(0).tolist(),
        "mean_of_all": [round(v, DECIMALS) if np.isfinite(v) else None for v in values.mean(0, dtype=float).tolist()],
    }


def write_result(folder: Path, row: Experiment, iteration: int, seconds: float, evaluations: dict[str, dict[str, np.ndarray]]) -> Path:
    """Write ``tasks.npz`` and ``result.json``.

    Args:
        folder: a run folder.
        row: its experiment.
        iteration: outer updates done.
        seconds: training time.
        evaluations: name to metric to error ``[tasks, inner_steps + 1]``.
    """
    arrays = {f"{name}/{metric}": values for name, e in evaluations.items() for metric, values in e.items()}
    temporary = folder / "tasks.tmp.npz"
    # Half precision: its rounding is a thousandth of the spread over tasks, and the file stays small. Returns are few, so all are kept.
    few = lambda values: values[:, [s for s in STEPS_KEPT if s < values.shape[1]]].astype(np.float16)
    kept = {key: values.astype(np.float32) if key.endswith("/return") else few(values) for key, values in arrays.items()}
    np.savez_compressed(temporary, **kept)
    os.replace(temporary, folder / "tasks.npz")
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    settings = {e.name: as_stored(e) for e in row.evaluations}
    result = run | {
        "fingerprint": row.fingerprint,
        "iterations_done": iteration,
        "seconds": round(seconds, 1),
        "evaluations": {
            name: {"settings": settings[name]} | {metric: statistics(metric, values) for metric, values in metrics.items()}
            for name, metrics in evaluations.items()
        },
    }
    write_json(folder / "result.json", result)
    return folder / "result.json"


def keep(folder: Path, data: Path | None = None) -> list[Path]:
    """Copy a run's result into ``data/results``, and an unfinished run's state into ``data/partial``.

    The state of a finished run is removed from ``data/partial``. Returns the files written.

    Raises:
        FileNotFoundError: the run has no result yet.
    """
    data = data or repository() / "data"
    if not (folder / "result.json").exists():
        raise FileNotFoundError(f"{folder} has no result.json; finish it first: python -m mamlkit run NAME")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    name, seed = result["name"], f"seed{result['seed']}"
    kept = data / "results" / name
    kept.mkdir(parents=True, exist_ok=True)
    written = []
    for source in ("params.safetensors", "tasks.npz", "result.json"):  # the result last, as in the run
        target = kept / f"{seed}{'.tasks' if source == 'tasks.npz' else ''}{Path(source).suffix}"
        shutil.copyfile(folder / source, target)
        written.append(target)
    if (folder / "metrics.csv").exists():
        log = pd.read_csv(folder / "metrics.csv")
        every = -(-len(log) // LOG_ROWS_KEPT) or 1
        validated = log.validation.notna() if "validation" in log else False
        thinned = log[(log.index % every == every - 1) | validated] if len(log) > LOG_ROWS_KEPT else log
        target = kept / f"{seed}.metrics.csv"
        thinned.to_csv(target, index=False, float_format="%.6g")
        written.append(target)
    partial = data / "partial" / name / seed
    shutil.rmtree(partial, ignore_errors=True)
    if result["iterations_done"] < result["settings"]["iterations"]:
        partial.mkdir(parents=True)
        for source in ("run.json", "metrics.csv", "state.safetensors"):
            shutil.copyfile(folder / source, partial / source)
            written.append(partial / source)
    return written
