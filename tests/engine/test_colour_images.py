"""The shapes of Mini-ImageNet: both ways to the meta-gradient agree there, and one takes little memory."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from conftest import General, relative_error
from mamlkit import methods
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.runs import supervised

SMALL = ("conv4", {"ways": 5, "filters": 2, "size": 84, "channels": 3, "pooling": "max"})
LEAST = 1.5e9  # bytes that any machine has for a training


@pytest.mark.parametrize("name", ["mini-imagenet-5way-1shot", "mini-imagenet-first-order-5way-5shot"])
def test_the_engine_is_the_general_way_at_these_shapes(name):
    row = dataclasses.replace(paper.get(name), network=SMALL, inner_lr=0.1, queries=2)
    made, generator = supervised.method(row), torch.Generator().manual_seed(0)
    params = {k: v.double() for k, v in made.init(generator).items()}
    part = lambda points: (
        torch.rand(2, 5 * points, 3, 84, 84, generator=generator, dtype=torch.float64),
        torch.arange(5).repeat_interleave(points).expand(2, -1),
    )
    batch = Task(part(row.shots), part(row.queries))
    general = General(made.learner, first_order=made.first_order)
    assert type(made) is methods.GradientMethod
    found, wanted = (meta_batch.meta_gradient(way, params, batch) for way in (made, general))
    assert relative_error(found[0], wanted[0]) < 1e-9 and torch.allclose(found[1], wanted[1], rtol=1e-10)
    one, other = (meta_batch.predictions(way, params, batch) for way in (made, general))
    assert torch.allclose(one, other, rtol=1e-8, atol=1e-8)


PEAK = """
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])  # in KiB
"""
CODE = """
import torch
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.runs import supervised
torch.set_num_threads(1)
for name in ("mini-imagenet-5way-1shot", "mini-imagenet-5way-5shot"):
    row = paper.get(name)
    made = supervised.method(row)
    part = lambda points: (
        torch.rand(row.meta_batch_size, 5 * points, 3, 84, 84),
        torch.arange(5).repeat_interleave(points).expand(row.meta_batch_size, -1),
    )
    meta_batch.meta_gradient(made, made.init(torch.Generator()), Task(part(row.shots), part(row.queries)))
"""
EVALUATION = """
import dataclasses
import torch
from mamlkit import tasks
from mamlkit.experiments import paper
from mamlkit.runs import supervised
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks
torch.set_num_threads(1)
images = torch.randint(256, (8, 20, 3, 84, 84), dtype=torch.uint8)
bank = ClassBank(images, tuple("abcdefgh"))
tasks.FAMILIES["noise"] = lambda *_, ways, shots, queries: ImageTasks(bank, ways, shots, queries)
row = paper.get("mini-imagenet-5way-SHOTSshot")
row = dataclasses.replace(row, family="noise", network=("conv4", row.network[1] | {"filters": 2}))
(test,) = [test for test in row.evaluations if test.queries == 15]
test = dataclasses.replace(test, inner_steps=1, headline_step=1)
params = supervised.method(row, test).init(torch.Generator())
supervised.evaluate(row, params, test, n_tasks=2 * supervised.EVALUATION_CHUNK)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere /proc does not tell the peak")
@pytest.mark.parametrize(
    "code",
    [CODE, EVALUATION.replace("SHOTS", "1"), EVALUATION.replace("SHOTS", "5")],
    ids=["iterations", "tests", "tests of 5 shots"],
)
def test_less_memory_is_taken_than_any_machine_has(code):
    done = subprocess.run([sys.executable, "-c", code + PEAK], capture_output=True, text=True, check=True)
    peak = 1024 * int(done.stdout)  # of this process alone; getrusage would count the one that started it
    assert peak < LEAST, f"{peak / 1e9:.2f} GB"
