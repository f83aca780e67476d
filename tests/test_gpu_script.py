"""The script for a machine with a GPU, as far as it goes without one: its dry run."""

import dataclasses
import json
import subprocess
import sys
import tarfile
from types import SimpleNamespace
from typing import ClassVar

import pandas as pd
import pytest
import torch

from mamlkit import files, places
from mamlkit.engine import convolutions, kernels_cpu, kernels_torch, meta_batch, passes
from mamlkit.experiments import paper
from mamlkit.runs import keeping, train

sys.path.insert(0, str(places.clone() / "benchmarks"))
import gpu
import gpu_parts
import gpu_profile

pytestmark = pytest.mark.queue
SHORT = "omniglot-no-conv-5way-1shot"
CPU = torch.device("cpu")
IMAGES = "Omniglot 5-way 1-shot"


def some(*names):
    return {name: gpu_parts.SHAPES[name] for name in names}


@pytest.fixture(autouse=True)
def the_default_form():
    yield
    assert convolutions.in_use() == convolutions.DEFAULT


def unpacked(place):
    """What a call has packed, where it was packed."""
    with tarfile.open(place / "found.tar.gz") as packed:
        packed.extractall(place, filter="data")
    return place


def test_a_dry_run_goes_through_every_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_parts, "SHAPES", some("sinusoid"))
    monkeypatch.setattr(gpu_parts, "TIMED", ("sinusoid-maml",))
    monkeypatch.setattr(gpu, "TRAINED", "omniglot-no-conv-5way-1shot")
    monkeypatch.setattr(gpu_profile, "profiles", lambda *_: 1 / 0)
    before, repository = dict(paper.ROWS), places.repository
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run"])
    assert before == paper.ROWS and places.repository is repository
    unpacked(tmp_path)
    found = tmp_path / "data" / "benchmarks" / "cpu"
    checks = pd.read_csv(found / "checks.csv").iloc[0]
    assert 0 < checks["float64, from the CPU"] < gpu_parts.EXACT and checks["recorded, from plain"] < 1e-5
    assert {"mamlkit", "loop"} <= set(pd.read_csv(found / "time.csv").way)
    assert list(pd.read_csv(found / "iterations.csv").recorded) == [False, True]
    assert (
        not (found / "profile.csv").exists() and "ZeroDivisionError" in (tmp_path / "failed.txt").read_text()
    )
    assert (tmp_path / "data" / "results" / SHORT / "seed0.json").exists()
    assert f"results/{SHORT}/seed0.safetensors" in capsys.readouterr().out


RIGHT = {gpu_parts.FLOAT64: 1e-12, gpu_parts.FLOAT32: 1e-6, gpu_parts.RECORDED: 1e-7}


def test_wrong_gradients_end_everything(monkeypatch):
    monkeypatch.setattr(gpu_parts, "SHAPES", some("sinusoid"))
    gpu_parts.refuse_wrong([RIGHT])
    for wrong in ({gpu_parts.FLOAT64: 1e-3}, {gpu_parts.FLOAT64: float("nan")}, {gpu_parts.FLOAT32: 1e-3}):
        with pytest.raises(SystemExit, match="wrong here"):
            gpu_parts.refuse_wrong([RIGHT | wrong])
    with pytest.raises(SystemExit, match="wrong here"):
        gpu_parts.refuse_wrong([])  # one that could not be made


def test_a_shape_is_recorded_where_its_own_recording_was_right(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "repository", lambda: tmp_path)
    recorded = {"sinusoid": 1e-7, IMAGES: 0.9, "Omniglot 20-way 1-shot": float("nan")}
    lines = [{"shape": shape} | RIGHT | {gpu_parts.RECORDED: far} for shape, far in recorded.items()]
    assert not gpu_parts.can_repeat("sinusoid-maml", CPU) and gpu_parts.unchecked(CPU)  # nothing was checked
    origin = gpu_parts.folders.provenance(gpu_parts.devices.described(CPU))
    gpu.keep("", CPU, "checks", lines, origin)
    assert not gpu_parts.unchecked(CPU)
    names = ("sinusoid-maml", "omniglot-5way-5shot", "omniglot-20way-5shot", "mini-imagenet-5way-1shot")
    assert [gpu_parts.can_repeat(name, CPU) for name in names] == [True, False, False, False]
    assert not gpu_parts.can_repeat("2d-navigation-maml", CPU)
    gpu.keep("", CPU, "checks", lines, origin | {"commit": "0" * 40})
    assert gpu_parts.unchecked(CPU)  # another version was


def test_float32_that_rounds_too_much_is_wrong(monkeypatch):
    """Inputs of products rounded to ten bits, as TF32 has them: float64 does not see it."""
    shape = "Omniglot 5-way 1-shot, no convolution"
    right = gpu_parts.from_the_cpu(shape, CPU)
    whole = meta_batch.meta_gradient

    def coarse(method, theta, batch):
        if next(iter(theta.values())).dtype == torch.float32:
            theta = {name: (value.half().float()) for name, value in theta.items()}
        return whole(method, theta, batch)

    monkeypatch.setattr(meta_batch, "meta_gradient", coarse)
    wrong = gpu_parts.from_the_cpu(shape, CPU)
    assert right[0] < gpu_parts.EXACT and right[1] < gpu_parts.ROUNDED
    assert wrong[0] == right[0] and wrong[1] > gpu_parts.ROUNDED


def test_what_fails_is_noted_and_everything_else_is_brought_home(tmp_path, monkeypatch):
    """A peer that differs, a recording that cannot be made, a row that fails."""
    shapes = ("sinusoid", "Omniglot 5-way 1-shot, no convolution")
    monkeypatch.setattr(gpu_parts, "SHAPES", some(*shapes))
    monkeypatch.setattr(gpu_parts, "TIMED", ("sinusoid-maml",))
    monkeypatch.setattr(gpu, "TRAINED", "omniglot-no-conv-5way-1shot")
    compare, begun = gpu.compare, gpu_parts.begun

    def differs(shape, *given):
        if shape == "sinusoid":
            raise SystemExit("a peer and loop differ")
        return compare(shape, *given)

    def no_recording(name, device, recorded):
        if recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        return begun(name, device, recorded)

    monkeypatch.setattr(gpu, "compare", differs)
    monkeypatch.setattr(gpu_parts, "begun", no_recording)
    monkeypatch.setattr(gpu.queue, "work", lambda jobs, *_, **how: [f"{jobs[0].name}: {how['recorded']}"])
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run"])
    words = (unpacked(tmp_path) / "failed.txt").read_text()
    for said in ("a peer and loop differ", "a recording of sinusoid-maml", "5way-1shot, seed 0: False"):
        assert said in words
    found = tmp_path / "data" / "benchmarks" / "cpu"
    assert set(pd.read_csv(found / "time.csv")["shape"]) == {shapes[1]}
    assert list(pd.read_csv(found / "iterations.csv").recorded) == [False]


def test_a_later_call_takes_some_parts_only(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "SHAPES", some("sinusoid"))
    monkeypatch.setattr(gpu_parts, "TIMED", ("sinusoid-maml",))
    gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run", "--part", "profile"])
    found = unpacked(tmp_path) / "data" / "benchmarks" / "cpu"
    assert {path.name for path in found.glob("*.csv")} == {"checks.csv", "profile.csv"}
    assert not (tmp_path / "failed.txt").read_text()


def test_pictures_that_are_drawn_give_way_to_noise_so_that_drawing_is_not_timed():
    for recorded in (False, True):
        training = gpu_parts.begun("mini-imagenet-5way-1shot", torch.device("cpu"), recorded)
        assert isinstance(training.family.bank, gpu_parts.ClassBank)
        assert training.family.bank.shape[0] == 64 and training.family.bank.shape[2:] == (3, 84, 84)
    assert training.images is training.family


def test_of_a_gpus_profile_only_its_own_work_counts():
    event = lambda kind, named: SimpleNamespace(device_type=kind, is_user_annotation=named)
    assert gpu_profile.of_kernel(event(gpu_profile.DeviceType.CUDA, False))
    assert not gpu_profile.of_kernel(event(gpu_profile.DeviceType.CPU, False))
    assert not gpu_profile.of_kernel(event(gpu_profile.DeviceType.CUDA, True))


def test_a_wrong_recording_is_far_from_the_plain_way(monkeypatch):
    """One that repeats its first batch, as a recording does whose inputs are not copied."""
    device = torch.device("cpu")
    plain = gpu_parts.recorded_from_plain("glyphs-5way-1shot", device, gpu_parts.Failures())
    drawn = gpu_parts.trainings.RecordedTraining._drawn
    first = {}

    def stuck(training, draw):
        return first.setdefault(id(training), drawn(training, draw))

    monkeypatch.setattr(gpu_parts.trainings.RecordedTraining, "_drawn", stuck)
    assert (
        plain < gpu_parts.CLOSE / 3
        and gpu_parts.recorded_from_plain("glyphs-5way-1shot", device, gpu_parts.Failures()) > gpu_parts.CLOSE
    )


def test_a_profile_counts_calls_products_and_launches(monkeypatch):
    monkeypatch.setattr(gpu_parts, "TIMED", ("sinusoid-maml",))
    monkeypatch.setattr(gpu_parts, "can_repeat", lambda *_: True)
    lines = pd.DataFrame(gpu_profile.profiles(CPU, gpu_parts.Failures()))
    for recorded in (False, True):
        found = lines[lines.recorded == recorded].reset_index(drop=True)
        assert list(found.what[:2]) == ["all", "products"] and found.us[0] >= found.us[1] >= 0
        assert found.calls[0] == found.launches[0] > 0
        part = found["launches x 5 us, of the whole"]
        assert part[0] == pytest.approx(5 * found.launches[0] / found.us[0]) and part[1:].isna().all()


def test_launches_on_a_gpu_are_what_the_cpu_asks_for():
    def event(key, count, us, kind=gpu_profile.DeviceType.CPU):
        return SimpleNamespace(
            key=key,
            count=count,
            self_device_time_total=us,
            self_cpu_time_total=1000,
            device_type=kind,
            is_user_annotation=False,
        )

    on_gpu = gpu_profile.DeviceType.CUDA
    kernels = [event("sgemm_128", 6, 30.0, on_gpu), event("vectorized_add", 4, 10.0, on_gpu)]
    asked = [event("aten::mm", 6, 30.0), event("cudaDeviceSynchronize", 1, 0.0)]
    plain = [event("cudaLaunchKernel", 9, 0.0), event("cudaMemcpyAsync", 1, 0.0)]
    recorded = [event("cudaGraphLaunch", 1, 0.0), event("cudaMemsetAsync", 1, 0.0)]
    for launches, count in ((plain, 10), (recorded, 2)):
        whole, products, *others = gpu_profile.described([*kernels, *asked, *launches], of_gpu=True)
        assert (whole["calls"], whole["us"], products["us"]) == (10, 40.0, 30.0)
        assert whole["launches"] == count and whole["launches x 5 us, of the whole"] == 5 * count / 40
        assert [line["what"] for line in others] == ["sgemm_128", "vectorized_add"]


def test_a_dry_run_compares_a_gpus_loops_with_the_cpus(tmp_path, monkeypatch):
    """An error of one of them ends it."""
    monkeypatch.setattr(gpu_parts, "SHAPES", some(IMAGES))
    right = kernels_torch.weight_gradient
    wrong = lambda d, x, window, out=None: right(d, x, window, out).mul_(1 + 1e-6)
    monkeypatch.setattr(kernels_torch, "weight_gradient", wrong)
    with pytest.raises(SystemExit, match="meta-gradients are wrong here"):
        gpu.main(["--out", str(tmp_path), "--seconds", "1000", "--dry-run", "--part", "checks"])
    assert passes.kernels_of(CPU) is kernels_cpu


class Wrong(convolutions.Unfolded):
    """A form whose kernels have another gradient."""

    def weight_gradient(self, d, x, window):
        return 1.01 * super().weight_gradient(d, x, window)


def test_the_fastest_form_wins_and_is_used_by_what_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "SHAPES", some("sinusoid", IMAGES))
    monkeypatch.setattr(gpu_parts, "TIMED", ("omniglot-5way-1shot", "sinusoid-maml"))
    monkeypatch.setattr(gpu, "TRAINED", "omniglot-5way-5shot")
    monkeypatch.setitem(convolutions.FORMS, "wrong", Wrong())
    ms = {"unfolded": 2.0, "grouped": 3.0, "channels-last": 1.0, "wrong": 0.5}
    used = []
    measure, work = gpu_parts.iteration_ms, gpu.queue.work

    def quick(*given):
        form = convolutions.in_use()
        if form == "grouped":
            assert measure(*given) > 0
        return ms[form]

    def noted(jobs, *given, **how):
        used.append((jobs[0].row.name, convolutions.in_use()))
        return work(jobs, *given, **how)

    monkeypatch.setattr(gpu_parts, "iteration_ms", quick)
    monkeypatch.setattr(gpu.queue, "work", noted)
    given = ["--out", str(tmp_path), "--seconds", "1000", "--dry-run"]
    gpu.main([*given, *(word for name in ("tune", "iterations", "train") for word in ("--part", name))])
    found = unpacked(tmp_path) / "data" / "benchmarks" / "cpu"
    table = pd.read_csv(found / "tune.csv")
    assert dict(zip(table.form, table.wins)) == {"unfolded": False, "grouped": False, "channels-last": True}
    assert set(table["shape"]) == {IMAGES} and (table["float64, from the CPU"] < gpu_parts.EXACT).all()
    assert "wrong convolutions, Omniglot 5-way 1-shot" in (tmp_path / "failed.txt").read_text()
    forms = pd.read_csv(found / "iterations.csv").groupby("row").form.unique().map(list)
    assert dict(forms) == {"omniglot-5way-1shot": ["channels-last"], "sinusoid-maml": ["unfolded"]}
    assert used == [("omniglot-5way-5shot", "channels-last")]
    origins = json.loads((found / "origin.json").read_text())
    assert origins["iterations"]["convolutions"] == {IMAGES: "channels-last"}


def test_rows_of_other_shapes_keep_the_default_form(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "repository", lambda: tmp_path)
    assert gpu_parts.use_best("omniglot-5way-5shot", CPU) == "unfolded"  # nothing was measured
    lines = [
        {"shape": shape, "form": form, "ms": ms, "wins": ms == 1.0}
        for shape, best in ((IMAGES, "grouped"), ("Mini-ImageNet 5-way 1-shot", "channels-last"))
        for form, ms in (("unfolded", 2.0), (best, 1.0))
    ]
    gpu.keep("", CPU, "tune", lines, {"commit": "0" * 40})
    tuned = {"omniglot-5way-5shot": "grouped", "mini-imagenet-5way-5shot": "channels-last"}
    others = ("omniglot-20way-1shot", "omniglot-no-conv-5way-1shot", "sinusoid-maml", "2d-navigation-maml")
    for name, form in (tuned | dict.fromkeys(others, "unfolded")).items():
        assert gpu_parts.use_best(name, CPU) == form == convolutions.in_use()


class Child:
    """A part in a process of its own that only notes what it was asked for."""

    asked: ClassVar[list[list[str]]]
    fails: ClassVar[set[str]] = set()

    def __init__(self, command, start_new_session):
        assert start_new_session  # a signal for the call is not one for the part as well
        self.command = command[2:]
        self.asked.append(self.command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self, seconds=None):
        return int(bool(self.fails & set(self.command)) and "--plain" not in self.command)


@pytest.fixture
def lent(tmp_path, monkeypatch):
    """A machine on which parts are only noted."""
    monkeypatch.setattr(places, "repository", lambda: tmp_path / "clone")
    monkeypatch.setattr(gpu.devices, "set_up", lambda name: CPU)
    processes = SimpleNamespace(Popen=Child, TimeoutExpired=TimeoutError)
    monkeypatch.setattr(gpu, "subprocess", processes)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    monkeypatch.setattr(Child, "asked", [], raising=False)
    return ["--out", str(tmp_path / "found"), "--seconds", "100"]


def test_each_part_and_each_row_has_a_process_and_what_fails_recorded_is_tried_plain(lent, monkeypatch):
    monkeypatch.setattr(Child, "fails", {"tune", "omniglot-5way-1shot"})
    gpu.main([*lent, "--only", "omniglot-5way-?shot"])
    parts = [command[command.index("--part") + 1] for command in Child.asked]
    assert parts == ["checks", "tune", "time", "iterations", "profile", "train", "train", "train"]
    rows = [(command[command.index("--only") + 1], "--plain" in command) for command in Child.asked[5:]]
    assert rows == [
        ("omniglot-5way-1shot", False),
        ("omniglot-5way-1shot", True),
        ("omniglot-5way-5shot", False),
    ]
    assert len({command[command.index("--since") + 1] for command in Child.asked}) == 1


def test_a_later_call_makes_the_checks_that_are_not_there_and_ends_with_them(lent, monkeypatch):
    monkeypatch.setattr(Child, "fails", {"checks"})
    with pytest.raises(SystemExit, match="the checks have not passed"):
        gpu.main([*lent, "--part", "train"])
    assert len(Child.asked) == 1


def test_wrong_checks_of_an_earlier_call_are_not_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "repository", lambda: tmp_path)
    monkeypatch.setattr(gpu.devices, "set_up", lambda name: CPU)
    origin = gpu_parts.folders.provenance(gpu_parts.devices.described(CPU))
    lines = [{"shape": shape} | RIGHT | {gpu_parts.FLOAT64: 1e-3} for shape in gpu_parts.SHAPES]
    gpu.keep("", CPU, "checks", lines, origin)
    monkeypatch.setattr(gpu, "train_rows", lambda *_: pytest.fail("trained"))
    given = ["--out", str(tmp_path), "--seconds", "100", "--part", "train", "--since", "0"]
    with pytest.raises(SystemExit, match="meta-gradients are wrong here"):
        gpu.main(given)


def test_what_comes_home_never_replaces_what_has_come_further(tmp_path, monkeypatch, capsys):
    away, home = tmp_path / "away", tmp_path / "home"
    row = dataclasses.replace(paper.get("sinusoid-first-order").at("quick"), iterations=9, meta_batch_size=2)

    def reach(place, until):
        """A state and a result, tested there."""
        monkeypatch.setattr(places, "repository", lambda: place)
        with gpu.folders.open_run(row, 0, "cpu", base=place / "runs") as folder:
            train.fit(row, folder=folder, until=until, progress=False)
            keeping.keep_state(folder)
        for name in ("seed0.json", "seed0.metrics.csv", "seed0.tasks.npz"):
            text = json.dumps({"iterations_done": until})
            files.write_text(place / "data" / "results" / row.name / name, text)

    def reached():
        result = home / "data" / "results" / row.name
        of_result = {json.loads(path.read_text())["iterations_done"] for path in result.iterdir()}
        return gpu.folders.iterations_done(home / "data" / "partial" / row.name / "seed0"), of_result

    reach(away, 2)
    packed = gpu.new_files(0, tmp_path, gpu_parts.Failures(["a row that failed"]))
    assert len(packed) == 6
    monkeypatch.setattr(places, "repository", lambda: home)
    gpu.main(["--take", str(tmp_path / "found.tar.gz")])
    assert reached() == (2, {2}) and "a row that failed" in capsys.readouterr().out
    reach(home, 4)
    gpu.main(["--take", str(tmp_path / "found.tar.gz")])
    assert reached() == (4, {4}) and capsys.readouterr().out.count("left out: ") == 2
    reach(away, 9)
    gpu.new_files(0, tmp_path, gpu_parts.Failures())
    monkeypatch.setattr(places, "repository", lambda: home)
    gpu.main(["--take", str(tmp_path / "found.tar.gz")])
    assert reached() == (9, {9})


def test_it_starts_on_a_machine_with_pytorch_and_its_usual_companions_alone():
    absent = ("platformdirs", "mujoco", "gymnasium", "pooch", "higher", "torchopt", "ray", "matplotlib")
    absent += ("jupytext", "nbformat", "IPython", "myst_nb")
    begin = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nsys.path.insert(0, 'benchmarks')\n"
    ends = "import gpu\ngpu.gpu_parts.from_the_cpu('sinusoid', gpu.torch.device('cpu'))"
    subprocess.run([sys.executable, "-c", begin + ends], cwd=places.clone(), check=True)
