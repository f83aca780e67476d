"""Training of policies over several processes: the bits of one process, and a state that any number go on
from."""

import dataclasses
import os
import signal

import pytest
import torch

import processes
from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.experiments import paper
from mamlkit.rl import parts
from mamlkit.runs import policy_training, train

NAVIGATION = paper.get("2d-navigation-maml")
ROW = dataclasses.replace(
    NAVIGATION,
    name="navigation-ranks",
    iterations=5,
    meta_batch_size=4,
    rollouts=3,
    quick={},
    evaluations=(dataclasses.replace(NAVIGATION.evaluations[0], tasks=2, rollouts=2),),
)
FEW = {"meta_batch_size": 3, "rollouts": 2}  # which two processes cannot share evenly, and four not at all
# Episodes of a point end early, where it meets its goal; those of the HalfCheetah never do.
KINDS = {
    "2d-navigation-maml": FEW,
    "2d-navigation-maml-ratios": FEW,
    "2d-navigation-pretrained": FEW,
    "2d-navigation-oracle": {"rollouts": 10},  # one task, whose points are cut in parts
    "half-cheetah-direction-maml": FEW,
    "ant-velocity-maml": FEW
    | {"rollouts": 3},  # rows of 125 numbers; it falls, so that rows differ in length
}
ROW_BYTES = 400  # of a point in a layer of 100 units


@pytest.fixture(scope="module")
def straight():
    """A run that one process has trained, never cut."""
    return train.fit(ROW)


@pytest.mark.parametrize("name", KINDS)
def test_any_number_of_processes_gives_the_bits_of_one(name, monkeypatch):
    row = dataclasses.replace(paper.get(name), **KINDS[name])
    # a part of the update has one task of the HalfCheetah, two of the plane, and 300 points of a single task
    monkeypatch.setattr(parts, "PIECE_BYTES", ROW_BYTES * (300 if row.method == "trpo" else 600))

    plane = row.environment == "2d-navigation"

    def trained(ranks):
        training = policy_training.PolicyTraining(row, 0, "cpu", 1, ranks)
        found = []
        for iteration in range(2 if plane else 1):
            training.step(iteration)
            found.append({**training.params, **training.line(iteration)})
        training.close()
        for line in found:
            del line["sampling_seconds"]
        return found

    def same(one, other):
        return all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)

    wanted = trained(ALONE)
    for count in (2, 4):
        for found in processes.side_by_side(count, trained, monkeypatch):
            assert all(map(same, wanted, found)), count


def test_a_run_that_one_process_began_is_finished_by_three_bit_for_bit(straight, tmp_path, monkeypatch):
    processes.by_one(monkeypatch, tmp_path, ROW, "--until", "2")
    done, folder = processes.launched(tmp_path, ROW, 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("result in") == 1 and processes.same_as(straight, folder)
    assert '3 processes"' in (folder / "run.json").read_text()


def test_a_process_that_dies_ends_all_and_one_goes_on_from_the_last_iteration(
    straight, tmp_path, monkeypatch
):
    done, folder = processes.launched(tmp_path, ROW, 2, "1", signal.SIGKILL)
    processes.check_that_one_died(done, folder)
    processes.by_one(monkeypatch, tmp_path, ROW)
    assert processes.same_as(straight, folder)


def test_processes_of_a_machine_share_its_cores(monkeypatch):
    row = dataclasses.replace(
        paper.get("half-cheetah-direction-maml"), **KINDS["half-cheetah-direction-maml"]
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for threads, ranks, wanted in [(None, ALONE, 5), (None, Ranks(0, 4), 2), (3, Ranks(0, 4), 3)]:
        training = policy_training.PolicyTraining(row, 0, "cpu", threads, ranks)
        assert sum(env._threads for env in training.lanes) == wanted
        training.close()
