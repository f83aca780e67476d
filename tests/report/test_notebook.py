"""What chapters state: claims with their numbers, which are left out where two machines are compared."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from nbval.plugin import get_sanitize_patterns

from mamlkit.report import notebook

SANITIZE = dict(get_sanitize_patterns((Path(__file__).parents[1] / "nbval_sanitize.cfg").read_text()))


@pytest.mark.parametrize(
    ("measured", "relation", "bound", "shown"),
    [
        (27.314, ">", 5, "27.3 > 5"),
        (-0.0421, "<", 0, "-0.0421 < 0"),
        (3.2e-13, "<=", 1e-12, "3.2e-13 <= 1e-12"),
        (112_005, "==", 112_005, "112,005 == 112,005"),
        (1234.4, ">=", 1000.0, "1,234 >= 1,000"),
        (np.float32(2.5), ">", 2, "2.5 > 2"),
        (np.int64(40), ">", 20, "40 > 20"),
        (torch.tensor(0.25), "<", torch.tensor(1.0).item(), "0.25 < 1"),
    ],
)
def test_a_claim_is_stated_with_its_number_and_bound(measured, relation, bound, shown, capsys):
    notebook.check("so it is", measured, relation, bound)
    assert capsys.readouterr().out == f"holds: so it is ({shown})\n"


@pytest.mark.parametrize("truth", [True, np.True_, torch.tensor(True)])
def test_what_is_no_number_is_stated_alone(truth, capsys):
    notebook.check("equal to the bit", truth)
    assert capsys.readouterr().out == "holds: equal to the bit\n"


@pytest.mark.parametrize("measured", [4.99, float("nan")])
def test_what_does_not_hold_fails_with_its_number(measured, capsys):
    with pytest.raises(AssertionError, match=rf"does not hold: gains 5 \({measured} >= 5\)"):
        notebook.check("gains 5", measured, ">=", 5)
    with pytest.raises(AssertionError, match=r"does not hold: equal\. .*notebook\.STRICT = False"):
        notebook.check("equal", False)
    assert capsys.readouterr().out == ""


def test_who_changes_a_setting_can_go_on(monkeypatch, capsys):
    monkeypatch.setattr(notebook, "STRICT", False)
    notebook.check("gains 5", 4.99, ">=", 5)
    notebook.check("equal", False)
    assert capsys.readouterr().out == "does not hold: gains 5 (4.99 >= 5)\ndoes not hold: equal\n"


@pytest.mark.parametrize(
    "wrong", [(3.0,), (3.0, ">"), (3.0, None, 2), (True, ">", 0), (np.True_, "==", 1), (3.0, "=", 3.0), (1,)]
)
def test_other_uses_are_errors(wrong):
    with pytest.raises(ValueError, match=r"^check\('claim', .*give a number, one of <, <=, >, >=, == and a"):
        notebook.check("claim", *wrong)


def test_many_numbers_are_no_number():
    with pytest.raises(ValueError, match="size 1"):
        notebook.check("all of them", np.array([1.0, 2.0]), ">", 0)


def test_measured_values_are_left_out_where_machines_are_compared():
    def clean(text):
        for regex, replacement in SANITIZE.items():
            text = re.sub(regex, replacement, text)
        return text

    one = "holds: gains (of 40) 5 or more (27.3 > 5)\nholds: equal\nholds: small (3.2e-13 < 1e-12)\n"
    other = one.replace("27.3", "27.4").replace("3.2e-13", "-1e-20")
    assert clean(one) == clean(other) != one
    for wrong in (one.replace("> 5", "> 4"), one.replace("40", "39"), one.replace("holds: equal", "equal")):
        assert clean(wrong) != clean(one)
    assert clean("measured (27.3 > 5)\n") == "measured (27.3 > 5)\n"


@pytest.mark.parametrize("caption", ["Run `x`.", "One.\nTwo."])
def test_a_caption_that_would_hide_its_table_is_refused(caption):
    with pytest.raises(ValueError, match="the caption of tab-x has a backtick or more than one line"):
        notebook.captioned("| a |", caption, "tab-x")
    assert notebook.captioned("| a |", "One.", "tab-x") == "```{table} One.\n:name: tab-x\n\n| a |\n```"
