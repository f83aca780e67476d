"""No step leaves its device or waits for it, on a device that only pretends (``tests/pretended.py``)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from mamlkit import methods
from mamlkit.engine import convolutions

ROOT = Path(__file__).parents[2]
# PyTorch's own: it makes the derivative of an input that is a constant on no device
NOT_OURS = {"unfolded, mlp, implicit maml": "FakeTensorDeviceMismatchError"}

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no devices that are made in Python",
)


@pytest.fixture(scope="module")
def said():
    settings = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]), "MAMLKIT_DATA": "none"}
    program = [sys.executable, str(ROOT / "tests" / "pretended.py")]
    shown = subprocess.run(program, env=os.environ | settings, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return dict(re.findall(r"^(.*?): (.*)$", shown.stdout, re.M))


def test_to_look_at_a_value_and_to_mix_devices_is_noticed(said):
    assert said["looked at"].startswith("DataDependentOutputException")
    assert said["mixed"].startswith("FakeTensorDeviceMismatchError")


def test_a_meta_batch_is_gathered_where_its_bank_is(said):
    assert said["gathered"] == "stays there"


def test_what_the_update_of_a_policy_asks_for_stays_on_its_device(said):
    found = {words: end for words, end in said.items() if words.startswith("policy")}
    assert len(found) == 12 and set(found.values()) == {"stays there"}


def test_a_step_of_every_method_stays_on_its_device_and_waits_for_nothing(said):
    found = {words: end for words, end in said.items() if words.split(", ")[0] in convolutions.FORMS}
    bad = {words: end for words, end in found.items() if end != "stays there"}
    assert {words: end.split(":")[0] for words, end in bad.items()} == NOT_OURS
    tried = {words.split(", ", 2)[2] for words in found}
    assert tried == set(methods.METHODS) - {"nearest neighbour on pixels"}  # which learns nothing
    for form in convolutions.FORMS:
        assert {f"{form}, {kind}, maml" for kind in ("conv-stride", "conv-max")} <= found.keys()
