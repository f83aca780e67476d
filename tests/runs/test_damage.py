"""Files of a run that are damaged, cut short, mixed up, or another's: refused by name, nothing lost."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamlkit import files, places
from mamlkit.experiments import paper
from mamlkit.runs import checkpoints, folders, keeping, logs, records

ROW = dataclasses.replace(paper.get("sinusoid-maml"), iterations=12)
PARAMS = {"weight": torch.tensor([0.5, -1.5]), "bias": torch.zeros(1)}
LOG = [
    {"iteration": 4 * i, "seconds": 1.25 * i, "meta_loss": 1 / (i + 2)}
    | ({"validation": 1e-5} if i == 2 else {})
    for i in (1, 2)
]


def trained(params):
    """Adam after some steps, which change the parameters."""
    adam = torch.optim.Adam(params.values())
    for step in range(3):
        for value in params.values():
            value.grad = torch.full_like(value, 0.1 + step)
        adam.step()
    return adam


def store(folder, row=ROW, seed=0, every=4):
    return checkpoints.Store(folder, row, seed, every, logs.COLUMNS)


def loaded(folder, **options):
    """Everything that a store gives, as plain values."""
    params = {name: torch.zeros_like(value) for name, value in PARAMS.items()}
    adam = torch.optim.Adam(params.values())
    iteration, window, log = store(folder, **options).load(params, adam)
    moments = [value.tolist() for part in adam.state_dict()["state"].values() for value in part.values()]
    return (
        iteration,
        [value.item() for value in window],
        log,
        {k: v.tolist() for k, v in params.items()},
        moments,
    )


def saved(folder, iteration=9, log=LOG):
    """A small run, saved by the code that saves real ones."""
    params = {name: value.clone() for name, value in PARAMS.items()}
    place, adam = store(folder), trained(params)
    place.load(params, adam)
    place.save(iteration, params, adam, [torch.tensor(0.25)] * (iteration % 4), log, 1.0)
    return folder


def flips(content):
    """Copies of these bytes with one bit the other way: of each byte, or of each third, another one."""
    for place in range(0, len(content), 1 + len(content) // 700):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place * 5 % 8
        yield bytes(damaged)


def cuts(content):
    """Beginnings of these bytes."""
    return (content[:length] for length in range(0, len(content), 5))


@pytest.mark.parametrize("harm", [flips, cuts])
def test_no_bit_of_parameters_can_change_unseen(harm, tmp_path):
    path = tmp_path / "p.safetensors"
    checkpoints.save_params(PARAMS, path)
    for content in harm(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(
            ValueError,
            match=r"p\.safetensors .*(is not a whole safetensors file|is damaged).*restore p.safetensors "
            r"from git or a backup",
        ):
            checkpoints.load_params(path)


@pytest.mark.parametrize("harm", [flips, cuts])
def test_no_bit_of_a_state_can_change_unseen(harm, tmp_path):
    path = saved(tmp_path) / "state.safetensors"
    for content in harm(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"state\.safetensors "):
            loaded(tmp_path)


@pytest.mark.parametrize("harm", [flips, cuts])
def test_no_bit_of_a_log_can_change_unseen(harm, tmp_path):
    path, whole = saved(tmp_path) / "metrics.csv", loaded(tmp_path)
    for content in harm(path.read_bytes()):
        path.write_bytes(content)
        try:
            assert loaded(tmp_path) == whole  # 1e-05 written 1E-05, say, or the last line's end
        except ValueError as error:
            assert "metrics.csv " in str(error) and f"move {tmp_path} away" in str(error)


@given(
    st.binary(max_size=200)
    | st.text("iteration,seconds_meta lov.0123456789-+eE\"'\r\n", max_size=200).map(str.encode)
)
def test_whatever_is_in_the_log_only_a_valueerror_comes_out(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("run")
    saved(folder)
    (folder / "metrics.csv").write_bytes(content)
    with pytest.raises(ValueError, match="metrics.csv "):
        loaded(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no line of iteration 4"),
        (
            "iteration,meta_loss\n4,1\n8,1\n",
            "its columns are 'iteration', 'meta_loss', but must be some of iteration, seconds",
        ),
        ("iteration,seconds,loss\n4,1,1\n8,1,1\n", "its columns are"),
        ("iteration,seconds\n4,1,7\n8,2,7\n", "line 2 has 3 values, but there are 2 columns"),
        ("iteration,seconds\n4\n8,2\n", "line 2 has 1 values"),
        ("iteration,seconds\n4,abc\n8,2\n", "abc"),
        ("iteration,seconds\n4,\n8,2\n", "line 2 begins with 4,, but needs an iteration and its seconds"),
        ("iteration,seconds\n4,nan\n8,2\n", "needs an iteration"),
        ("iteration,seconds\n4.5,1\n8,2\n", "needs an iteration"),
        ("iteration,seconds\n-4,1\n8,2\n", "needs an iteration"),
        ("iteration,seconds\n8,2\n4,1\n", "out of order"),
        ("iteration,seconds\n4,1\n6,2\n8,2\n", "not logged"),
        ("iteration,seconds,meta_loss\n4,1,0.5\n8,2,0.2", "ends within a line"),
    ],
)
def test_a_log_without_digest_is_held_against_what_a_run_writes(text, said, tmp_path):
    older(saved(tmp_path))
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        loaded(tmp_path)


def older(folder, record=True):
    """Make a run one of those from before states had a digest and knew their run."""
    path = folder / "state.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(
        safetensors.torch.save(tensors, {"iteration": files.metadata(path.read_bytes())["iteration"]})
    )
    if record:
        written = {
            "name": ROW.name,
            "scale": "paper",
            "seed": 0,
            "settings": ROW.settings,
            "origin": ["somewhere"],
        }
        (folder / "run.json").write_text(json.dumps(written))
    return path


def rewritten(path, tensors=None, **metadata):
    """Write a state anew with other tensors or metadata, and a digest that fits."""
    found = {k: v for k, v in files.metadata(path.read_bytes()).items() if k != "digest"} | metadata
    checkpoints._save(safetensors.torch.load(path.read_bytes()) | (tensors or {}), path, found)


def test_a_run_from_before_there_were_digests_goes_on(tmp_path):
    whole = loaded(saved(tmp_path))
    older(tmp_path)
    assert loaded(tmp_path) == whole
    checkpoints.save_params(PARAMS, tmp_path / "p.safetensors")
    (tmp_path / "p.safetensors").write_bytes(safetensors.torch.save(PARAMS))
    assert torch.equal(checkpoints.load_params(tmp_path / "p.safetensors")["weight"], PARAMS["weight"])


def test_the_log_of_another_training_is_not_taken(tmp_path):
    saved(tmp_path / "one")
    saved(tmp_path / "other", log=[line | {"meta_loss": 0.1} for line in LOG])
    shutil.copy(tmp_path / "other" / "metrics.csv", tmp_path / "one")
    with pytest.raises(
        ValueError, match="metrics.csv is damaged, or is not the log that the run's state was saved with"
    ):
        loaded(tmp_path / "one")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 1}, "the state of another run .seed was 0, is 1.; move .* away"),
        (
            {"row": dataclasses.replace(ROW, name="sinusoid-first-order")},
            "another run .name was sinusoid-maml, is sinusoid-first-order",
        ),
        ({"row": dataclasses.replace(ROW, inner_lr=0.5)}, "another run .fingerprint was"),
    ],
)
def test_a_state_that_lost_its_record_is_not_another_runs(options, said, tmp_path):
    saved(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=said):
        loaded(tmp_path, **options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    older(tmp_path, record=False)
    with pytest.raises(
        ValueError,
        match="state.safetensors does not say of which run it is, and there is no run.json beside it",
    ):
        loaded(tmp_path, **options)
    older(tmp_path)
    with pytest.raises(ValueError, match="holds a run of other settings .(seed|name|inner_lr) was"):
        loaded(tmp_path, **options)


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize(
    ("iteration", "said"),
    [
        ("-100", "its iteration is -100"),
        ("999999999999", "is of iteration 999,999,999,999, but sinusoid-maml has 12"),
        ("13", "has 12"),
        ("", "is ;"),
        ("1.5", "1.5"),
        ("²", "²"),
    ],
)
def test_an_iteration_that_no_run_comes_to_is_refused(iteration, said, with_digest, tmp_path):
    path = saved(tmp_path) / "state.safetensors"
    if with_digest:
        rewritten(path, iteration=iteration)
    else:
        content = safetensors.torch.save(safetensors.torch.load(path.read_bytes()), {"iteration": iteration})
        older(tmp_path).write_bytes(content)
    with pytest.raises(ValueError, match=f"state.safetensors .*{said}"):
        loaded(tmp_path)


@pytest.mark.parametrize("seconds", ["", "-1.0", "nan", "inf", "1e3", "soon"])
def test_seconds_that_no_run_takes_are_refused(seconds, tmp_path):
    rewritten(saved(tmp_path) / "state.safetensors", seconds=seconds)
    with pytest.raises(ValueError, match="state.safetensors is not a training state: its seconds are"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    "name", ["params/bias", "optimiser/weight/exp_avg", "optimiser/weight/exp_avg_sq", "optimiser/bias/step"]
)
@pytest.mark.parametrize("harm", ["missing", "shape", "dtype"])
def test_tensors_that_the_row_has_not_are_refused(name, harm, tmp_path):
    path = saved(tmp_path) / "state.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    changed = {"shape": torch.zeros(7), "dtype": tensors[name].double()}.get(harm)
    tensors = {k: v for k, v in tensors.items() if k != name} | ({} if changed is None else {name: changed})
    metadata = {k: v for k, v in files.metadata(path.read_bytes()).items() if k != "digest"}
    checkpoints._save(tensors, path, metadata)
    with pytest.raises(
        ValueError, match=f"is not a training state of this row: its {name} is .*, but must be"
    ):
        loaded(tmp_path)


@pytest.mark.parametrize("window", [torch.zeros(3), torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)])
def test_losses_that_no_training_leaves_are_refused(window, tmp_path):
    path = saved(tmp_path) / "state.safetensors"
    rewritten(path, {"window": window})
    with pytest.raises(
        ValueError,
        match="state.safetensors (has 3 losses that are not logged yet, but needs 1|"
        "is not a training state: its window)",
    ):
        loaded(tmp_path)


def test_a_folder_with_a_strangers_state_is_not_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "repository", lambda: tmp_path / "repository")
    folder = saved(tmp_path / ROW.name / "seed0")
    shutil.copytree(folder, tmp_path / ROW.name / "seed1")
    with pytest.raises(ValueError, match="seed was 0, is 1"), folders.open_run(ROW, 1, "cpu", base=tmp_path):
        pass
    assert not (tmp_path / ROW.name / "seed1" / "run.json").exists()
    with (  # it says itself whose it is, but not where it was trained
        pytest.raises(ValueError, match="seed0 has a state, but no run.json.*restore that, or move"),
        folders.open_run(ROW, 0, "cpu", base=tmp_path),
    ):
        pass
    older(folder).with_name("run.json").unlink()
    with (
        pytest.raises(ValueError, match="does not say of which run it is"),
        folders.open_run(ROW, 0, "cpu", base=tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "away"), [("run.json", "seed0"), ("state.safetensors", "seed0"), ("result.json", "it")]
)
def test_advice_names_the_folder_where_no_part_is_of_use_alone(name, away, tmp_path):
    path = tmp_path / "seed0" / name
    wanted = path.parent if away == "seed0" else away
    assert records.start_again(path).endswith(f"or move {wanted} away to start again")


def test_a_damaged_state_is_refused_before_the_record_is_touched(tmp_path):
    with folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder:
        saved(folder)
    (folder / "state.safetensors").write_bytes(b"damaged")
    record = (folder / "run.json").read_bytes()
    with (
        pytest.raises(ValueError, match="state.safetensors is not a whole safetensors file"),
        folders.open_run(ROW, 0, "gpu", base=tmp_path),
    ):
        pass
    assert (folder / "run.json").read_bytes() == record


def test_the_copying_of_a_committed_state_is_done_again_if_it_was_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "repository", lambda: tmp_path / "repository")
    with folders.open_run(ROW, 0, "cpu", base=tmp_path / "here") as folder:
        saved(folder)
        keeping.keep_state(folder)
    for present in (["metrics.csv"], ["metrics.csv", "state.safetensors"]):
        base = tmp_path / f"after {len(present)}"
        for name in present:
            folders.files.copy(folder / name, base / ROW.name / "seed0" / name)
        with folders.open_run(ROW, 0, "gpu", base=base) as other:
            assert loaded(other) == loaded(folder)
        assert [origin["device"] for origin in json.loads((other / "run.json").read_text())["origin"]] == [
            "cpu",
            "gpu",
        ]


@pytest.mark.parametrize(
    "path",
    sorted((places.repository() / "data").glob("*/*/*.safetensors")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_committed_parameters_have_a_digest(path):
    assert "digest" in files.metadata(path.read_bytes())
    checkpoints.load_params(path)


@pytest.mark.parametrize(
    "path", sorted((places.repository() / "data").glob("partial/*/*")), ids=lambda path: path.parent.name
)
def test_committed_states_know_their_run_and_log(path):
    assert {"digest", "log", "name", "seed", "fingerprint"} <= files.metadata(
        (path / "state.safetensors").read_bytes()
    ).keys()
    # and are loaded with their row in test_results


def test_errors_that_overflow_half_precision_are_kept_as_infinite_and_nothing_is_shown(tmp_path, recwarn):
    errors = np.full((3, 11), 1e9)
    with folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder:
        folders.write_result(folder, ROW, 1, 1.0, {e.name: {"mse": errors} for e in ROW.evaluations})
    assert (
        not recwarn.list and np.isinf(np.load(folder / "tasks.npz")[f"{ROW.evaluations[0].name}/mse"]).all()
    )
