"""The rows whose frequency is drawn differ from each other in what their titles say."""

import pytest

from mamlkit.experiments import frequencies, paper

BASE = paper.get("sinusoid-frequency-maml")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("meta-sgd", {"method": "meta-sgd"}),
        ("maml-fixed", {"family": "sinusoid"}),
        ("maml-25-tasks", {"meta_batch_size": 25}),
    ],
)
def test_a_row_differs_from_mamls_in_one_thing(name, changed):
    row = paper.get(f"sinusoid-frequency-{name}")
    different = {key: value for key, value in row.settings.items() if BASE.settings[key] != value}
    assert different == changed and row.evaluations == BASE.evaluations
    assert frequencies.with_frequency(row.name)


def test_the_settings_are_those_of_the_summary():
    assert (BASE.family, BASE.inner_steps, BASE.inner_lr) == ("sinusoid, frequency too", 1, 0.01)
    assert (BASE.shots, BASE.queries, BASE.iterations) == (5, 10, 60_000)
    for test, points in zip(BASE.evaluations, (5, 10, 20), strict=True):
        assert (test.shots, test.queries, test.inner_steps, test.headline_step) == (points, 100, 1, 1)
    others = [row for row in paper.ROWS if not row.startswith("sinusoid-frequency-")]
    assert not any(map(frequencies.with_frequency, others))
    controls = [name for name in paper.ROWS if frequencies.is_control(name)]
    assert controls == ["sinusoid-frequency-maml-fixed", "sinusoid-frequency-maml-25-tasks"]
