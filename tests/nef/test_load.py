"""Background load: a day's pattern, bursts, and never outside 0..1."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import load


@given(st.integers(0, 1000), st.floats(0.1, 5.0))
@settings(max_examples=10, deadline=None)
def test_demand_is_a_share(seed: int, scale: Any) -> None:
    made = load.background(np.array([3.0, 20.0]), 6, 50, scale, np.random.default_rng(seed))
    assert made.demand.shape == made.users.shape == (50, 2, 6)
    assert made.demand.min() > 0.0 and made.demand.max() <= 1.0
    assert made.users.min() >= 0.0


def test_nights_are_quiet_offices_peak_by_day_and_homes_in_the_evening() -> None:
    hour = np.arange(0.0, 24.0, 0.25)
    offices, homes = load.daily(hour, np.array(1.0)), load.daily(hour, np.array(0.0))
    assert 14.5 <= hour[offices.argmax()] <= 16.0 and hour[homes.argmax()] == 20.5
    assert offices[16] < 0.3 * offices.max() and homes[16] < 0.5 * homes.max()


def test_bursts_come_and_go() -> None:
    made = load.background(np.full(1, 4.0), 20, 600, 1.0, np.random.default_rng(2))
    jumps = np.diff(made.demand, axis=0)
    assert (jumps > 0.2).sum() > 20 and (jumps < -0.2).sum() > 20


@given(st.integers(0, 4), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_working_days_are_alike(weekday: int, business: float) -> None:
    assert load.weekly(np.array(weekday), np.array(business)) == 1.0


def test_at_the_weekend_offices_are_empty_and_homes_busier() -> None:
    weekend = np.array([5, 6])
    assert (load.weekly(weekend, np.array(1.0)) == load.WEEKEND_OFFICES).all()
    assert (load.weekly(weekend, np.array(0.0)) > 1.0).all()


def test_a_week_has_its_season() -> None:
    days = np.arange(7)
    made = load.background(np.full(7, 11.0), 60, 40, 1.0, np.random.default_rng(4), days)
    plain = load.background(np.full(7, 11.0), 60, 40, 1.0, np.random.default_rng(4))
    assert np.array_equal(made.demand[0, :5], plain.demand[0, :5])
    assert made.demand[:, 5:].mean() < 0.85 * plain.demand[:, 5:].mean()
