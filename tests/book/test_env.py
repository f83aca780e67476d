"""``pyproject.toml``, ``constraints.txt`` and ``environment.yml`` describe one environment."""

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
]
# installed by `make bench` alone
BENCH = {canonicalize_name(Requirement(line).name) for line in EXTRAS["bench"]}
LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
]
PINS = {canonicalize_name(name): Version(pin) for name, _, pin in (line.partition("==") for line in LINES)}


def test_constraints_hold_one_exact_pin_per_name():
    assert all(line.count("==") == 1 for line in LINES)
    assert len(PINS) == len(LINES)


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_every_direct_dependency_is_pinned_within_its_bounds(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin)


def test_lower_bounds_admit_torch_2_11():
    torch = next(requirement for requirement in DIRECT if requirement.name == "torch")
    assert torch.specifier.contains("2.11.0")


def test_python_versions():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(8, 20) if supported.contains(f"3.{minor}.0")] == [11, 12, 13]
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in (ROOT / "Makefile").read_text()


def test_environment_yml_is_a_wrapper_of_the_same_installation():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert [name.partition("=")[0] for name in conda] == ["python", "pip"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda[0].partition("=")[2] + ".0")
    assert pip == {"pip": ["-c constraints.txt", "-e .[book,test]"]}
    assert '-c constraints.txt -e ".[book,test]"' in (ROOT / "Makefile").read_text()


@pytest.mark.skipif(
    not Path(sys.prefix, ".installed").exists(), reason="not the environment that make installs"
)
@pytest.mark.parametrize("name", sorted(PINS.keys() - BENCH))
def test_installed_versions_are_the_pins(name):
    assert Version(Version(version(name)).public) == PINS[name]  # torch may be 2.13.0+cpu
