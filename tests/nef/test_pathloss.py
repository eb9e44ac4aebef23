"""Path loss and line of sight against values computed by hand from TR 38.901."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import pathloss

# d3D = sqrt(d2D^2 + (hBS - 1.5)^2); breakpoint UMa at 3.5 GHz: 4 * 24 * 0.5 * 35/3 = 560 m.
# fmt: off
LOS = [
    ("UMa", 100.0, 3.5, 28.0 + 22.0 * 2.011671 + 10.881361),
    ("UMa", 1000.0, 3.5, 28.0 + 40.0 * 3.000120 + 10.881361 - 9.0 * np.log10(560**2 + 23.5**2)),
    ("UMi", 100.0, 3.5, 32.4 + 21.0 * 2.001563 + 10.881361),
    ("UMi", 50.0, 28.0, 32.4 + 21.0 * 1.705152 + 28.943161),
]
NLOS = [
    ("UMa", 100.0, 3.5, 13.54 + 39.08 * 2.011671 + 10.881361),
    ("UMi", 200.0, 3.5, 35.3 * 2.301422 + 22.4 + 21.3 * 0.544068),
]
# fmt: on


@pytest.mark.parametrize(("scenario", "metres", "ghz", "expected"), LOS)
def test_line_of_sight_loss_is_that_of_table_7_4_1(
    scenario: pathloss.Scenario, metres: float, ghz: float, expected: float
) -> None:
    loss = pathloss.los_path_loss_db(np.array([metres]), ghz, scenario)
    assert loss[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("scenario", "metres", "ghz", "expected"), NLOS)
def test_loss_without_sight_is_that_of_table_7_4_1(
    scenario: pathloss.Scenario, metres: float, ghz: float, expected: float
) -> None:
    loss = pathloss.nlos_path_loss_db(np.array([metres]), ghz, scenario)
    assert loss[0] == pytest.approx(expected, abs=1e-3)


def test_the_two_slopes_meet_at_the_breakpoint() -> None:
    around = pathloss.los_path_loss_db(np.array([560.0, 560.001]), 3.5, "UMa")
    assert around[1] - around[0] == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("scenario", "metres", "expected"),
    [
        ("UMa", 18.0, 1.0),
        ("UMa", 100.0, 0.18 + 0.82 * np.exp(-100 / 63)),
        ("UMi", 5.0, 1.0),
        ("UMi", 100.0, 0.18 + 0.82 * np.exp(-100 / 36)),
    ],
)
def test_sight_has_the_probability_of_table_7_4_2(
    scenario: pathloss.Scenario, metres: float, expected: float
) -> None:
    assert pathloss.los_probability(np.array([metres]), scenario)[0] == pytest.approx(expected)


metres = st.floats(0.0, 5000.0)
scenarios = st.sampled_from(["UMa", "UMi"])


@given(metres, metres, scenarios, st.floats(0.5, 30.0))
@settings(deadline=None)
def test_farther_is_never_seen_or_heard_better(
    one: Any, other: Any, scenario: pathloss.Scenario, ghz: float
) -> None:
    near, far = np.array([min(one, other)]), np.array([max(one, other)])
    assert pathloss.los_probability(far, scenario) <= pathloss.los_probability(near, scenario)
    for loss in (pathloss.los_path_loss_db, pathloss.nlos_path_loss_db):
        # 0.02 dB: the standard rounds its constants, so that its two slopes do not quite meet
        assert loss(far, ghz, scenario) >= loss(near, ghz, scenario) - 0.02


@given(metres, scenarios, st.floats(0.5, 30.0))
@settings(deadline=None)
def test_walls_never_help(ground: Any, scenario: pathloss.Scenario, ghz: float) -> None:
    ground = np.array([ground])
    seen = pathloss.los_path_loss_db(ground, ghz, scenario)
    assert pathloss.nlos_path_loss_db(ground, ghz, scenario) >= seen


@given(metres, scenarios)
@settings(deadline=None)
def test_soft_sight_is_in_sight_as_often_as_the_table_says(
    ground: Any, scenario: pathloss.Scenario
) -> None:
    gaussian = np.random.default_rng(1).standard_normal(20_000)
    soft = pathloss.los_softness(np.full(20_000, ground), gaussian, 3.5, scenario)
    assert soft.min() >= 0.0 and soft.max() <= 1.0
    expected = pathloss.los_probability(np.array([ground]), scenario)[0]
    assert (soft > 0.5).mean() == pytest.approx(expected, abs=0.02)
