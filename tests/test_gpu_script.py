"""The script for a machine with a GPU, as far as it goes without one: its dry run."""

import sys

import pandas as pd
import pytest

from mamlkit import places
from mamlkit.experiments import paper

sys.path.insert(0, str(places.clone() / "benchmarks"))
import gpu

pytestmark = pytest.mark.queue
SHORT = "omniglot-no-conv-5way-1shot"


def test_a_dry_run_goes_through_every_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "SHAPES", {"sinusoid": gpu.SHAPES["sinusoid"]})
    monkeypatch.setattr(gpu, "TIMED", ("sinusoid-maml",))
    monkeypatch.setattr(gpu, "TRAINED", "omniglot-no-conv-5way-1shot")
    monkeypatch.setattr(gpu, "profiles", lambda device: 1 / 0)
    before, repository = dict(paper.ROWS), places.repository
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run"])
    assert before == paper.ROWS and places.repository is repository
    found = tmp_path / "data" / "benchmarks" / "cpu"
    checks = pd.read_csv(found / "checks.csv").iloc[0]
    assert checks["float64, from the CPU"] == checks["recorded, from plain"] == 0.0
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


def test_a_profile_counts_calls_and_products(monkeypatch):
    monkeypatch.setattr(gpu, "TIMED", ("sinusoid-maml",))
    lines = pd.DataFrame(gpu.profiles(gpu.torch.device("cpu"))[:2])
    assert list(lines.what) == ["all", "products"] and lines.us[0] >= lines.us[1] >= 0 and lines.calls[0] > 0
