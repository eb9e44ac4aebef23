"""Tracks stay in the area and move as fast as they say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import mobility

CENTRE = np.array([100.0, -50.0])


@given(st.integers(0, 10_000), st.floats(250.0, 2000.0))
@settings(max_examples=20)
def test_nobody_leaves_the_area_or_jumps(seed: int, radius: Any) -> None:
    made = mobility.tracks(40, 120, CENTRE, radius, np.random.default_rng(seed))
    away = np.hypot(made.east_m - CENTRE[0], made.north_m - CENTRE[1])
    assert away.max() <= radius + 2 * mobility.BLOCK_M
    step = np.hypot(np.diff(made.east_m, axis=0), np.diff(made.north_m, axis=0))
    assert (step <= made.speed_mps[:-1] + 1e-6).all()
    turning = made.kind == mobility.KINDS.index("manhattan")  # who stops short at a crossing
    assert step[:, ~turning] == pytest.approx(made.speed_mps[:-1, ~turning], abs=1e-6)


def test_static_stand_and_manhattan_keep_to_the_streets() -> None:
    made = mobility.tracks(200, 300, np.zeros(2), 800.0, np.random.default_rng(5))
    static, streets = made.kind == 0, made.kind == 3
    assert static.any() and streets.any()
    assert np.ptp(made.east_m[:, static], axis=0).max() == 0.0
    off = [
        np.abs(axis[:, streets] - np.round(axis[:, streets] / 100.0) * 100.0)
        for axis in (made.east_m, made.north_m)
    ]
    assert np.minimum(*off).max() < 1e-6
    assert np.ptp(made.east_m[:, streets], axis=0).max() > 100.0
