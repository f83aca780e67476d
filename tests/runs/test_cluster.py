"""The queue on a Ray cluster: a machine that is lost takes nothing with it, and results are those of one."""

import dataclasses
import json
import os
import re
import signal
import socket
import sys
import threading
import time

import pytest
import torch

import made_results
from mamlkit import __main__
from mamlkit.experiments import paper
from mamlkit.report import results
from mamlkit.runs import addresses, checkpoints, cluster, devices, folders, plan, provenance, train

SINUSOID, NAVIGATION = paper.get("sinusoid-maml"), paper.get("2d-navigation-maml")
# Names that nobody commits: what is under way on another machine looks at its own clone too.
FIRST = dataclasses.replace(
    SINUSOID,
    name="sinusoid-cluster",
    # with normalisation each update is a call of its own, so that a slice can end after any of them
    network=(SINUSOID.network[0], SINUSOID.network[1] | {"batch_norm_shifts": True}),
    iterations=40,
    meta_batch_size=2,
    quick={},
    evaluations=(dataclasses.replace(SINUSOID.evaluations[0], tasks=20),),
)
SECOND = dataclasses.replace(
    NAVIGATION,
    name="navigation-cluster",
    iterations=4,
    meta_batch_size=2,
    rollouts=2,
    evaluations=(dataclasses.replace(NAVIGATION.evaluations[0], rollouts=2, tasks=3),),
)
ROWS = (FIRST, SECOND)
HERE = {"device": "cpu", "threads": 1}
pytestmark = pytest.mark.queue


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository without results, and a queue of two short rows."""
    made_results.queued(tmp_path, monkeypatch, *ROWS)
    return tmp_path


def finished_as_straight(row, seed=0):
    """Whether a result is there, with the parameters of a run that was never cut or moved."""
    (found,) = (r for r in results.load(row.name) if r["seed"] == seed)
    params = checkpoints.load_params(results.checkpoint(row.name, seed))
    straight = train.fit(row, seed=seed).params
    return found["iterations_done"] == row.iterations and all(
        torch.equal(params[name], straight[name]) for name in straight
    )


def test_slices_without_a_common_folder_are_a_straight_run(place):
    """What Ray does with slices, without Ray: each gets the content of a folder and gives back another."""
    code, content, seen = provenance.code(), {}, []
    while not (seen and seen[-1].evaluations):
        found = cluster.train_slice(FIRST, 0, 3, content, code=code, seconds=0.0, **HERE)
        seen.append(found)
        content = {name: found.content[name] for name in folders.STATE}
    assert [found.iteration for found in seen] == [1, 2, 3]
    assert seen[-1].content.keys() == {*folders.STATE, *folders.RESULT}
    (place / "state").write_bytes(content["state.safetensors"])
    params = train.fit(FIRST, until=0).params
    checkpoints.load_state(place / "state", params, torch.optim.Adam(list(params.values())))
    straight = train.fit(FIRST, until=3).params
    assert all(torch.equal(params[name], straight[name]) for name in straight)


def test_other_code_is_refused_by_the_name_of_the_machine():
    commit, _, _ = provenance.code().partition(" (")
    for code in ("abc", f"{commit} (files 0123456789ab)"):  # another commit; other files at the same
        with pytest.raises(
            ValueError,
            match=f"{os.uname().nodename} has mamlkit at commit .*started at {re.escape(code)}; bring",
        ):
            cluster.train_slice(FIRST, 0, 3, {}, code=code, seconds=0.0, **HERE)


def test_without_ray_the_command_says_how_to_install_it(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert __main__.main(["paper", "--on", "ray", "--no-nice"]) == 1
    assert "--on ray needs Ray, which is not installed; in the clone: .venv/bin/python -m pip" in (
        capsys.readouterr().err
    )


def test_options_of_a_cluster_need_one(place, capsys):
    assert __main__.main(["paper", "--address", "auto", "--no-nice"]) == 1
    assert "--address and --gpus are for a cluster; add --on ray" in capsys.readouterr().err
    for option in (["--recorded"], ["--convolutions", "grouped"]):
        assert __main__.main(["paper", "--on", "ray", *option]) == 1
        assert "--recorded and --convolutions are for the queue of one machine" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        __main__.main(["paper", "--on", "ray", "--gpus", "1.5"])
    assert "it must be a share, 0 to 1, or a whole number" in capsys.readouterr().err


@pytest.fixture
def without_ray(monkeypatch):
    """A Ray that nobody may ask."""

    class Unasked:
        def init(*args, **kwargs):
            pytest.fail("ray.init was called")

    monkeypatch.setitem(sys.modules, "ray", Unasked)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def closed_port():
    """A port of this machine at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_at_which_nobody_answers_is_refused_at_once(form, without_ray, closed_port, monkeypatch):
    address, begun = form.format(closed_port), time.monotonic()
    with pytest.raises(ValueError, match=f"--address is '{address}', but there nobody answers .*; start a"):
        cluster.Machines(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in (None, "auto"):
        with pytest.raises(ValueError, match=f"RAY_ADDRESS is '{address}', but there nobody answers"):
            cluster.Machines(given)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "address",
    ["garbage", "", "127.0.0.1", "127.0.0.1:", ":6379", "host:port", "host:99999", "http://host:1", "a:1/b"],
)
def test_what_is_no_address_is_refused_with_what_is_one(address, without_ray):
    with pytest.raises(
        ValueError, match="but 'auto', 'local', 'host:port' and 'ray://host:port' are allowed"
    ):
        cluster.Machines(address)


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """The file in which Ray would remember a cluster; it is where Ray looks for it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


@pytest.mark.parametrize("given", [None, "auto"])
def test_a_cluster_that_was_started_last_and_has_ended_is_refused_at_once(
    given, without_ray, closed_port, remembered
):
    remembered.write_text(f"127.0.0.1:{closed_port}")
    with pytest.raises(
        ValueError, match="ray_current_cluster has '127.*nobody answers .*, or remove the file"
    ):
        cluster.Machines(given)


@pytest.mark.parametrize("setting", ["RAY_TMPDIR", "TMPDIR", None])
def test_the_file_of_the_last_cluster_is_where_ray_has_it(setting, tmp_path, monkeypatch):
    utils = pytest.importorskip("ray._common.utils", reason="Ray is not installed (the extra [cluster])")
    if not hasattr(utils, "get_ray_address_file"):
        pytest.skip("this Ray has no such function")
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    if setting:
        monkeypatch.setenv(setting, str(tmp_path))
    assert str(addresses._remembered()) == utils.get_ray_address_file(None)


def test_an_address_at_which_somebody_listens_goes_to_ray(remembered):
    addresses.check("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (None, "auto", "local", f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            addresses.check(address)
        remembered.write_text(f"127.0.0.1:{port}")
        addresses.check("auto")


@pytest.mark.parametrize("device", ["nonsense", "gpu", "cuda:", "cuda:x", "meta", ""])
def test_a_device_that_no_machine_has_is_refused_before_any_run(device, without_ray, place, capsys):
    assert __main__.main(["paper", "--on", "ray", "--device", device, "--no-nice"]) == 1
    assert f"device={device!r}, but no device is called so; use 'auto', 'cpu'" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_a_device_that_other_machines_may_have_is_let_through(device):
    devices.check_name(device)


@pytest.fixture(scope="module")
def two_machines():
    """A Ray cluster of two machines with a CPU each, beside a head without one."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra [cluster])")
    from ray.cluster_utils import Cluster

    few = {"object_store_memory": 80 << 20, "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)  # of which Ray's test cluster makes another
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **few})
    nodes = [made.add_node(num_cpus=1, **few) for _ in range(2)]
    yield made, nodes
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def machines(two_machines):
    found = cluster.Machines(two_machines[0].address)
    yield found
    found.close()


def work(place, machines, said, seeds=(0,), **more):
    base = place / "runs"
    return cluster.work(plan.jobs(seeds=seeds, base=base), machines, base=base, tell=said.append, **more)


def test_ctrl_c_keeps_the_states_and_what_fails_stops_nothing_else(place, machines, monkeypatch):
    monkeypatch.setitem(paper.ROWS, SECOND.name, dataclasses.replace(SECOND, environment="nowhere"))
    monkeypatch.setattr(paper, "QUEUE", (SECOND.name, FIRST.name))
    task = machines.task

    begun = threading.Event()

    def interrupted(row, *run):
        if row.name == FIRST.name:
            assert begun.wait(60)  # else the other would stop before it fails
            os.kill(os.getpid(), signal.SIGINT)
        begun.set()
        return task(row, *run)

    machines.task = interrupted
    partial = place / "repository" / "data" / "partial" / FIRST.name / "seed0"
    for seconds, done in ((0.0, 1), (60.0, 20)):  # a slice of one iteration, and one up to the first test
        monkeypatch.setattr(cluster, "SLICE_SECONDS", seconds)
        said = []
        begun.clear()
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            work(place, machines, said)
        assert folders.iterations_done(partial) == done
        assert sum(line.startswith(f"{SECOND.name}, seed 0: failed, ") for line in said) == 1
    (origin,) = json.loads((partial / "run.json").read_text())["origin"]  # not this process, which only asks
    assert origin["device"] == "cpu, 1 thread"


def test_what_is_lost_with_a_process_or_a_machine_is_done_again_elsewhere(
    place, two_machines, machines, monkeypatch
):
    """A slice ends its own process; another has trained and not yet answered when its machine is removed."""
    monkeypatch.setattr(cluster, "SLICE_SECONDS", 0.2)
    made, nodes = two_machines
    ray, call = machines.ray, machines.task
    marks = place / "killed", place / "waits"

    def fated(fate, *run, **where):  # on the other side; by value, since no machine has this file
        found = cluster.train_slice(*run, **where)
        if fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fate == "waits":
            marks[1].write_text(ray.get_runtime_context().get_node_id())
            time.sleep(600)
        return found

    where = HERE | {"code": provenance.code(), "seconds": 0.2}
    task = ray.remote(fated).options(num_cpus=1, max_retries=0)
    fates = ["waits", "killed"]
    machines.task = lambda *run: task.remote(fates.pop(), *run, **where) if fates else call(*run)

    def remove():
        while not marks[1].exists() or not marks[1].read_text():
            time.sleep(0.1)
        (lost,) = (node for node in nodes if node.node_id == marks[1].read_text())
        made.remove_node(lost)

    watch, said = threading.Thread(target=remove, daemon=True), []
    watch.start()
    assert machines.room() == 2
    assert work(place, machines, said, seeds=(0, 1)) == []
    watch.join()
    lost = [line for line in said if "lost with its machine" in line]
    assert len(lost) == 2 and machines.room() == 1
    assert "(WorkerCrashedError)" in "".join(lost) and "(NodeDiedError)" in "".join(lost)
    assert all(finished_as_straight(row, seed) for row in ROWS for seed in (0, 1))
    assert not list((place / "repository" / "data" / "partial").glob("*/*/*"))


def test_a_cluster_without_what_a_run_needs_is_refused(two_machines):
    with pytest.raises(
        ValueError, match="no machine of the cluster has the 64 CPU and 1 GPU that a run needs"
    ):
        cluster.Machines(two_machines[0].address, threads=64, gpus=1)
