"""Laws of the air: nearer is louder, interference never helps, CQI rises with SINR."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import radio, topology
from nef.simulator.mobility import Tracks
from nef.simulator.params import SimulatorParams


def ring(radius: float, places: int = 400) -> Tracks:
    angle = np.linspace(0.0, 2.0 * np.pi, places, endpoint=False)
    still = np.zeros((1, places))
    return Tracks(
        radius * np.cos(angle)[None], radius * np.sin(angle)[None], still, np.ones(places, int)
    )


def test_rsrp_falls_with_distance_on_average() -> None:
    params, one_site = SimulatorParams(sites=1), topology.hexagonal(1, 2000.0)
    best = [
        radio.air(one_site, ring(metres), params, np.random.default_rng(2)).measured_dbm
        .max(axis=2).mean()
        for metres in (60.0, 120.0, 240.0, 480.0, 960.0)
    ]  # fmt: skip
    assert (np.diff(best) < -3.0).all()


def test_a_place_sounds_the_same_on_a_second_visit() -> None:
    params, sites = SimulatorParams(), topology.hexagonal(4, 500.0)
    once = ring(200.0)
    east, north, speed = (
        np.concatenate([part, part]) for part in (once.east_m, once.north_m, once.speed_mps)
    )
    twice = Tracks(east, north, speed, once.kind)
    coupling = radio.coupling_db(sites, twice, params, np.random.default_rng(6))
    assert (coupling[0] == coupling[1]).all()


powers = st.lists(st.floats(1e-16, 1e-5), min_size=2, max_size=6)


@given(powers, st.integers(0, 1), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_sinr_is_never_above_snr_and_equals_it_without_interference(
    row: Any, serving: Any, load: Any
) -> None:
    received, noise = np.array([row]), radio.noise_mw()
    who = np.array([serving])
    snr = 10.0 * np.log10(received[0, serving] / noise)
    wave = np.zeros(1, int)
    quiet, _ = radio.sinr_db(received, who, np.zeros_like(received), wave, noise)
    loaded, level = radio.sinr_db(received, who, np.full_like(received, load), wave, noise)
    assert quiet[0] == pytest.approx(snr)
    assert loaded[0] <= snr + 1e-9
    assert level[0] == pytest.approx(load * received.sum() + noise)


@given(powers, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_more_load_elsewhere_never_helps(row: Any, one: Any, other: Any) -> None:
    received, who = np.array([row]), np.array([0])
    calm, busy = (
        radio.sinr_db(received, who, np.full_like(received, load), who, radio.noise_mw())[0]
        for load in sorted((one, other))
    )
    assert busy <= calm + 1e-9


@given(st.floats(-60.0, 60.0), st.floats(-60.0, 60.0))
@settings(deadline=None)
def test_cqi_rises_with_sinr_and_stays_in_0_to_15(one: Any, other: Any) -> None:
    low, high = radio.cqi_of(np.sort([one, other]))
    assert 0 <= low <= high <= 15


def test_noise_is_thermal_noise_of_a_subcarrier_and_the_receiver() -> None:
    assert 10 * np.log10(radio.noise_mw()) == pytest.approx(-174 + 7 + 44.77, abs=0.01)
    assert radio.prb_count(40.0) == pytest.approx(106, abs=1)  # TS 38.101-1, table 5.3.2-1


def test_efficiency_never_beats_shannon_at_its_threshold_plus_implementation_gain() -> None:
    assert (radio.EFFICIENCY[1:] <= np.log2(1 + 10 ** (radio.CQI_FROM_DB / 10.0))).all()


def test_fading_lasts_longer_for_who_stands_still() -> None:
    still, fast = (
        radio.fading_db((400, 50, 2), np.full((400, 50), speed), np.random.default_rng(7))
        for speed in (0.0, 20.0)
    )

    def memory(fade: Any) -> Any:
        return np.corrcoef(fade[:-1].ravel(), fade[1:].ravel())[0, 1]

    assert memory(still) > 0.8 and abs(memory(fast)) < 0.05
    assert still.std() == pytest.approx(3.0, abs=0.2) and fast.std() == pytest.approx(1.0, abs=0.1)
