"""What of a run is committed: its result, or the state of one that is not finished. No torch here."""

__all__ = ["has_parameters", "keep", "keep_state"]

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from mamlkit import files, places
from mamlkit.experiments import paper
from mamlkit.experiments.averages import AverageRow
from mamlkit.experiments.candidates import is_candidate
from mamlkit.experiments.compare import is_compared, is_measured_again
from mamlkit.experiments.frequencies import is_control, with_frequency
from mamlkit.experiments.memory import has_memory
from mamlkit.experiments.rows import PolicyRow, Row
from mamlkit.experiments.sequences import is_reader
from mamlkit.experiments.traps import is_trap
from mamlkit.experiments.trials import LARGER
from mamlkit.measures import seeds_kept
from mamlkit.runs import logs
from mamlkit.runs.folders import RECORD, RESULT, STATE
from mamlkit.runs.records import iterations_done, read

FEW_LINES = 60  # of a log that no page shows, beside its validations: each is an iteration of a thousand


def keep_state(folder: Path) -> list[Path]:
    """Copy a run's record, log and state into ``data/partial``, from where any machine goes on.

    Returns the files written. Call it inside :func:`mamlkit.runs.folders.open_run`, so that nobody writes
    at the same time.

    Args:
        folder: of a run, which needs no result.

    Raises:
        FileNotFoundError: the run has no state yet.
        ValueError: it is none to be committed (quick, or with TF32), or a committed one of the same settings
            has come further.
    """
    target = _place_of_state(folder)
    files.remove_leftovers(target, STATE)
    # The state comes last: a log that is ahead of it is cut, so copying may end after any file.
    return [files.copy(folder / name, target / name) for name in STATE]


def _place_of_state(folder: Path) -> Path:
    """Where a run's state is kept; raises what :func:`keep_state` does."""
    if not (folder / "state.safetensors").exists():
        raise FileNotFoundError(
            f"{folder} has no state.safetensors; train it first: python -m mamlkit run NAME"
        )
    run = read(folder / "run.json", *RECORD)
    _refuse_rough(folder, run)
    target = places.repository() / "data" / "partial" / run["name"] / f"seed{run['seed']}"
    if (target / "run.json").exists():
        settings = read(target / "run.json", "settings")["settings"]
        here, there = iterations_done(folder), iterations_done(target)
        if settings == run["settings"] and there > here:
            raise ValueError(
                f"the state in {target} has {there:,} iterations, {folder} {here:,}; move {target} "
                "away if you mean to replace it"
            )
    return target


def _refuse_rough(folder: Path, run: dict[str, Any]) -> None:
    """``ValueError`` for a run that is not to be committed."""
    rough = [part["device"] for part in run["origin"] if "TF32" in part["device"].split(", ")]
    if run["scale"] != "paper" or rough:
        where = f", on {rough[0]}" if rough else ""
        raise ValueError(
            f"{folder} was run at the {run['scale']} scale{where}; only runs at the paper scale, without "
            "TF32, are kept"
        )


def has_parameters(name: str, seed: int) -> bool:
    """Whether the parameters of a run are committed.

    Of short trainings, whose other seeds say how far results spread, and of images, whose networks take up to
    a megabyte, those of seed 0 are enough; of methods compared, those which are measured again; of
    candidates, whose logs are compared, none, nor of a trial of other settings, nor of readers of sequences,
    which take megabytes, nor of controls of the drawn frequency and of splits by alphabets, whose errors are
    compared; and none of a row that trains nothing, since what it begins with can be made again.
    """
    row = paper.get(name)
    if type(row) in (Row, PolicyRow) and not row.iterations:
        return False
    if (
        name == LARGER
        or is_candidate(name)
        or is_control(name)
        or is_reader(name)
        or (is_trap(name) and isinstance(row, Row) and not row.inner_steps)
        or (is_compared(name) and not is_measured_again(name))
    ):
        return False
    of_images = isinstance(row, Row) and not row.family.startswith("sinusoid")
    of_one = of_images or has_memory(name) or with_frequency(name)
    return seed == 0 or not (of_one or isinstance(row, AverageRow))


def keep(folder: Path) -> list[Path]:
    """Copy a run's result into ``data/results``, and an unfinished run's state into ``data/partial``.

    Parameters are copied where :func:`has_parameters` says so, errors task by task of the first
    :func:`mamlkit.measures.seeds_kept`. The state of a finished run is removed from
    ``data/partial``. Returns the files written.

    Raises:
        FileNotFoundError: the run has no result yet.
        ValueError: it is none to be committed (quick, or with TF32), or a committed one of the same settings
            has come further.
    """
    data = places.repository() / "data"
    if not (folder / "result.json").exists():
        raise FileNotFoundError(f"{folder} has no result.json; finish it first: python -m mamlkit run NAME")
    result = read(folder / "result.json", *RECORD, "fingerprint", "iterations_done")
    _refuse_rough(folder, result)
    name, seed = result["name"], f"seed{result['seed']}"
    kept = data / "results" / name
    if (kept / f"{seed}.json").exists():
        earlier = read(kept / f"{seed}.json", "fingerprint", "iterations_done")
        here, there = result["iterations_done"], earlier["iterations_done"]
        if earlier["fingerprint"] == result["fingerprint"] and there > here:
            raise ValueError(
                f"the result in {kept} has {there:,} iterations, {folder} {here:,}; move {kept / seed}.json "
                "away if you mean to replace it"
            )
    unfinished = result["iterations_done"] < result["settings"]["iterations"]
    if unfinished:
        _place_of_state(folder)  # what it refuses is refused before anything is written
    suffixes = ("metrics.csv", "safetensors", "tasks.npz", "json")
    log, *parts = targets = [kept / f"{seed}.{suffix}" for suffix in suffixes]
    files.remove_leftovers(kept, [target.name for target in targets])
    written = []
    if (folder / "metrics.csv").exists():
        unseen = with_frequency(name) or (name.startswith("sinusoid-") and result["seed"])
        lines = FEW_LINES if unseen else logs.ROWS_KEPT
        files.write_text(log, logs.thinned(folder / "metrics.csv", lines))
        written.append(log)
    wanted = has_parameters(name, result["seed"]), result["seed"] < seeds_kept(name), True
    # the result last, as in the run
    written += [
        files.copy(folder / source, target) for source, target, want in zip(RESULT, parts, wanted) if want
    ]
    if unfinished:
        return written + keep_state(folder)
    shutil.rmtree(data / "partial" / name / seed, ignore_errors=True)
    with suppress(OSError):  # another seed of it is not finished, or there never was any
        (data / "partial" / name).rmdir()
    return written
