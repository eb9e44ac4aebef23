"""Tracks stay in the area and move as fast as they say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import SimulatorParams, mobility, traces
from nef.simulator.params import MobilityMix
from nef.simulator.topology import geographic
from schemas.errors import QosError

CENTRE = np.array([100.0, -50.0])


@given(st.integers(0, 10_000), st.floats(250.0, 2000.0))
@settings(max_examples=20, deadline=None)
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


MOVING = [kind for kind in mobility.KINDS if kind != "trace"]


def alone(kind: str, ues: int = 12, ticks: int = 200, seed: int = 3, radius: float = 600.0) -> Any:
    return mobility.tracks(
        ues, ticks, np.zeros(2), radius, np.random.default_rng(seed), MobilityMix.only(kind)
    )


def headings(made: Any, ue: int) -> Any:
    """Direction in degrees of each second in which a UE moved."""
    east, north = np.diff(made.east_m[:, ue]), np.diff(made.north_m[:, ue])
    moves = np.hypot(east, north) > 1e-6
    return np.degrees(np.arctan2(north[moves], east[moves]))


def turns(made: Any, ue: int) -> Any:
    change = (np.diff(headings(made, ue)) + 180.0) % 360.0 - 180.0
    return change[np.abs(change) > 1e-3]


@given(st.sampled_from(MOVING), st.integers(0, 1000), st.floats(200.0, 1500.0))
@settings(max_examples=40, deadline=None)
def test_each_kind_stays_and_goes_as_fast_as_it_says(kind: str, seed: int, radius: float) -> None:
    made = alone(kind, ticks=150, seed=seed, radius=radius)
    assert set(made.kind) == {mobility.KINDS.index(kind)}
    assert np.hypot(made.east_m, made.north_m).max() <= radius + 2 * mobility.BLOCK_M
    step = np.hypot(np.diff(made.east_m, axis=0), np.diff(made.north_m, axis=0))
    assert (step <= made.speed_mps[:-1] + 1e-6).all() and made.speed_mps.max() < 60.0


@given(st.integers(1, 60), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_cut_into_stretches_the_ways_are_the_same(cut: int, seed: int) -> None:
    mix = MobilityMix(l_shaped=0.25, random_direction=0.25)
    one = mobility.begin(20, 500.0, np.random.default_rng(seed), mix)
    two = mobility.begin(20, 500.0, np.random.default_rng(seed), mix)
    once, twice = np.random.default_rng(9), np.random.default_rng(9)
    whole = mobility.advance(one, 70, once)
    parts = [mobility.advance(two, ticks, twice) for ticks in (cut, 70 - cut)]
    assert np.array_equal(whole.east_m, np.concatenate([part.east_m for part in parts]))
    assert np.array_equal(whole.speed_mps, np.concatenate([part.speed_mps for part in parts]))


def test_an_l_has_one_corner_of_90_degrees() -> None:
    made = alone("l_shaped", ues=40, ticks=120, radius=4000.0)
    inside = np.hypot(made.east_m, made.north_m).max(axis=0) < 4000.0
    corners = [turns(made, ue) for ue in np.flatnonzero(inside)]
    assert all(len(found) <= 1 for found in corners)
    found = np.concatenate(corners)
    assert found.size > 3 and np.abs(found) == pytest.approx(np.full(found.size, 90.0))


def test_random_direction_goes_straight_from_rim_to_rim_and_rests_there() -> None:
    made = alone("random_direction", ues=30, ticks=900)
    away = np.hypot(made.east_m, made.north_m)
    rests = (made.speed_mps == 0.0) & (np.arange(900)[:, None] > 0)
    assert rests.sum() > 200
    assert (away[rests] > 600.0 - 1e-6).mean() > 0.75  # a speed may wander down to 0 on the way
    assert all(turns(made, ue).size <= 900 * 15 / 300 for ue in range(30))


def test_a_group_keeps_together_and_moves() -> None:
    made = alone("group", ues=mobility.GROUP_SIZE, ticks=600)
    spread = np.hypot(
        made.east_m - made.east_m.mean(axis=1, keepdims=True),
        made.north_m - made.north_m.mean(axis=1, keepdims=True),
    )
    assert spread.max() <= 2 * mobility.GROUP_REACH_M
    assert np.ptp(made.east_m.mean(axis=1)) > 100.0


def test_a_city_street_has_right_angles_only() -> None:
    made = alone("manhattan", ues=10, ticks=400)
    found = np.concatenate([turns(made, ue) for ue in range(10)])
    assert found.size > 20
    assert found / 90.0 == pytest.approx(np.round(found / 90.0), abs=1e-6)


def recorded(points: int = 40, speed: float = 12.0) -> pl.DataFrame:
    """A way straight to the north, a place every 2 s."""
    seconds = 2.0 * np.arange(points)
    latitude, longitude = geographic(np.full(points, 700.0), speed * seconds)
    start = datetime(2026, 3, 2, tzinfo=UTC)
    return pl.DataFrame(
        {
            "trace_id": ["one"] * points,
            "event_timestamp": [start + timedelta(seconds=float(s)) for s in seconds],
            "latitude_deg": latitude,
            "longitude_deg": longitude,
        }
    )


def test_a_trace_is_followed_at_its_own_speed_to_and_fro(tmp_path: Path) -> None:
    file = tmp_path / "way.csv"
    recorded().write_csv(file)
    params = SimulatorParams(mobility=MobilityMix.only("trace"), trace_file=str(file))
    made = mobility.tracks(
        5, 300, CENTRE, 900.0, np.random.default_rng(1), params.mobility,
        mobility.trails_of(params),
    )  # fmt: skip
    assert made.east_m == pytest.approx(np.full((300, 5), CENTRE[0]), abs=0.01)
    assert np.ptp(made.north_m, axis=0) == pytest.approx(np.full(5, 12.0 * 78.0), rel=0.02)
    moving = made.speed_mps > 11.5  # all seconds but those of a return
    assert moving.mean() > 0.95
    assert np.median(made.speed_mps) == pytest.approx(12.0, abs=0.01)


@given(st.lists(st.floats(0.0, 5000.0), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_trail_is_interpolated_as_one_loop_does(seconds: Any) -> None:
    (trail,) = traces.trails(recorded(points=7))
    for second in seconds:
        there = second % (2.0 * trail.seconds)
        there = min(there, 2.0 * trail.seconds - there)
        number = min(int(there // 2.0), 5)
        part = (there - 2.0 * number) / 2.0
        expected = (1.0 - part) * trail.place_m[number] + part * trail.place_m[number + 1]
        assert trail.at(np.array([second]))[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"latitude_deg": pl.lit(91.0)}, "40 rows are no place on earth"),
        ({"trace_id": pl.int_range(40).cast(pl.String)}, "has 1 place; two are needed"),
    ],
)
def test_a_trace_that_leads_nowhere_is_refused(change: Any, says: str) -> None:
    with pytest.raises(QosError, match=says):
        traces.trails(recorded().with_columns(**change))


def test_a_trace_file_that_is_not_there_or_lacks_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QosError, match="not found"):
        traces.read_trails(str(tmp_path / "none.csv"))
    recorded().drop("latitude_deg").write_parquet(tmp_path / "less.parquet")
    with pytest.raises(QosError, match=r"missing columns \['latitude_deg'\]"):
        traces.read_trails(str(tmp_path / "less.parquet"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: MobilityMix(static=-1.0), "simulator.mobility.static: -1.0, must be at least 0"),
        (lambda: MobilityMix(0.0, 0.0, 0.0, 0.0), "all shares are 0"),
        (lambda: SimulatorParams(mobility=MobilityMix.only("trace")), "the one asks for the other"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(QosError, match=says):
        wrong()
