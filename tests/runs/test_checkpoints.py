"""Files that are whole or not there, and refused when they belong elsewhere."""

import inspect

import pytest
import torch

from mamlkit.runs import checkpoints, folders, logs, records


def params():
    return {"weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), "bias": torch.zeros(3)}


def test_parameters_come_back_as_they_were(tmp_path):
    checkpoints.save_params(params(), tmp_path / "deep" / "p.safetensors")
    back = checkpoints.load_params(tmp_path / "deep" / "p.safetensors")
    assert all(torch.equal(back[k], v) for k, v in params().items()) and list(back) == ["bias", "weight"]


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "p.safetensors"
    checkpoints.save_params(params(), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        checkpoints.load_params(path)


def test_another_networks_file_is_refused(tmp_path):
    checkpoints.save_params(params(), tmp_path / "p.safetensors")
    optimiser = torch.optim.Adam(list(params().values()))
    with pytest.raises(ValueError, match="not a training state"):
        checkpoints.load_state(tmp_path / "p.safetensors", params(), optimiser)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m mamlkit run"):
        checkpoints.load_params(tmp_path / "none.safetensors")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    checkpoints.save_params(params(), path)
    old = path.read_bytes()

    def half(file, content):
        file.open("wb").write(content[:4])
        raise OSError("no space left")

    monkeypatch.setattr(type(path), "write_bytes", half)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save_params(params(), path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_the_optimiser_goes_on_exactly(tmp_path):
    def advance(values, optimiser, steps):
        for step in steps:
            for value in values.values():
                value.grad = torch.full_like(value, 0.1 * step + 0.5) * value.sign()
            optimiser.step()

    whole, halves = params(), params()
    optimiser = torch.optim.Adam(list(whole.values()), lr=0.1)
    advance(whole, optimiser, range(6))
    optimiser = torch.optim.Adam(list(halves.values()), lr=0.1)
    advance(halves, optimiser, range(3))
    checkpoints.save_state(tmp_path / "s.safetensors", 3, halves, optimiser, [torch.tensor(1.5)])
    fresh = {k: torch.zeros_like(v) for k, v in params().items()}
    optimiser = torch.optim.Adam(list(fresh.values()), lr=0.1)
    iteration, window, _ = checkpoints.load_state(tmp_path / "s.safetensors", fresh, optimiser)
    assert iteration == 3 and window == [torch.tensor(1.5)]
    advance(fresh, optimiser, range(3, 6))
    assert all(torch.equal(fresh[k], whole[k]) for k in whole)


def test_the_same_state_is_the_same_file(tmp_path):
    for name in "abc":
        run = dict.fromkeys(("name", "seed", "fingerprint", "log"), "x")
        checkpoints.save_state(tmp_path / name, 3, params(), None, [torch.tensor(1.5)], run)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    checkpoints.save_params(params(), path)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "read_bytes", forbidden)
    with pytest.raises(PermissionError, match="Permission denied: '.*p.safetensors'"):
        checkpoints.load_params(path)


def test_nobody_is_told_to_delete_what_may_be_the_only_copy():
    for module in (checkpoints, logs, records, folders):
        assert "delete" not in inspect.getsource(module)
