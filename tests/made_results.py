"""A repository of made-up results, written by the code that writes real ones."""

import json

import numpy as np

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.runs import folders, keeping, logs, queue


def repository(tmp_path, monkeypatch):
    """A repository with the real published numbers and table of contents, and no results."""
    (tmp_path / "data").mkdir()
    for name in (
        "data/published.csv",
        "data/published_goals.csv",
        "data/published_methods.csv",
        "data/published_bandits.csv",
        "data/published_tabular.csv",
        "data/published_snapshots.csv",
        "data/test_goals.csv",
        "_toc.yml",
    ):
        (tmp_path / name).write_bytes((places.repository() / name).read_bytes())
    monkeypatch.setattr(places, "repository", lambda: tmp_path)
    return tmp_path


def queued(tmp_path, monkeypatch, *rows):
    """A repository without results below ``tmp_path``, whose queue is these rows, tested twice each."""
    data = tmp_path / "repository" / "data"
    data.mkdir(parents=True)
    (data / "test_goals.csv").write_bytes((places.repository() / "data" / "test_goals.csv").read_bytes())
    monkeypatch.setattr(places, "repository", lambda: tmp_path / "repository")
    for row in rows:
        monkeypatch.setitem(paper.ROWS, row.name, row)
    monkeypatch.setattr(paper, "QUEUE", tuple(row.name for row in rows))
    monkeypatch.setattr(queue, "MILESTONES", 2)


def commit(repository, name, *, seed=0, errors=None, done=None, tasks=400):
    """Commit a result; ``errors``, ``[tasks, steps]``, are those of each evaluation, else 1 + 0.1 N(0, 1)."""
    row = paper.get(name)
    metrics = ("accuracy", "cross_entropy") if row.metric == "accuracy" else (row.metric,)
    made = np.random.default_rng(seed)
    curves = {}
    for evaluation in row.evaluations:
        shape = (tasks, evaluation.inner_steps + 1)
        curves[evaluation.name] = {
            m: 1 + 0.1 * made.standard_normal(shape) if errors is None else errors for m in metrics
        }
    done = row.iterations if done is None else done
    with folders.open_run(row, seed, "a device", base=repository / "runs") as folder:
        (folder / "params.safetensors").write_bytes(b"")
        _train(folder, done)
        folders.write_result(folder, row, done, 60.0, curves)
        keeping.keep(folder)


def begin(repository, name, *, done, seed=0):
    """Commit the state of a run that was not tested yet."""
    with folders.open_run(paper.get(name), seed, "a device", base=repository / "runs") as folder:
        _train(folder, done)
        keeping.keep_state(folder)


def _train(folder, done):
    """A state that says no more than its iteration, and a log of one line."""
    header = json.dumps({"__metadata__": {"iteration": str(done)}}).encode()
    (folder / "state.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    logs.write(folder / "metrics.csv", [{"iteration": 100, "seconds": 1.0, "meta_loss": 1.0}])
