"""A city runs on in stretches: the same air as the campaign's formulas, whatever policies do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import SimulatorParams, anomalies, city, handover, mobility, radio, topology
from nef.simulator.ground import Ground
from nef.simulator.params import MobilityMix
from schemas.errors import QosError

SMALL = city.city_params(40, 3, 150, seed=5)


@pytest.fixture(scope="module")
def parts() -> Any:
    return list(city.play(SMALL, 150))


@given(st.integers(0, 50), st.sampled_from(["UMa", "UMi"]), st.integers(1, 7))
@settings(max_examples=8, deadline=None)
def test_looked_up_power_is_the_formulas(seed: int, scenario: Any, sites: int) -> None:
    params = SimulatorParams(scenario=scenario, sites=sites)
    plan = topology.hexagonal(sites, params.inter_site_m)
    tracks = mobility.tracks(30, 40, plan.centre, 700.0, np.random.default_rng(seed))
    ground = Ground.made(plan, params, np.random.default_rng(seed))
    coupling = radio.coupling_db(plan, tracks, params, np.random.default_rng(seed))
    power = radio.CELL_POWER_DBM - 10.0 * np.log10(12 * radio.prb_count(params.bandwidth_mhz))
    error = ground.mean_dbm(tracks, np.zeros(30, np.float32)) - (power + coupling)
    # nearer than 35 m the antenna's tilt turns a quarter of a metre into tenths of a dB
    assert np.quantile(np.abs(error), 0.99) < 0.15 and np.abs(error).max() < 1.0


def test_fading_and_error_are_the_campaigns() -> None:
    params = SimulatorParams(sites=3)
    plan = topology.hexagonal(3, 500.0)
    tracks = mobility.tracks(
        300, 60, plan.centre, 500.0, np.random.default_rng(1), MobilityMix.only("waypoint")
    )
    ground = Ground.made(plan, params, np.random.default_rng(2))
    mean = ground.mean_dbm(tracks, np.zeros(300, np.float32))
    made, _ = ground.air(tracks, np.zeros(300, np.float32), None, np.random.default_rng(3))
    fade = 10.0 * np.log10(made.received_mw) - mean
    expected = radio.fading_db(mean.shape, tracks.speed_mps, np.random.default_rng(4))
    assert fade.std() == pytest.approx(expected.std(), rel=0.05)
    lagged = [(one[1:] * one[:-1]).mean() / (one**2).mean() for one in (fade, expected)]
    assert lagged[0] == pytest.approx(lagged[1], abs=0.05)
    error = made.measured_dbm - mean - 0.5 * fade
    assert error.std() == pytest.approx(0.6, abs=0.02)


@given(st.integers(1, 60))
@settings(max_examples=6, deadline=None)
def test_fading_goes_on_from_one_stretch_to_the_next(first: int) -> None:
    plan = topology.hexagonal(1, 500.0)
    params = SimulatorParams(sites=1)
    ground = Ground.made(plan, params, np.random.default_rng(2))
    still = mobility.tracks(
        400, 2 * first, plan.centre, 300.0, np.random.default_rng(1), MobilityMix.only("static")
    )
    cut = replace(
        still, **{n: getattr(still, n)[:first] for n in ("east_m", "north_m", "speed_mps")}
    )
    random, walls = np.random.default_rng(3), np.zeros(400, np.float32)
    one, fade = ground.air(cut, walls, None, random)
    two, _ = ground.air(cut, walls, fade, random)
    level = [10.0 * np.log10(part.received_mw) for part in (one, two)]
    across = np.corrcoef(level[0][-1].ravel(), level[1][0].ravel())[0, 1]
    assert across > 0.97


def test_a_city_is_whole_and_bounded(parts: Any) -> None:
    assert [one.first for one, _ in parts] == [0, 32, 64, 96, 128]
    assert sum(happened.serving.shape[0] for _, happened in parts) == 150
    for one, happened in parts:
        assert happened.serving.shape[1:] == (40,) and one.air.received_mw.dtype == np.float32
        assert (happened.serving >= 0).mean() > 0.9
        served = happened.serving >= 0
        assert np.isfinite(happened.sinr_db[served]).all()
        assert (happened.prb_used <= 1.0).all() and (happened.downlink_mbps >= 0.0).all()


def test_the_same_seed_gives_the_same_city(parts: Any) -> None:
    again = list(city.play(SMALL, 150))
    for (one, was), (other, then) in zip(parts, again, strict=True):
        assert np.array_equal(one.air.received_mw, other.air.received_mw)
        assert np.array_equal(was.downlink_mbps, then.downlink_mbps)


def test_a_policy_changes_nothing_that_the_city_brings(parts: Any) -> None:
    nobody_moves = list(
        city.play(SMALL, 150, lambda one, seen: np.full(seen.serving.size, handover.STAY))
    )
    for (one, _), (other, then) in zip(parts, nobody_moves, strict=True):
        for name in ("received_mw", "measured_dbm"):
            assert np.array_equal(getattr(one.air, name), getattr(other.air, name))
        assert np.array_equal(one.offered_mbps, other.offered_mbps)
        assert np.array_equal(one.background.demand, other.background.demand)
        assert not any(kind == "nr_handover" for _, kind, *_ in then.events)
    assert any(kind == "nr_handover" for _, kind, *_ in parts[-1][1].events)


def test_requests_come_every_5_to_10_seconds_over_all_stretches(parts: Any) -> None:
    session = np.concatenate([one.asked.session for one, _ in parts])
    tick = np.concatenate([one.asked.tick for one, _ in parts])
    for ue in range(40):
        gaps = np.diff(tick[session == ue])
        assert gaps.min() >= 5 and gaps.max() <= 10 and gaps.size >= 13
    offered = np.concatenate([one.offered_mbps for one, _ in parts])
    wish = np.concatenate([one.asked.mbps for one, _ in parts])
    inside = tick + 12 < 150
    for back in range(1, 13):
        sent = offered[tick[inside] + back, session[inside]]
        assert (sent > 0.8 * wish[inside]).all()


def cell_over_time(name: str, wrong: Any) -> Any:
    parts = [h for _, h in city.play(SMALL, 150, wrong=(wrong,))]
    return np.concatenate([getattr(h, name)[:, 0, 2] for h in parts])


def test_anomalies_and_upgrades_are_felt_across_stretches(parts: Any) -> None:
    usual = np.concatenate([h.prb_used[:, 0, 2] for _, h in parts])
    asleep = anomalies.Anomaly("sleeping_cell", wave=0, first=20, end=100, cell=2)
    rate = cell_over_time("served_mbps", asleep)
    assert (rate[20:100] == 0.0).all() and (rate[:20] > 0.0).all() and (rate[100:] > 0.0).all()
    full = cell_over_time("prb_used", anomalies.Anomaly("congestion", 0, 20, 100, cell=2))
    assert full[20:100].min() > 0.9 and np.array_equal(full[:20], usual[:20])
    upgraded = anomalies.Anomaly(anomalies.UPGRADE, 0, -150, 1000, cell=2, strength=1.5)
    rate, plain = cell_over_time("served_mbps", upgraded), usual
    assert (rate[:30] == 0.0).all() and (rate[31:] > 0.0).all() and plain[:30].all()


def test_a_city_without_time_is_refused() -> None:
    with pytest.raises(QosError, match="0 s in stretches of 32 s"):
        next(city.stretches(SMALL, 0))
