"""What a difference from the paper says: verdicts at their boundaries, and the margins."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamlkit.measures import Z95
from mamlkit.report import results, verdicts

numbers = st.floats(-1e6, 1e6)
widths = st.floats(0, 1e6)
margins = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("difference", "ci95", "wanted"),
    [
        (0.0, 0.0, "reproduced"),
        (0.0, 1.0, "reproduced"),  # the interval touches the margin
        (0.0, 1.0 + 1e-9, "consistent"),
        (0.5, 0.5, "reproduced"),
        (-0.5, 0.5, "reproduced"),
        (0.6, 0.5, "differs"),  # beyond the margin, and without zero
        (0.0, 3.0, "consistent"),
        (0.0, 3.0 + 1e-9, "inconclusive"),  # wider than three margins
        (-2.0, 4.0, "inconclusive"),
        (-5.0, 4.0, "differs"),  # as wide, but without zero
        (0.6, 0.6, "consistent"),  # beyond the margin, but just with zero
        (-0.6, 0.6, "consistent"),
        (1.0, 0.0, "reproduced"),
        (1.0 + 1e-9, 0.0, "differs"),
        (-5.0, 0.1, "differs"),
    ],
)
def test_verdict_at_its_boundaries(difference, ci95, wanted):
    assert verdicts.verdict(difference, ci95, 1.0) == wanted


@given(numbers, widths, margins)
def test_verdict_is_one_of_four_and_follows_its_definition(difference, ci95, margin):
    low, high = difference - ci95, difference + ci95
    inside, has_zero = -margin <= low and high <= margin, low <= 0 <= high
    wide = ci95 > verdicts.WIDE * margin
    assert verdicts.verdict(difference, ci95, margin) == (
        "reproduced" if inside else "differs" if not has_zero else "inconclusive" if wide else "consistent"
    )


@given(numbers, widths, margins)
def test_verdict_does_not_depend_on_the_sign(difference, ci95, margin):
    assert verdicts.verdict(difference, ci95, margin) == verdicts.verdict(-difference, ci95, margin)


@given(numbers, widths, margins, st.floats(0, 10))
def test_a_wider_margin_never_unmakes_a_reproduction(difference, ci95, margin, more):
    if verdicts.verdict(difference, ci95, margin) == "reproduced":
        assert verdicts.verdict(difference, ci95, margin + more) == "reproduced"


@given(numbers, widths, margins, st.floats(0, 10))
def test_more_uncertainty_never_reproduces_nor_makes_a_difference(difference, ci95, margin, more):
    before, after = (verdicts.verdict(difference, c, margin) for c in (ci95, ci95 + more))
    assert after != "reproduced" or before == "reproduced"
    assert after != "differs" or before in ("reproduced", "differs")


@pytest.mark.parametrize(
    "arguments", [(math.nan, 0.1, 1), (math.inf, 0.1, 1), (0, -0.1, 1), (0, math.nan, 1), (0, 0.1, 0)]
)
def test_verdict_refuses_what_is_no_interval(arguments):
    with pytest.raises(ValueError, match="must be finite"):
        verdicts.verdict(*arguments)


def test_margins_are_those_stated():
    printed = results.published()
    drawn = verdicts.paper_curves(printed)
    pick = lambda **keys: next(
        line for _, line in printed.iterrows() if all(line[k] == v for k, v in keys.items())
    )
    accuracy = pick(metric="accuracy", setting="Omniglot 5-way 1-shot", method="MAML")
    assert verdicts.margin(accuracy, drawn) == 1.0
    assert verdicts.margin(pick(place="Table 2", method="MAML", step=1), drawn) == pytest.approx(0.067)
    navigation = 0.1 * (40.41 - 11.68)
    assert verdicts.margin(pick(place="Fig. 4", method="random", step=3), drawn) == pytest.approx(navigation)
    assert verdicts.margin(pick(place="Table 4", step=0), drawn) == pytest.approx(navigation)
    own = 0.1 * (6.86 - 1.27)  # far less than MAML gains there
    assert verdicts.margin(pick(setting="Ant direction", method="pretrained"), drawn) == pytest.approx(own)
    assert verdicts.margin(pick(setting="Ant velocity", method="oracle"), drawn) == pytest.approx(
        0.1 * (96.74 - 30.58)
    )


@pytest.mark.parametrize(
    ("values", "wanted"), [([5.0], 10), ([5.0, 5.0], 10), ([5.0, 7.0], 0.2), ([5, 7, 6], 0.2), ([0, 300], 10)]
)
def test_a_margin_is_a_tenth_of_what_the_method_spans_or_of_what_maml_gains_in_its_first_step(values, wanted):
    """MAML gains 100, so that is the most; a curve that is one value alone spans nothing."""
    drawn = {("here", "MAML"): {0: -20.0, 1: 80.0, 2: 500.0}, ("here", "own"): dict(enumerate(values))}
    line = pd.Series({"metric": "return", "setting": "here", "method": "own"})
    assert verdicts.margin(line, drawn) == pytest.approx(wanted)


def test_every_published_number_has_a_positive_margin():
    printed = results.published()
    drawn = verdicts.paper_curves(printed)
    assert all(verdicts.margin(line, drawn) > 0 for _, line in printed.iterrows())


@pytest.mark.parametrize(("seeds", "wanted"), [(2, 0.97), (3, 0.95), (10, 0.88)])
def test_what_the_wider_of_two_equal_intervals_holds(seeds, wanted):
    """As the results page has it; 40,000 trials, within six standard errors and its rounding."""
    rng, trials = np.random.default_rng(0), 40_000
    of_tasks = rng.standard_normal(trials)  # error that all seeds share
    of_seeds = math.sqrt(seeds) * rng.standard_normal((trials, seeds))
    over_seeds = np.array([results.student(each)[1] for each in of_seeds])
    held = (abs(of_tasks + of_seeds.mean(1)) <= np.maximum(Z95, over_seeds)).mean()
    assert abs(held - wanted) < 0.005 + 6 * math.sqrt(wanted * (1 - wanted) / trials)
