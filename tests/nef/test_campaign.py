"""A whole campaign: contracts, truth across tables, determinism, and labels worth learning."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from nef.simulator import SimulatorParams, simulate
from nef.simulator.campaign import clean
from schemas.errors import QosError
from schemas.five_qi import FIVE_QIS
from schemas.tables import HANDOVER_KINDS, TABLES, dtypes

DIGEST = "f8a0bce2c3daa0a1ea9b455a1c2efcdbae54a16f8e02f4d57b2997437a978ce4"
SMALL = SimulatorParams(ues=8, concurrent=4, sessions=2, minutes=6, spread_hours=6)


@pytest.fixture(scope="module")
def campaign() -> dict[str, Any]:
    return clean(SimulatorParams())


@pytest.fixture(scope="module")
def spoilt() -> dict[str, Any]:
    return simulate()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_exactly_its_contracts(
    spoilt: dict[str, Any], campaign: dict[str, Any], name: str
) -> None:
    assert dict(spoilt[name].schema) == dtypes(name)
    admitted, failure = TABLES[name].filter(campaign[name])
    assert failure.counts() == {}
    assert admitted.height == campaign[name].height > 0


@pytest.mark.parametrize("name", TABLES)
def test_the_gate_admits_nearly_all_and_refuses_only_what_was_injected(
    spoilt: dict[str, Any], campaign: dict[str, Any], name: str
) -> None:
    table = spoilt[name]
    admitted, failure = TABLES[name].filter(table)
    assert 0.97 <= admitted.height / table.height < 1.0
    keys = list(TABLES[name].primary_key())
    doubled = table.filter(table.select(keys).is_duplicated()).select(keys).unique()
    alone = failure.invalid().join(doubled, on=keys, how="anti")
    measured = [column for column in table.columns if column != "arrival_timestamp"]
    skewed = alone.filter(pl.col("arrival_timestamp") < pl.col("event_timestamp"))
    untouched = alone.join(campaign[name], on=measured, how="semi", nulls_equal=True)
    assert untouched.height == skewed.height


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    once, again, other = (simulate(SMALL), simulate(SMALL), simulate(SimulatorParams(seed=2)))
    assert all(once[name].equals(again[name]) for name in TABLES)
    assert not any(once[name].equals(other[name]) for name in TABLES)


def digest(tables: dict[str, Any]) -> str:
    """Of all values, floats to 6 digits: what another processor rounds otherwise stays equal."""
    found = hashlib.sha256()
    for name in TABLES:
        rows = tables[name].with_columns(pl.col(pl.Float64).round_sig_figs(6))
        found.update(rows.write_csv().encode())
    return found.hexdigest()


def test_a_small_default_campaign_is_what_it_always_was() -> None:
    assert digest(simulate(SMALL)) == DIGEST


def test_the_default_is_of_the_size_that_the_data_path_expects(
    campaign: dict[str, Any],
) -> None:
    assert 60_000 <= campaign["ue_radio"].height <= 90_000
    assert campaign["ue_radio"]["session_id"].n_unique() == 288
    assert campaign["ue_radio"]["ue_id"].n_unique() == 48
    assert campaign["ue_radio"]["ue_id"].min() == "imsi-001010000000001"
    span = campaign["ue_radio"]["event_timestamp"].max() - datetime(2026, 3, 2, tzinfo=UTC)
    assert span > timedelta(hours=70)
    per_second = campaign["ue_neighbour"].height / campaign["ue_radio"].height
    assert 3 <= per_second <= 4


def test_sessions_of_a_ue_lie_at_least_five_minutes_apart(
    campaign: dict[str, Any],
) -> None:
    spans = (
        campaign["ue_radio"]
        .group_by("ue_id", "session_id")
        .agg(first=pl.col("event_timestamp").min(), last=pl.col("event_timestamp").max())
        .sort("ue_id", "first")
        .with_columns(gap=pl.col("first") - pl.col("last").shift(1).over("ue_id"))
    )
    assert spans.group_by("ue_id").len()["len"].to_list() == [6] * 48
    assert spans["gap"].min() >= timedelta(minutes=5)


def test_a_handover_goes_to_a_cell_that_was_stronger_by_the_hysteresis(
    campaign: dict[str, Any],
) -> None:
    handovers = campaign["network_event"].filter(pl.col("kind") == "nr_handover")
    before = (
        campaign["ue_neighbour"]
        .sort("event_timestamp")
        .select("session_id", "event_timestamp", "cell_id", "rsrp_offset_db")
    )
    seen = handovers.sort("event_timestamp").join_asof(
        before,
        on="event_timestamp",
        by_left=["session_id", "to_cell_id"],
        by_right=["session_id", "cell_id"],
        tolerance="1s",
        check_sortedness=False,
    )
    assert handovers.height > 500
    assert seen["rsrp_offset_db"].null_count() == 0
    assert seen["rsrp_offset_db"].min() >= 2.5 - 0.05  # reported to a tenth


def test_the_serving_cell_changes_only_by_an_event(campaign: dict[str, Any]) -> None:
    radio = campaign["ue_radio"].sort("session_id", "event_timestamp")
    served = radio.filter(pl.col("cell_id").is_not_null()).with_columns(
        before=pl.col("cell_id").shift(1).over("session_id")
    )
    changes = served.filter(
        pl.col("before").is_not_null() & (pl.col("cell_id") != pl.col("before"))
    )
    events = campaign["network_event"].filter(pl.col("kind").cast(str).is_in(HANDOVER_KINDS))
    assert changes.height == events.height
    assert (events["from_cell_id"] != events["to_cell_id"]).all()


def test_neighbours_are_ranked_and_the_first_is_the_serving_cell(
    campaign: dict[str, Any],
) -> None:
    neighbours = campaign["ue_neighbour"].join(
        campaign["ue_radio"].select("ue_id", "event_timestamp", serving="cell_id"),
        on=["ue_id", "event_timestamp"],
    )
    first = neighbours.filter(pl.col("rank") == 0)
    assert (first["cell_id"] == first["serving"]).all()
    assert (first["rsrp_offset_db"] == 0.0).all()
    others = neighbours.filter(pl.col("rank") > 0).sort("ue_id", "event_timestamp", "rank")
    falls = others.select(
        (pl.col("rsrp_dbm").diff().over("ue_id", "event_timestamp") <= 0.0).all()
    ).item()
    assert falls


def test_without_a_cell_nothing_is_measured_or_received(campaign: dict[str, Any]) -> None:
    lost = campaign["ue_radio"].filter(pl.col("cell_id").is_null())
    assert lost.height > 0
    assert lost["sinr_db"].null_count() == lost["rsrp_dbm"].null_count() == lost.height
    flow = campaign["ue_flow"].filter(pl.col("cell_id").is_null())
    assert flow["downlink_mbps"].max() == 0.0 and flow["packet_loss_ratio"].min() == 1.0


def test_full_buffer_alone_tells_the_capacity(campaign: dict[str, Any]) -> None:
    flow = campaign["ue_flow"]
    full = flow["traffic"].cast(str) == "full_buffer"
    assert (flow["downlink_capacity_mbps"].is_not_null() == full).all()
    full_flow = flow.filter(full)
    assert (full_flow["downlink_mbps"] <= full_flow["downlink_capacity_mbps"]).all()
    assert set(full_flow["five_qi"]) <= {6, 9}


def test_requests_ask_for_what_their_5qi_promises(campaign: dict[str, Any]) -> None:
    requests = campaign["qos_request"]
    assert requests["five_qi"].n_unique() == 6
    for five_qi, rows in requests.group_by("five_qi"):
        standard = FIVE_QIS[five_qi[0]]
        assert set(rows["requested_delay_ms"]) == {standard.packet_delay_budget_ms}
        assert set(rows["requested_loss_ratio"]) == {max(standard.packet_error_rate, 0.01)}


def met(campaign: dict[str, Any]) -> Any:
    """Requests with 10 s of their session left: whether these were as asked for."""
    flow = campaign["ue_flow"].select(
        "session_id", "downlink_mbps", "downlink_delay_ms", "packet_loss_ratio",
        seen="event_timestamp",
    )  # fmt: skip
    window = pl.col("seen").is_between(
        pl.col("event_timestamp"), pl.col("event_timestamp") + pl.duration(seconds=10), "right"
    )
    ahead = campaign["qos_request"].join(flow, on="session_id").filter(window)
    return (
        ahead.group_by("request_id", "five_qi")
        .agg(
            pl.len(),
            pl.col("^requested_.*$").first(),
            pl.col("downlink_mbps", "downlink_delay_ms", "packet_loss_ratio").mean(),
        )
        .filter(pl.col("len") == 10)
        .with_columns(
            met=(pl.col("downlink_mbps") >= pl.col("requested_downlink_mbps"))
            & (pl.col("downlink_delay_ms") <= pl.col("requested_delay_ms"))
            & (pl.col("packet_loss_ratio") <= pl.col("requested_loss_ratio"))
        )
    )


def test_requests_are_met_often_but_not_always_in_every_class(
    campaign: dict[str, Any],
) -> None:
    requests = met(campaign)
    assert 0.4 <= requests["met"].mean() <= 0.85
    by_class = requests.group_by("five_qi").agg(pl.col("met").mean())
    assert by_class["met"].min() > 0.1 and by_class["met"].max() < 0.97


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ues": 0}, "simulator.ues: 0, must be at least 1"),
        ({"late_share": 1.5}, r"simulator.late_share: 1.5, must be in \[0, 1\]"),
        ({"scenario": "RMa"}, "simulator.scenario: 'RMa', known"),
        ({"carrier_ghz": 200.0}, r"simulator.carrier_ghz: 200.0, must be in \[0.5, 100\] GHz"),
        ({"start": datetime(2026, 1, 1)}, "has no time zone"),
        ({"spread_hours": 1.0}, "do not fit into spread_hours: 1.0"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused(wrong: Any, says: Any) -> None:
    with pytest.raises(QosError, match=says):
        SimulatorParams(**wrong)


def test_saturday_is_quieter_than_friday_at_the_same_hour() -> None:
    used = {
        day: clean(replace(SMALL, start=datetime(2026, 3, day, 9, tzinfo=UTC)))["cell_load"]
        for day in (6, 7)
    }
    assert used[7]["prb_used_ratio"].mean() < 0.9 * used[6]["prb_used_ratio"].mean()


def test_a_campaign_has_failures_and_handovers_to_and_fro(campaign: dict[str, Any]) -> None:
    events = campaign["network_event"].sort("session_id", "event_timestamp")
    kinds = events["kind"].cast(str)
    assert (kinds == "radio_link_failure").sum() > 10
    moves = events.filter(kinds == "nr_handover").with_columns(
        back=(pl.col("to_cell_id") == pl.col("from_cell_id").shift(1).over("session_id"))
        & (pl.col("event_timestamp").diff().over("session_id") <= timedelta(seconds=10))
    )
    assert 0.02 < moves["back"].mean() < 0.5
