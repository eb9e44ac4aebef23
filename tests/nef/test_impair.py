"""Late, faulty and double rows: as many as asked for, and all of a kind the gate can see."""

from typing import Any

import numpy as np
import pytest

from nef.simulator import SimulatorParams, impair
from nef.simulator.campaign import clean
from schemas.tables import TABLES

SMALL = SimulatorParams(ues=6, concurrent=6, sessions=2, minutes=4)


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return clean(SMALL)


@pytest.mark.parametrize("name", TABLES)
def test_every_fault_is_refused_and_nothing_else(tables: dict[str, Any], name: str) -> None:
    all_faulty = impair.faulty(name, tables[name], 1.0, np.random.default_rng(1))
    admitted, _ = TABLES[name].filter(all_faulty)
    # a fault of a null-free column always shows; nothing slips through
    assert admitted.height == 0
    none = impair.faulty(name, tables[name], 0.0, np.random.default_rng(1))
    assert none.equals(tables[name])


def test_the_late_are_1_to_20_seconds_late(tables: dict[str, Any]) -> None:
    table = impair.late("ue_flow", tables["ue_flow"], 0.3, np.random.default_rng(2))
    delay = (table["arrival_timestamp"] - table["event_timestamp"]).dt.total_microseconds() / 1e6
    longest: Any = delay.max()
    late = delay.filter(delay >= 1.0)
    assert late.len() / table.height == pytest.approx(0.3, abs=0.05)
    assert longest <= 20.0 and (delay > 0.0).all()


def test_a_double_follows_its_original_and_may_disagree(tables: dict[str, Any]) -> None:
    table, name = tables["ue_radio"], "ue_radio"
    twice = impair.double(name, table, 1.0, np.random.default_rng(3))
    first, second = twice[::2], twice[1::2]
    assert first.equals(table)
    keys = ["ue_id", "event_timestamp"]
    assert second.select(keys).equals(first.select(keys))
    same = (first["rsrp_dbm"] == second["rsrp_dbm"]).mean()
    assert same == pytest.approx(0.5, abs=0.08)
    assert (second["arrival_timestamp"] > first["arrival_timestamp"]).all()
