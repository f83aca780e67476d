"""Run folders and the command line: provenance, resuming, refusing, keeping."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from mamlkit import __main__, checkpoints, experiments, runs, train

ROW = dataclasses.replace(experiments.get("sinusoid-maml"), iterations=250, meta_batch_size=2, quick={})
ROW = dataclasses.replace(ROW, evaluations=tuple(dataclasses.replace(e, tasks=20) for e in ROW.evaluations))


@pytest.fixture
def short(monkeypatch, tmp_path):
    """The row above under its own name, and an empty place for run folders and committed data."""
    monkeypatch.setitem(experiments.ROWS, ROW.name, ROW)
    monkeypatch.setattr(runs, "repository", lambda: tmp_path / "repository")
    return ["run", ROW.name, "--runs", str(tmp_path / "runs"), "--device", "cpu"]


def test_a_run_ends_with_a_result_that_can_be_derived_again(short, tmp_path, capsys):
    assert __main__.main(short) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    result = json.loads((folder / "result.json").read_text())
    assert (result["iterations_done"], result["seed"], result["fingerprint"]) == (250, 0, ROW.fingerprint)
    assert {"commit", "date", "device", "processor", "versions"} <= result["origin"][0].keys()
    params = checkpoints.load_params(folder / "params.safetensors")
    for evaluation in ROW.evaluations:
        curves = train.evaluate(ROW, params, evaluation)
        stored = result["evaluations"][evaluation.name]["mse"]
        assert np.allclose(stored["mean_of_all"], curves["mse"].mean(0), rtol=1e-4) and stored["tasks"] == 20
        per_task = np.load(folder / "tasks.npz")[f"{evaluation.name}/mse"]
        assert np.allclose(per_task, curves["mse"][:, runs.STEPS_KEPT], rtol=2e-3)
    log = pd.read_csv(folder / "metrics.csv")
    assert list(log.columns) == runs.LOG_COLUMNS and list(log.iteration) == [100, 200, 250]
    assert "result in" in capsys.readouterr().out


def test_an_unfinished_run_is_kept_and_goes_on_elsewhere(short, tmp_path):
    assert __main__.main([*short, "--until", "120", "--keep"]) == 0
    data = tmp_path / "repository" / "data"
    assert json.loads((data / "results" / ROW.name / "seed0.json").read_text())["iterations_done"] == 120
    partial = data / "partial" / ROW.name / "seed0"
    assert {p.name for p in partial.iterdir()} == {"run.json", "metrics.csv", "state.safetensors"}

    elsewhere = [*short[:3], str(tmp_path / "elsewhere"), *short[4:]]
    assert __main__.main([*elsewhere, "--keep"]) == 0
    assert not partial.exists()
    straight = [*short[:3], str(tmp_path / "straight"), *short[4:]]
    assert __main__.main(straight) == 0
    one, other = (checkpoints.load_params(p) for p in (data / "results" / ROW.name / "seed0.safetensors", tmp_path / "straight" / ROW.name / "seed0" / "params.safetensors"))
    assert all((one[k] == other[k]).all() for k in other)


def test_a_folder_of_other_settings_is_refused_and_the_fields_are_named(tmp_path):
    runs.open_run(ROW, 0, "cpu", base=tmp_path)
    changed = dataclasses.replace(ROW, inner_lr=0.02, shots=5)
    with pytest.raises(ValueError, match="inner_lr was 0.01, is 0.02, shots was 10, is 5"):
        runs.open_run(changed, 0, "cpu", base=tmp_path)
    reworded = dataclasses.replace(ROW, title="another title")
    assert runs.open_run(reworded, 0, "cpu", base=tmp_path) == tmp_path / ROW.name / "seed0"


@pytest.mark.parametrize("content", ["", '{"settings"', "{}", "[]", '{"settings": {}}', '{"settings": {}, "origin": []}'])
def test_a_damaged_record_of_a_run_is_named(content, tmp_path):
    folder = runs.open_run(ROW, 0, "cpu", base=tmp_path)
    (folder / "run.json").write_text(content)
    with pytest.raises(ValueError, match="run.json is not a whole record of a run.*move .*seed0 away"):
        runs.open_run(ROW, 0, "cpu", base=tmp_path)
    assert (folder / "run.json").read_text() == content


@pytest.mark.parametrize(("field", "value"), [("meta_batch_size", 0), ("inner_steps", -1), ("outer_lr", 0.0), ("clip", -1.0), ("inner_lr", np.nan)])
def test_settings_that_no_run_can_have_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{ROW.name}: {field}={value}, but it must be"):
        dataclasses.replace(ROW, **{field: value})


@pytest.mark.parametrize("test", [{"tasks": 0}, {"inner_lr": -0.1}, {"inner_steps": -1}])
def test_evaluations_that_cannot_be_are_refused(test):
    with pytest.raises(ValueError, match="must be at least"):
        dataclasses.replace(ROW.evaluations[0], **test)


@pytest.mark.parametrize("change", [{"method": "mamm"}, {"loss": "hinge"}, {"network": ("conv5", {})}])
def test_unknown_names_are_refused_with_the_known_ones(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}='.*', but it must be one of '"):
        train.build(dataclasses.replace(ROW, **change))


@pytest.mark.parametrize("words", [["--threads", "0"], ["--seed", "-1"], ["--until", "-5"]])
def test_options_that_cannot_be_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        __main__.main(["run", "sinusoid-maml", *words])
    assert f"argument {words[0]}: {words[1]}, but it must be at least" in capsys.readouterr().err


def test_every_machine_that_worked_on_a_run_is_recorded(tmp_path):
    for device in ("cpu", "cpu", "gpu"):
        folder = runs.open_run(ROW, 0, device, base=tmp_path)
    assert [origin["device"] for origin in json.loads((folder / "run.json").read_text())["origin"]] == ["cpu", "gpu"]


def test_the_log_of_a_long_run_is_thinned_and_keeps_its_validations(tmp_path, short):
    assert __main__.main([*short, "--until", "100"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    lines = [{"iteration": 100 * i, "seconds": i, "meta_loss": 1.0} | ({"validation": 2.0} if i % 500 == 0 else {}) for i in range(1, 3501)]
    runs.write_log(folder / "metrics.csv", lines)
    kept = runs.keep(folder, tmp_path / "data")
    log = pd.read_csv(next(p for p in kept if p.name.endswith("metrics.csv") and "results" in p.parts))
    assert len(log) <= runs.LOG_ROWS_KEPT and log.validation.notna().sum() == 7


def test_diverged_tasks_are_counted_apart_and_nothing_is_hidden():
    values = np.array([[1.0, 40.0, 1.0], [3.0, 30.0, np.inf], [2.0, 25.0, np.nan]])  # the first comes back
    assert runs.diverged(np.array([[1.0, 1001.0, 1.0], [1.0, 1000.0, 25.0]])).tolist() == [[False, True, False], [False] * 3]
    got = runs.statistics("mse", values)
    assert got["mean"] == [2.0, 32.5, 1.0] and got["sd"] == [round((2 / 3) ** 0.5, 6), 7.5, 0.0]
    assert got["diverged"] == [0, 1, 2] and got["tasks"] == 3 and got["mean_of_all"] == [2.0, round(95 / 3, 6), None]
    assert runs.statistics("accuracy", np.array([[20.0], [100.0]]))["mean"] == [60.0]


def test_the_fingerprint_follows_settings_and_not_words():
    changes = [{"inner_lr": 0.1}, {"network": ("mlp", {})}, {"iterations": 1}, {"clip": 1.0}, {"family": "glyphs"}]
    prints = {dataclasses.replace(ROW, **change).fingerprint for change in changes}
    assert len(prints | {ROW.fingerprint}) == len(changes) + 1
    assert dataclasses.replace(ROW, title="x", place="y", quick={"iterations": 1}).fingerprint == ROW.fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "sinusoid"], "the names are sinusoid-maml"),
        (["run", "sinusoid-maml", "--device", "quantum"], "use 'cpu', or 'auto'"),
    ],
)
def test_errors_are_one_line_and_a_status(words, message, capsys):
    assert __main__.main(words) == 1
    assert message in capsys.readouterr().err


def test_the_commands_that_show_results_need_no_torch():
    import subprocess
    import sys

    code = "import sys; from mamlkit.__main__ import main; assert main(['list']) == 0 and main(['table']) == 0; assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "omniglot-20way-5shot" in shown and "48.70 ± 1.84" in shown
