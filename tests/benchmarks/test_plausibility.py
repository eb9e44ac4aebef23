"""Distances are distances, rates are by session, and the plot shows every side."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import plausibility
from nef.simulator import SimulatorParams
from nef.simulator.campaign import clean

values = st.lists(st.floats(-100.0, 100.0), min_size=2, max_size=30).map(np.array)


@given(values, st.floats(-50.0, 50.0))
@settings(deadline=None)
def test_a_shift_is_its_own_distance(sample: Any, by: float) -> None:
    same = plausibility.distance(sample, sample)
    assert same == {"wasserstein": 0.0, "ks": 0.0}
    moved = plausibility.distance(sample, sample + by)
    assert moved["wasserstein"] == pytest.approx(abs(by), abs=1e-3)
    assert 0.0 <= moved["ks"] <= 1.0


@given(values, values)
@settings(deadline=None)
def test_neither_side_comes_first(one: Any, other: Any) -> None:
    assert plausibility.distance(one, other) == plausibility.distance(other, one)


def recording() -> Any:
    """Two sessions of 2 min, one with 3 changes of cell, one with none; a refused row; a short one."""
    start = datetime(2026, 3, 2, tzinfo=UTC)
    radio = pl.concat(
        pl.DataFrame(
            {
                "session_id": [name] * seconds,
                "event_timestamp": [start + timedelta(seconds=s) for s in range(seconds)],
                "rsrp_dbm": np.linspace(-100.0, -80.0, seconds),
                "sinr_db": [None] * seconds,
                "refusal": [None] * (seconds - 1) + ["unparseable"],
            },
            schema_overrides={"sinr_db": pl.Float64, "refusal": pl.String},
        )
        for name, seconds in (("one", 122), ("two", 122), ("short", 30))
    )
    events = pl.DataFrame(
        {
            "session_id": ["one"] * 4 + ["short"],
            "kind": ["cell_change", "nr_handover", "lte_handover", "nr_added", "cell_change"],
        }
    )
    flow = radio.select(
        "session_id", "refusal", traffic=pl.lit("streaming"), downlink_mbps=pl.lit(1.0)
    )
    return {"ue_radio": radio, "ue_flow": flow, "network_event": events}


def test_rates_are_by_session_and_refused_rows_are_out() -> None:
    found = plausibility.samples(recording())
    assert found["handovers_per_minute"].tolist() == [1.5, 0.0]
    assert found["rsrp_dbm"].size == 121 + 121 + 29
    assert found["sinr_db"].size == found["downlink_mbps"].size == 0


def test_the_simulator_is_set_beside_each_set_and_drawn(tmp_path: Path) -> None:
    params = SimulatorParams(ues=8, concurrent=4, sessions=2, minutes=6, spread_hours=6)
    simulated, real = plausibility.samples(clean(params)), plausibility.samples(recording())
    assert all(simulated[quantity].size for quantity in plausibility.UNITS)
    found = plausibility.compare(simulated, {"a": real, "b": simulated})
    assert set(found) == set(plausibility.UNITS)
    assert set(found["rsrp_dbm"]) == {"a", "b", "between_sets", "quantiles"}
    assert set(found["sinr_db"]) == {"b", "quantiles"}  # one set does not measure it
    assert found["rsrp_dbm"]["b"] == {"wasserstein": 0.0, "ks": 0.0}
    assert found["rsrp_dbm"]["a"] == found["rsrp_dbm"]["between_sets"]
    file = plausibility.plot({"simulator": simulated, "a": real}, tmp_path / "seen.png")
    assert file.read_bytes()[:4] == b"\x89PNG"
    plausibility.show(found)
