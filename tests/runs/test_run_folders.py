"""Run folders and the command line: provenance, resuming, refusing, keeping."""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest

import made_clone
from made_results import commit
from made_runs import opened
from mamlkit import __main__, files, measures, places, tasks
from mamlkit.experiments import paper, rows
from mamlkit.runs import checkpoints, folders, keeping, logs, supervised, supervised_training, train

pytestmark = pytest.mark.usefixtures("one_by_one")

ROW = dataclasses.replace(paper.get("sinusoid-maml"), iterations=250, meta_batch_size=2, quick={})
ROW = dataclasses.replace(ROW, evaluations=tuple(dataclasses.replace(e, tasks=20) for e in ROW.evaluations))


@pytest.fixture
def short(monkeypatch, tmp_path):
    """The row above under its own name, and an empty place for run folders and committed data."""
    monkeypatch.setitem(paper.ROWS, ROW.name, ROW)
    monkeypatch.setattr(places, "repository", lambda: tmp_path / "repository")
    return ["run", ROW.name, "--runs", str(tmp_path / "runs"), "--device", "cpu"]


def test_a_run_ends_with_a_result_that_can_be_derived_again(short, tmp_path, capsys):
    assert __main__.main(short) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    result = json.loads((folder / "result.json").read_text())
    assert (result["iterations_done"], result["seed"], result["fingerprint"]) == (250, 0, ROW.fingerprint)
    assert {"commit", "date", "device", "processor", "versions"} <= result["origin"][0].keys()
    params = checkpoints.load_params(folder / "params.safetensors")
    for evaluation in ROW.evaluations:
        curves = supervised.evaluate(ROW, params, evaluation)
        stored = result["evaluations"][evaluation.name]["mse"]
        assert np.allclose(stored["mean_of_all"], curves["mse"].mean(0), rtol=1e-4) and stored["tasks"] == 20
        per_task = np.load(folder / "tasks.npz")[f"{evaluation.name}/mse"]
        kept = [step for step in measures.STEPS_KEPT if step <= evaluation.inner_steps]
        assert np.allclose(per_task, curves["mse"][:, kept], rtol=2e-3)
    log = pd.read_csv(folder / "metrics.csv")
    assert list(log.columns) == logs.COLUMNS and list(log.iteration) == [100, 200, 250]
    assert "result in" in capsys.readouterr().out


@pytest.mark.parametrize("until", [0, 1, 120, 249, 250, 300, None])
def test_a_run_that_is_stopped_early_says_so(short, until, capsys, monkeypatch):
    monkeypatch.setitem(paper.ROWS, ROW.name, dataclasses.replace(ROW, evaluations=ROW.evaluations[:1]))
    assert __main__.main([*short, *([] if until is None else ["--until", str(until)])]) == 0
    said = f"stopped at {until} of 250 iterations; without --until it goes on"
    assert (said in capsys.readouterr().out) == (until in (0, 1, 120, 249))


def test_a_run_that_is_past_its_until_says_so(short, capsys):
    for until, passed in ((3, False), (2, True), (3, False)):
        assert __main__.main([*short, "--until", str(until)]) == 0
        said = f"--until {until} was passed before: this run is at 3 iterations\n"
        assert (said in capsys.readouterr().out) == passed


def test_the_seconds_of_a_result_are_those_of_all_its_training(short, tmp_path, monkeypatch):
    clock = itertools.count()  # a second at each look
    monkeypatch.setattr(train, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 1e9)
    few = dataclasses.replace(ROW, evaluations=(dataclasses.replace(ROW.evaluations[0], tasks=20),))
    monkeypatch.setitem(paper.ROWS, ROW.name, few)
    folder = tmp_path / "runs" / ROW.name / "seed0"

    def seconds(*until):
        assert __main__.main([*short, *until]) == 0
        state = files.metadata((folder / "state.safetensors").read_bytes())["seconds"]
        result = json.loads((folder / "result.json").read_text())["seconds"]
        assert result == float(state)
        return result

    assert seconds("--until", "0") == 0.0
    found = [seconds(*until) for until in (("--until", "50"), ("--until", "120"), (), ())]
    assert found[0] > 50 and found[1] > found[0] + 70 and found[2] > found[1] + 130
    assert found[3] == found[2]  # looked at, and not trained
    log = pd.read_csv(folder / "metrics.csv")
    assert log.seconds.is_monotonic_increasing and log.seconds.iloc[-1] <= found[2]


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
    one, other = (
        checkpoints.load_params(p)
        for p in (
            data / "results" / ROW.name / "seed0.safetensors",
            tmp_path / "straight" / ROW.name / "seed0" / "params.safetensors",
        )
    )
    assert all((one[k] == other[k]).all() for k in other)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_other_settings_is_refused_and_the_fields_are_named(tmp_path):
    opened(ROW, base=tmp_path)
    changed = dataclasses.replace(ROW, inner_lr=0.02, shots=5)
    with pytest.raises(ValueError, match="inner_lr was 0.01, is 0.02, shots was 10, is 5"):
        opened(changed, base=tmp_path)
    reworded = dataclasses.replace(ROW, title="another title")
    assert opened(reworded, base=tmp_path) == tmp_path / ROW.name / "seed0"


def test_a_folder_that_was_copied_for_another_seed_or_scale_is_refused(tmp_path):
    folder = opened(ROW, base=tmp_path)
    shutil.copytree(folder, folder.with_name("seed1"))
    with pytest.raises(ValueError, match="seed1 holds a run of other settings .seed was 0, is 1"):
        opened(ROW, 1, base=tmp_path)
    shutil.copytree(folder.parent, tmp_path / f"{ROW.name}-quick")
    with pytest.raises(ValueError, match="scale was 'paper', is 'quick'"):
        opened(ROW, scale="quick", base=tmp_path)


def test_a_setting_that_is_gone_counts_as_changed(tmp_path):
    folder = opened(ROW, base=tmp_path)
    record = json.loads((folder / "run.json").read_text())
    record["settings"]["momentum"] = 0.9
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="momentum was 0.9, is None"):
        opened(ROW, base=tmp_path)


def test_two_processes_do_not_share_a_run_folder_and_the_refused_one_writes_nothing(short, tmp_path, capsys):
    assert __main__.main([*short, "--until", "100"]) == 0
    with folders.open_run(ROW, 0, "cpu, 1 thread", base=tmp_path / "runs"):
        before = contents(tmp_path)
        assert __main__.main([*short, "--threads", "2"]) == 1
        assert contents(tmp_path) == before
    assert "another process is at work in" in capsys.readouterr().err
    assert __main__.main([*short, "--until", "1"]) == 0  # the place is free again


def test_nothing_is_read_or_written_before_the_folder_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(
        folders, "_take_up", lambda *_: pytest.fail("looked into a folder of another process")
    )
    with (
        folders.filelock.FileLock(opened_by_nobody(tmp_path) / "lock"),
        pytest.raises(ValueError, match="another process is at work"),
    ):
        opened(ROW, base=tmp_path)
    assert [path.name for path in (tmp_path / ROW.name / "seed0").iterdir()] == ["lock"]


def opened_by_nobody(base):
    (base / ROW.name / "seed0").mkdir(parents=True)
    return base / ROW.name / "seed0"


@pytest.mark.parametrize("harm", ["no state", "a line is gone", "a line twice", "no column"])
def test_a_run_with_a_part_missing_is_refused_and_nothing_is_lost(harm, short, tmp_path, capsys):
    assert __main__.main([*short, "--until", "200"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    log = (folder / "metrics.csv").read_text().splitlines()
    if harm == "no state":
        (folder / "state.safetensors").unlink()
    else:
        text = {
            "a line is gone": [log[0], log[2]],
            "a line twice": [*log[:2], *log[1:]],
            "no column": ["a,b", "1,2"],
        }[harm]
        (folder / "metrics.csv").write_text("\n".join(text) + "\n")
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}
    assert __main__.main(short) == 1
    message = capsys.readouterr().err
    wanted = {
        "no state": "state.safetensors.*is missing",
        "a line is gone": "no line of iteration 100",
        "a line twice": "two lines of iteration 100",
    }
    assert (
        re.search(wanted.get(harm, "is not the log of a run"), message) and f"move {folder} away" in message
    )
    assert {name: (folder / name).read_bytes() for name in kept} == kept


def test_what_must_not_be_committed_is_not_kept(short, tmp_path, capsys):
    data = tmp_path / "repository" / "data"
    assert (
        __main__.main([*short, "--scale", "quick", "--keep"]) == 1
        and "--keep is for results at the paper scale" in capsys.readouterr().err
    )
    quick = [
        "run",
        ROW.name,
        "--runs",
        str(tmp_path / "quick"),
        "--device",
        "cpu",
        "--scale",
        "quick",
        "--until",
        "1",
    ]
    assert __main__.main(quick) == 0
    with pytest.raises(
        ValueError, match="at the quick scale.*only runs at the paper scale, without TF32, are kept"
    ):
        keeping.keep(tmp_path / "quick" / f"{ROW.name}-quick" / "seed0")
    assert not data.exists()


def test_a_committed_result_that_has_come_further_stays(short, tmp_path, capsys):
    data = tmp_path / "repository" / "data"
    assert __main__.main([*short, "--until", "200", "--keep"]) == 0
    committed = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    shutil.rmtree(data / "partial")  # as if nobody had the state, so that a run begins again
    again = [*short[:3], str(tmp_path / "again"), *short[4:]]
    assert __main__.main([*again, "--until", "100", "--keep"]) == 1
    assert "has 200 iterations" in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in committed.items() if "results" in path.parts)
    assert __main__.main([*again, "--keep"]) == 0  # it is further now


FEW = dataclasses.replace(ROW, iterations=30)


@pytest.fixture
def few(short, monkeypatch):
    """A row of few iterations that logs often."""
    monkeypatch.setattr(supervised_training, "LOG_EVERY", 10)
    return FEW


def goes_on_as_a_straight_run(row, base):
    """Train to the end from what is committed, and compare with a run that was never cut."""
    with folders.open_run(row, 0, "cpu", base=base) as folder:
        fit = train.fit(row, folder=folder)
    straight = train.fit(row)
    same_log = np.array_equal(
        fit.log.drop(columns="seconds"), straight.log.drop(columns="seconds"), equal_nan=True
    )
    return same_log and all((fit.params[name] == straight.params[name]).all() for name in straight.params)


def test_the_state_of_a_run_without_result_is_kept_and_goes_on_elsewhere(few, tmp_path):
    data = tmp_path / "repository" / "data"
    with folders.open_run(few, 0, "cpu", base=tmp_path / "runs") as folder:
        train.fit(few, folder=folder, until=17)
        written = keeping.keep_state(folder)
    assert {p.name for p in written} == {"run.json", "metrics.csv", "state.safetensors"}
    assert written[0].parent == data / "partial" / few.name / "seed0" and not (data / "results").exists()
    assert folders.iterations_done(written[0].parent) == 17
    assert goes_on_as_a_straight_run(few, tmp_path / "elsewhere")


@pytest.mark.parametrize("number", range(3))
def test_keeping_a_state_may_end_after_any_file(number, few, tmp_path, monkeypatch):
    for until, killed_after in ((12, 3), (24, number)):
        with (
            folders.open_run(few, 0, "cpu", base=tmp_path / "runs") as folder,
            monkeypatch.context() as patch,
        ):
            train.fit(few, folder=folder, until=until)
            copy, done = files.copy, []
            patch.setattr(
                folders.files,
                "copy",
                lambda *paths, copy=copy, done=done, most=killed_after: (
                    done.append(copy(*paths)) if len(done) < most else 1 / 0
                ),
            )
            with pytest.raises(ZeroDivisionError) if killed_after < 3 else contextlib.nullcontext():
                keeping.keep_state(folder)
    assert folders.iterations_done(tmp_path / "repository" / "data" / "partial" / few.name / "seed0") == 12
    assert goes_on_as_a_straight_run(few, tmp_path / "elsewhere")


def test_a_kept_state_that_has_come_further_stays(short, tmp_path):
    for base, until in (("far", 20), ("near", 10)):
        with folders.open_run(ROW, 0, "cpu", base=tmp_path / base) as folder:
            train.fit(ROW, folder=folder, until=until)
    far, near = (tmp_path / base / ROW.name / "seed0" for base in ("far", "near"))
    keeping.keep_state(far)
    before = contents(tmp_path / "repository")
    with pytest.raises(ValueError, match="has 20 iterations, .*near.* 10; move"):
        keeping.keep_state(near)
    assert contents(tmp_path / "repository") == before
    keeping.keep_state(far)  # the same again does no harm


def test_a_run_that_was_not_trained_has_no_state_to_keep(short, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no state.safetensors; train it first"):
        keeping.keep_state(opened(ROW, base=tmp_path / "runs"))


def test_a_committed_state_that_has_come_further_is_gone_on_from_and_nothing_is_lost(short, tmp_path):
    assert __main__.main([*short, "--until", "100"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    here = (folder / "state.safetensors").read_bytes()
    further = [*short[:3], str(tmp_path / "further"), *short[4:]]
    assert __main__.main([*further, "--until", "200", "--keep"]) == 0
    with folders.open_run(ROW, 0, "cpu", base=tmp_path / "runs"):
        assert folders.iterations_done(folder) == 200
    aside = folder.with_name("seed0-behind-100")
    assert (aside / "state.safetensors").read_bytes() == here
    assert {*folders.STATE, *folders.RESULT} == {path.name for path in aside.iterdir()}
    assert __main__.main(short) == 0
    params = checkpoints.load_params(folder / "params.safetensors")
    straight = train.fit(ROW).params
    assert all((params[name] == straight[name]).all() for name in straight)


@pytest.mark.parametrize(
    "content", ["", '{"settings"', "{}", "[]", '{"settings": {}}', '{"settings": {}, "origin": []}']
)
def test_a_damaged_record_of_a_run_is_named(content, tmp_path):
    folder = opened(ROW, base=tmp_path)
    (folder / "run.json").write_text(content)
    with pytest.raises(ValueError, match="run.json is not a whole record of a run.*move .*seed0 away"):
        opened(ROW, base=tmp_path)
    assert (folder / "run.json").read_text() == content


KEYS = '["name", "scale", "seed", "settings", "origin", "fingerprint", "iterations_done"]'
ORIGINS = (None, [1], [{}])  # that are none
WRONG = [json.dumps(dict.fromkeys(json.loads(KEYS), 0) | {"origin": origin}) for origin in ORIGINS]


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"name": "sinusoid-maml"}', "\xff", KEYS, "[" * 100_000, *WRONG]
)
@pytest.mark.parametrize("name", ["run.json", "result.json"])
def test_a_damaged_record_is_named_by_what_would_keep_it(name, content, short, tmp_path):
    assert __main__.main([*short, "--until", "100"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    (folder / name).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{name} is not a whole record of a run .*; restore it"):
        keeping.keep(folder)
    if name == "run.json":
        with pytest.raises(ValueError, match="run.json is not a whole record of a run"):
            keeping.keep_state(folder)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("name", ["results/sinusoid-maml/seed0.json", "partial/sinusoid-maml/seed0/run.json"])
def test_a_damaged_committed_record_is_not_replaced(name, short, tmp_path):
    assert __main__.main([*short, "--until", "100", "--keep"]) == 0
    (committed := tmp_path / "repository" / "data" / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is not a whole record of a run"):
        keeping.keep(tmp_path / "runs" / ROW.name / "seed0")
    assert committed.read_text() == "{"


def test_a_run_that_is_refused_before_it_begins_leaves_no_record(short, tmp_path, monkeypatch):
    monkeypatch.setitem(paper.ROWS, ROW.name, dataclasses.replace(ROW, method="mamm"))
    assert __main__.main(short) == 1
    assert not list((tmp_path / "runs").rglob("run.json"))


@pytest.mark.parametrize(
    ("given", "said"),
    [({"scale": "big"}, "scale='big', but the scales are 'quick', 'paper'")]
    + [({"seed": seed}, f"seed={seed!r}, but a whole number from 0 on") for seed in (-1, 0.5, "0", True)],
)
def test_a_folder_of_no_run_is_not_made(given, said, tmp_path):
    with (
        pytest.raises(ValueError, match=said),
        folders.open_run(**{"row": ROW, "seed": 0, "device": "cpu", "base": tmp_path} | given),
    ):
        pass
    assert not any(tmp_path.iterdir())


def test_a_result_is_never_beside_parameters_that_are_not_its_own(short, tmp_path, monkeypatch):
    assert __main__.main([*short, "--until", "100"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"

    def fails(*_, **__):
        raise OSError("the disk is full")

    before = contents(folder)
    monkeypatch.setattr(folders, "write_result", fails)  # after the parameters are written
    assert __main__.main([*short, "--until", "200"]) == 1
    after = contents(folder)
    assert all(after[name] == before[name] for name in before if name.name in folders.RESULT)
    assert set(after) == set(before) and folders.iterations_done(folder) == 200


@pytest.mark.parametrize("device", ["H200, TF32", "H200, TF32, 2 processes"])
def test_of_a_run_with_coarse_products_the_part_that_had_them_is_named(device, short, tmp_path):
    assert __main__.main(short) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    record = json.loads((folder / "result.json").read_text())
    (part,) = record["origin"]
    files.write_json(folder / "result.json", record | {"origin": [part | {"device": device}, part]})
    with pytest.raises(ValueError, match=f"at the paper scale, on {device}; only runs"):
        keeping.keep(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("meta_batch_size", 0), ("inner_steps", -1), ("outer_lr", 0.0), ("clip", -1.0), ("inner_lr", np.nan)],
)
def test_settings_that_no_run_can_have_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{ROW.name}: {field}={value}, but it must be"):
        dataclasses.replace(ROW, **{field: value})


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"tasks": 0}, "a whole number, at least 1"),
        ({"tasks": 2.5}, "a whole number"),
        ({"inner_lr": -0.1}, "must be at least 0"),
        ({"inner_steps": -1}, "at least 0"),
        ({"headline_step": 11}, "headline_step=11, but only 10 steps are taken"),
    ],
)
def test_evaluations_that_cannot_be_are_refused(test, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ROW.evaluations[0], **test)


def test_the_step_of_a_policys_headline_is_one_that_is_taken():
    with pytest.raises(ValueError, match=r"goals: headline_step=1, but only 0 steps are taken \(inner_lrs\)"):
        rows.PolicyEvaluation("goals", 2, ())
    assert rows.PolicyEvaluation("goals", 2, (), headline_step=0).inner_steps == 0


def test_rows_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="iterations=2.5, but it must be a whole number"):
        dataclasses.replace(ROW, iterations=2.5)
    with pytest.raises(ValueError, match="each needs one of its own"):
        dataclasses.replace(ROW, evaluations=ROW.evaluations[:1] * 2)
    with pytest.raises(ValueError, match="ways=10, but the network tells 5 classes apart"):
        dataclasses.replace(paper.get("omniglot-5way-1shot"), ways=10)


@pytest.mark.parametrize("change", [{"method": "mamm"}, {"loss": "hinge"}, {"network": ("conv5", {})}])
def test_unknown_names_are_refused_with_the_known_ones(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}='.*', but it must be one of '"):
        supervised.method(dataclasses.replace(ROW, **change))


@pytest.mark.parametrize(
    "words", [["--threads", "0"], ["--seed", "-1"], ["--seed", "one"], ["--until", "-5"], ["--until", "1.5"]]
)
def test_options_that_cannot_be_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        __main__.main(["run", "sinusoid-maml", *words])
    assert (
        f"argument {words[0]}: {words[1]}, but it must be a whole number, at least" in capsys.readouterr().err
    )


def test_every_machine_that_worked_on_a_run_is_recorded(tmp_path):
    for device in ("cpu", "cpu", "gpu"):
        folder = opened(ROW, 0, device, base=tmp_path)
    assert [origin["device"] for origin in json.loads((folder / "run.json").read_text())["origin"]] == [
        "cpu",
        "gpu",
    ]


def test_a_run_that_goes_on_with_other_code_says_so_and_records_it(short, tmp_path, monkeypatch, capsys):
    told = {"commit": "0123456789+changes", "files": "first"}
    monkeypatch.setattr(folders, "version", lambda: dict(told))
    monkeypatch.setattr(folders, "provenance", lambda device: told | {"device": device})
    assert __main__.main([*short, "--until", "1", "--keep"]) == 0
    assert __main__.main([*short, "--until", "2", "--keep"]) == 0
    assert "the code has changed" not in capsys.readouterr().err
    told["files"] = "second"
    assert __main__.main([*short, "--until", "3", "--keep"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    partial = tmp_path / "repository" / "data" / "partial" / ROW.name / "seed0"
    said = capsys.readouterr().err
    assert (
        f"{ROW.name}, seed 0: the code has changed since this run was last worked on, at commit "
        "0123456+changes (files first); it goes on at commit 0123456+changes (files second). "
        f"To begin anew, move {folder} and {partial} away\n"
    ) in said
    result = json.loads((folder / "result.json").read_text())
    assert [part["files"] for part in result["origin"]] == ["first", "second"]
    told["files"], lines = "third", []
    opened(ROW, device=None, base=tmp_path / "runs", tell=lines.append)  # others compute
    assert len(lines) == 1 and "at commit 0123456+changes (files third)" in lines[0]
    shutil.rmtree(folder)
    shutil.rmtree(partial)
    opened(ROW, base=tmp_path / "runs", tell=lines.append)  # nothing to go on from
    assert len(lines) == 1


def test_the_log_of_a_long_run_is_thinned_and_keeps_its_validations(tmp_path, short):
    assert __main__.main([*short, "--until", "100"]) == 0
    folder = tmp_path / "runs" / ROW.name / "seed0"
    lines = [
        {"iteration": 100 * i, "seconds": i, "meta_loss": 1.0} | ({"validation": 2.0} if i % 500 == 0 else {})
        for i in range(1, 3501)
    ]
    logs.write(folder / "metrics.csv", lines)
    kept = keeping.keep(folder)
    log = pd.read_csv(next(p for p in kept if p.name.endswith("metrics.csv") and "results" in p.parts))
    assert len(log) <= logs.ROWS_KEPT and log.validation.notna().sum() == 7


@pytest.mark.parametrize("count", [1000, 1001, 1975, 2000, 2001])
def test_a_thinned_log_keeps_its_last_line(tmp_path, count):
    logs.write(tmp_path / "metrics.csv", [{"iteration": i, "seconds": i} for i in range(1, count + 1)])
    kept = pd.read_csv(io.StringIO(logs.thinned(tmp_path / "metrics.csv")))
    assert kept.iteration.iloc[-1] == count and len(kept) <= logs.ROWS_KEPT + 1
    kept = pd.read_csv(io.StringIO(logs.thinned(tmp_path / "metrics.csv", 50)))
    assert kept.iteration.iloc[-1] == count and 50 // 2 < len(kept) <= 50 + 1


def test_where_the_frequency_is_drawn_little_is_kept(repository):
    for seed in (0, 1):
        commit(repository, "sinusoid-frequency-maml", seed=seed)
    place = repository / "data" / "results" / "sinusoid-frequency-maml"
    there = {"seed0.json", "seed0.metrics.csv", "seed0.safetensors", "seed1.json", "seed1.metrics.csv"}
    assert {path.name for path in place.iterdir()} == there
    assert not keeping.has_parameters("sinusoid-frequency-maml-fixed", 0)
    lines = [{"iteration": 100 * i, "seconds": i, "meta_loss": 1.0} for i in range(1, 601)]
    folder = repository / "runs" / "sinusoid-frequency-maml" / "seed1"
    logs.write(folder / "metrics.csv", lines)
    keeping.keep(folder)
    assert len(pd.read_csv(place / "seed1.metrics.csv")) == keeping.FEW_LINES


def test_of_other_seeds_of_a_sinusoid_few_lines_are_kept(repository):
    place = repository / "data" / "results" / "sinusoid-maml"
    for seed in (0, 1):
        commit(repository, "sinusoid-maml", seed=seed)
        lines = [{"iteration": 100 * i, "seconds": i, "meta_loss": 1.0} for i in range(1, 701)]
        logs.write(repository / "runs" / "sinusoid-maml" / f"seed{seed}" / "metrics.csv", lines)
        keeping.keep(repository / "runs" / "sinusoid-maml" / f"seed{seed}")
    kept = [pd.read_csv(place / f"seed{seed}.metrics.csv") for seed in (0, 1)]
    assert len(kept[0]) == 700 and keeping.FEW_LINES // 2 < len(kept[1]) <= keeping.FEW_LINES + 1
    assert all(log.iteration.iloc[-1] == 70_000 for log in kept)


def test_of_images_the_parameters_of_one_seed_are_kept():
    for name in ("omniglot-no-conv-5way-1shot", "mini-imagenet-pretrained", "omniglot-5way-1shot"):
        assert keeping.has_parameters(name, 0) and not keeping.has_parameters(name, 1)
    assert keeping.has_parameters("sinusoid-maml", 1) and keeping.has_parameters("2d-navigation-maml", 1)


def test_of_short_trainings_the_parameters_of_one_seed_are_kept(repository):
    for name, of_seeds in (("trap-5way", [True, False]), ("omniglot-5way-1shot", [True, False])):
        for seed, kept in enumerate(of_seeds):
            commit(repository, name, seed=seed)
            results = repository / "data" / "results" / name
            assert (results / f"seed{seed}.safetensors").exists() == kept
            assert (results / f"seed{seed}.json").exists() and (results / f"seed{seed}.tasks.npz").exists()


def test_errors_task_by_task_are_kept_of_the_first_seeds(repository):
    for seed in (2, 3):
        commit(repository, "omniglot-5way-1shot", seed=seed)
    results = repository / "data" / "results" / "omniglot-5way-1shot"
    assert [(results / f"seed{seed}.tasks.npz").exists() for seed in (2, 3)] == [True, False]


def test_diverged_tasks_are_counted_apart_and_nothing_is_hidden():
    values = np.array([[1.0, 40.0, 1.0], [3.0, 30.0, np.inf], [2.0, 25.0, np.nan]])  # the first comes back
    assert measures.left_out("mse", np.array([[1.0, 1001.0, 1.0], [1.0, 1000.0, 25.0]])).tolist() == [
        [False, True, False],
        [False] * 3,
    ]
    got = measures.statistics("mse", values)
    assert got["mean"] == [2.0, 32.5, 1.0] and got["sd"] == [round((2 / 3) ** 0.5, 6), 7.5, 0.0]
    assert (
        got["diverged"] == [0, 1, 2]
        and got["tasks"] == 3
        and got["mean_of_all"] == [2.0, round(95 / 3, 6), None]
    )
    assert measures.statistics("accuracy", np.array([[20.0], [100.0]]))["mean"] == [60.0]


def test_the_rule_for_diverged_tasks_is_that_of_sinusoids_alone(repository):
    values = np.array([[1.0, 40.0], [3.0, 30.0], [2.0, np.nan]])
    assert measures.statistics("mse", values, "square")["mean"] == [2.0, 35.0]
    assert measures.statistics("mse", values, "square")["diverged"] == [0, 1]
    assert set(measures.DIVERGES) == {name for name in tasks.FAMILIES if name.startswith("sinusoid")}
    ours = [row for name, row in paper.ROWS.items() if name.startswith("sinusoid")]
    assert {row.family for row in ours} <= measures.DIVERGES.keys()


def test_the_fingerprint_follows_settings_and_not_words():
    changes = [
        {"inner_lr": 0.1},
        {"network": ("mlp", {})},
        {"iterations": 1},
        {"clip": 1.0},
        {"family": "glyphs"},
    ]
    prints = {dataclasses.replace(ROW, **change).fingerprint for change in changes}
    assert len(prints | {ROW.fingerprint}) == len(changes) + 1
    assert (
        dataclasses.replace(ROW, title="x", place="y", quick={"iterations": 1}).fingerprint == ROW.fingerprint
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "sinusoid"], "no experiment is called 'sinusoid'; do you mean sinusoid-"),
        (["run", "sinusoid-maml", "--device", "quantum"], "use 'cpu', or 'auto'"),
    ],
)
def test_errors_are_one_line_and_a_status(words, message, capsys):
    assert __main__.main(words) == 1
    assert message in capsys.readouterr().err


def test_the_commands_that_show_results_need_no_torch():
    code = "import sys; from mamlkit.__main__ import main; "
    code += "assert main(['list']) == main(['table']) == 0 and 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "omniglot-20way-5shot" in shown and "48.70 ± 1.84" in shown


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_has_the_status_of_its_signal(
    number, status, short, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        gradient = supervised.meta_batch.meta_gradient
        patch.setattr(
            supervised.meta_batch,
            "meta_gradient",
            lambda *args: (os.kill(os.getpid(), number), gradient(*args))[1],
        )
        assert __main__.main(short) == status
    assert capsys.readouterr().err.endswith("\nstopped after iteration 1; the same command resumes it\n")
    assert __main__.main([*short, "--until", "2"]) == 0


def test_without_its_repository_the_package_trains_or_refuses_before_it_does(tmp_path):
    made_clone.whole_package(tmp_path / "site")
    (tmp_path / "site" / "pyproject.toml").touch()  # of somebody else
    code = """
import dataclasses
from mamlkit.__main__ import main
from mamlkit.experiments import paper
row = paper.ROWS["sinusoid-maml"]
few = dataclasses.replace(row.evaluations[0], tasks=20)
paper.ROWS[row.name] = dataclasses.replace(row, evaluations=(few,))
commands = ["run sinusoid-maml --scale quick --until 1", "run 2d-navigation-maml --scale quick"]
commands += ["run sinusoid-maml --keep", "list", "table"]
print([main(words.split()) for words in commands])
"""
    options = {
        "cwd": tmp_path,
        "env": os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        "capture_output": True,
        "text": True,
    }
    shown = subprocess.run([sys.executable, "-c", code], check=True, **options)
    assert shown.stdout.splitlines()[-1] == "[0, 1, 1, 1, 1]"
    assert (
        shown.stderr.count(
            "error: the committed results and the test goals lie in the repository's data/ folder"
        )
        == 4
    )
    assert "Traceback" not in shown.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["sinusoid-maml-quick"]


@pytest.mark.parametrize("command", ["list", "table"])
def test_a_reader_that_has_had_enough_ends_the_command_silently(command):
    words = [sys.executable, "-m", "mamlkit", command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == b""
    assert process.returncode == 141
