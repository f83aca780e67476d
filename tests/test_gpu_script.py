"""The script for a machine with a GPU, as far as it goes without one: its dry run."""

import sys
import tarfile
from types import SimpleNamespace

import pandas as pd
import pytest

from mamlkit import places
from mamlkit.experiments import paper

sys.path.insert(0, str(places.clone() / "benchmarks"))
import gpu

pytestmark = pytest.mark.queue
SHORT = "omniglot-no-conv-5way-1shot"


def unpacked(place):
    """What a call has packed, where it was packed."""
    with tarfile.open(place / "found.tar.gz") as packed:
        packed.extractall(place, filter="data")
    return place


def test_a_dry_run_goes_through_every_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "SHAPES", {"sinusoid": gpu.SHAPES["sinusoid"]})
    monkeypatch.setattr(gpu, "TIMED", ("sinusoid-maml",))
    monkeypatch.setattr(gpu, "TRAINED", "omniglot-no-conv-5way-1shot")
    monkeypatch.setattr(gpu, "profiles", lambda *_: 1 / 0)
    before, repository = dict(paper.ROWS), places.repository
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run"])
    assert before == paper.ROWS and places.repository is repository
    unpacked(tmp_path)
    found = tmp_path / "data" / "benchmarks" / "cpu"
    checks = pd.read_csv(found / "checks.csv").iloc[0]
    assert checks["float64, from the CPU"] == 0 and checks["recorded, from plain"] < 1e-5
    assert {"mamlkit", "loop"} <= set(pd.read_csv(found / "time.csv").way)
    assert list(pd.read_csv(found / "iterations.csv").recorded) == [False, True]
    assert (
        not (found / "profile.csv").exists() and "ZeroDivisionError" in (tmp_path / "failed.txt").read_text()
    )
    assert (tmp_path / "data" / "results" / SHORT / "seed0.json").exists()
    assert f"results/{SHORT}/seed0.safetensors" in capsys.readouterr().out


def test_wrong_gradients_end_everything_and_wrong_recordings_are_left_out():
    right = {"float64, from the CPU": 1e-12, "recorded, from plain": 1e-7}
    assert gpu.holds([right]) and not gpu.holds([right, right | {"recorded, from plain": float("nan")}])
    with pytest.raises(SystemExit, match="wrong here"):
        gpu.holds([right | {"float64, from the CPU": 1e-3}])


def test_what_fails_is_noted_and_everything_else_is_brought_home(tmp_path, monkeypatch):
    """A peer that differs, a recording that cannot be made, a row that fails."""
    shapes = ("sinusoid", "Omniglot 5-way 1-shot, no convolution")
    monkeypatch.setattr(gpu, "SHAPES", {name: gpu.SHAPES[name] for name in shapes})
    monkeypatch.setattr(gpu, "TIMED", ("sinusoid-maml",))
    monkeypatch.setattr(gpu, "TRAINED", "omniglot-no-conv-5way-1shot")
    compare, begun = gpu.compare, gpu.begun

    def differs(shape, *given):
        if shape == "sinusoid":
            raise SystemExit("a peer and loop differ")
        return compare(shape, *given)

    def no_recording(name, device, recorded):
        if recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        return begun(name, device, recorded)

    monkeypatch.setattr(gpu, "compare", differs)
    monkeypatch.setattr(gpu, "begun", no_recording)
    monkeypatch.setattr(gpu.queue, "work", lambda jobs, *_, **how: [f"{jobs[0].name}: {how['recorded']}"])
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run"])
    words = (unpacked(tmp_path) / "failed.txt").read_text()
    for said in ("a peer and loop differ", "a recording of sinusoid-maml", "5way-1shot, seed 0: False"):
        assert said in words
    found = tmp_path / "data" / "benchmarks" / "cpu"
    assert set(pd.read_csv(found / "time.csv")["shape"]) == {shapes[1]}
    assert list(pd.read_csv(found / "iterations.csv").recorded) == [False]


def test_a_later_call_takes_some_parts_only(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "SHAPES", {"sinusoid": gpu.SHAPES["sinusoid"]})
    monkeypatch.setattr(gpu, "TIMED", ("sinusoid-maml",))
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run", "--part", "profile"])
    found = unpacked(tmp_path) / "data" / "benchmarks" / "cpu"
    assert {path.name for path in found.glob("*.csv")} == {"checks.csv", "profile.csv"}
    assert not (tmp_path / "failed.txt").read_text()


def test_pictures_that_are_drawn_give_way_to_noise_so_that_drawing_is_not_timed():
    for recorded in (False, True):
        training = gpu.begun("mini-imagenet-5way-1shot", gpu.torch.device("cpu"), recorded)
        assert isinstance(training.family.bank, gpu.ClassBank)
        assert training.family.bank.shape[0] == 64 and training.family.bank.shape[2:] == (3, 84, 84)
    assert training.images is training.family


def test_of_a_gpus_profile_only_its_own_work_counts():
    event = lambda kind, named: SimpleNamespace(device_type=kind, is_user_annotation=named)
    assert gpu.of_kernel(event(gpu.DeviceType.CUDA, False))
    assert not gpu.of_kernel(event(gpu.DeviceType.CPU, False))
    assert not gpu.of_kernel(event(gpu.DeviceType.CUDA, True))


def test_a_wrong_recording_is_far_from_the_plain_way(monkeypatch):
    """One that repeats its first batch, as a recording does whose inputs are not copied."""
    device = gpu.torch.device("cpu")
    plain = gpu.recorded_from_plain("glyphs-5way-1shot", device, gpu.Failures())
    drawn = gpu.train.RecordedTraining._drawn
    first = {}

    def stuck(training, draw):
        return first.setdefault(id(training), drawn(training, draw))

    monkeypatch.setattr(gpu.train.RecordedTraining, "_drawn", stuck)
    assert (
        plain < gpu.CLOSE / 3
        and gpu.recorded_from_plain("glyphs-5way-1shot", device, gpu.Failures()) > gpu.CLOSE
    )


def test_a_profile_counts_calls_and_products(monkeypatch):
    monkeypatch.setattr(gpu, "TIMED", ("sinusoid-maml",))
    lines = pd.DataFrame(gpu.profiles(gpu.torch.device("cpu"), gpu.Failures())[:2])
    assert list(lines.what) == ["all", "products"] and lines.us[0] >= lines.us[1] >= 0 and lines.calls[0] > 0
