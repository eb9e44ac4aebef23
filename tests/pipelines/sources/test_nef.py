"""What a capture has kept becomes canonical tables: emulators' quirks, times, refusals, law of rows."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nef.client.intake import Intake
from pipelines.admit import split
from pipelines.capture import Names, protection
from pipelines.collect import Params, collect
from pipelines.sources.collected import Collected
from pipelines.sources.nef import JOURNAL, NefParams, nef
from schemas.errors import QosError
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventSubscription
from schemas.nef.ue_state import KnownUe
from schemas.tables import TABLES

KEY = b"a key for the tests, 32 bytes.."
BEGAN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SUPI, EXTERNAL, ADDRESS = "202010000000001", "10001@domain.com", "10.0.0.1"
QOS_LINK = "http://nef/nef/api/v1/3gpp-as-session-with-qos/v1/qos-platform/subscriptions/1"
EVENT_LINK = "http://nef/nef/api/v1/3gpp-monitoring-event/v1/qos-platform/subscriptions/1"


class Clock:
    """Time of arrival, set by the test."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now


class Kept(Intake):
    """An intake whose clock the tests set, with the names of one UE."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time, names = folder, Clock(), Names()
        names.learn([KnownUe(supi=SUPI, external_id=EXTERNAL, ipv4=ADDRESS)])
        super().__init__(folder / JOURNAL, protection(KEY, 0.001, names), clock=self.time)

    def after(self, seconds: float) -> None:
        self.time.now = BEGAN + timedelta(seconds=seconds)

    def call_back(self, content: dict[str, Any]) -> int:
        return self.receive(json.dumps(content).encode()).status

    def read(self) -> Collected:
        self.sync()
        return nef(NefParams(captured=str(self.folder)))


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Kept]:
    with Kept(tmp_path / "capture") as opened:
        yield opened


def state(second: int | None, cell: str | None = "AAAAA1001", **changes: Any) -> dict[str, Any]:
    """A state in our server's words; second None: the NEF tells no time."""
    when = None if second is None else (BEGAN + timedelta(seconds=second)).isoformat()
    cells = [
        {"cell_id": "AAAAA1002", "rsrp_dbm": -80.0, "rsrq_db": -11.0, "prb_used_ratio": 0.5},
        {"cell_id": "AAAAA1001", "rsrp_dbm": -91.5, "rsrq_db": -12.0, "sinr_db": 9.0,
         "prb_used_ratio": 0.25, "active_ue_count": 3},
        {"cell_id": "AAAAA1003", "rsrp_dbm": -95.0},
    ]  # fmt: skip
    qos = {"downlink_mbps": 12.5, "downlink_delay_ms": 21.0, "packet_loss_ratio": 0.01}
    return {
        "cell_id_hex": cell, "gnb_id_hex": "AAAAA1", "cells": cells, "event_timestamp": when,
        "five_qi": 7, "latitude": 48.137154, "longitude": 11.576124, "speed_mps": 1.5, "qos": qos,
    } | changes  # fmt: skip


def report(*events: dict[str, Any]) -> dict[str, Any]:
    return {
        "transaction": QOS_LINK,
        "eventReports": [{"event": "QOS_MONITORING"} | e for e in events],
    }


def location(cell: str | None, second: int | None, name: str = "enodeBId") -> dict[str, Any]:
    when = None if second is None else (BEGAN + timedelta(seconds=second)).isoformat()
    place = {"cellId": cell, name: "AAAAA1"}
    inner = {"externalId": EXTERNAL, "monitoringType": "LOCATION_REPORTING", "eventTime": when,
             "locationInfo": place}  # fmt: skip
    return {"subscription": EVENT_LINK, "monitoringEventReports": [inner]}


def subscribe(intake: Intake, five_qi: str = "2") -> None:
    session = {
        "ueIpv4Addr": ADDRESS,
        "notificationDestination": "http://x",
        "qosReference": five_qi,
    }
    intake.subscribed(QOS_LINK, AsSessionWithQoSSubscription.read(session))
    watch = {"externalId": EXTERNAL, "notificationDestination": "http://x",
             "monitoringType": "LOCATION_REPORTING", "maximumNumberOfReports": 10}  # fmt: skip
    intake.subscribed(EVENT_LINK, MonitoringEventSubscription.read(watch))


def reasons(name: str, found: Collected) -> list[str]:
    return split(name, found.tables[name])[1]["reason"].to_list()


def test_a_state_is_a_row_of_each_table_it_tells_of(intake: Kept) -> None:
    intake.after(3.25)
    intake.state(SUPI, state(3))
    tables = intake.read().tables
    event, arrival = BEGAN + timedelta(seconds=3), BEGAN + timedelta(seconds=3.25)
    for name in ("ue_radio", "ue_flow", "ue_motion"):
        row = tables[name].row(0, named=True)
        assert (row["event_timestamp"], row["arrival_timestamp"]) == (event, arrival)
        assert row["session_id"] == f"{row['ue_id']}-20260301T120000"
        assert tables[name].schema["event_timestamp"] == pl.Datetime("us", "UTC")
    assert tables["ue_radio"].select("cell_id", "rat", "rsrp_dbm", "rsrq_db", "sinr_db").row(0) == (
        "AAAAA1001", "NR", -91.5, -12.0, 9.0)  # fmt: skip
    ranked = tables["ue_neighbour"].select("rank", "cell_id", "rsrp_offset_db").rows()
    assert ranked == [(1, "AAAAA1002", 11.5), (0, "AAAAA1001", 0.0), (2, "AAAAA1003", -3.5)]
    flow = tables["ue_flow"].row(0, named=True)
    assert (flow["five_qi"], flow["downlink_mbps"], flow["packet_loss_ratio"]) == (7, 12.5, 0.01)
    assert tables["cell_load"].select("cell_id", "prb_used_ratio", "active_ue_count").rows() == [
        ("AAAAA1002", 0.5, None), ("AAAAA1001", 0.25, 3.0)]  # fmt: skip
    assert all(not reasons(name, intake.read()) for name in TABLES)


def test_a_position_is_the_middle_of_its_square_and_written_nowhere_else(intake: Kept) -> None:
    intake.state(SUPI, state(3))
    row = intake.read().tables["ue_motion"].row(0, named=True)
    assert (row["latitude_deg"], row["longitude_deg"]) == (48.1375, 11.5765)
    assert "48.13715" not in intake.journal.path.read_text()


def test_one_ue_has_one_pseudonym_by_all_its_names(intake: Kept) -> None:
    subscribe(intake)
    intake.state(SUPI, state(0, qos=None))
    intake.after(2)
    assert intake.call_back(location("AAAAA1002", 1)) == 204
    assert (
        intake.call_back(report({"qosMonReports": [{"dlDelays": [4]}]}) | {"ipv4Addr": ADDRESS})
        == 204
    )
    tables = intake.read().tables
    told = {ue for name in ("ue_radio", "ue_flow", "network_event") for ue in tables[name]["ue_id"]}
    assert len(told) == 1


def test_a_state_without_its_time_was_true_when_it_came(intake: Kept) -> None:
    intake.after(7)
    intake.state(SUPI, state(None))
    row = intake.read().tables["ue_radio"].row(0, named=True)
    assert row["event_timestamp"] == row["arrival_timestamp"] == BEGAN + timedelta(seconds=7)


def test_a_state_that_says_nothing_new_is_kept_once_even_after_a_restart(tmp_path: Path) -> None:
    with Kept(tmp_path) as first:
        assert first.state(SUPI, state(3)) == 1 and first.state(SUPI, state(3)) == 0
    with Kept(tmp_path) as again:
        assert again.state(SUPI, state(3)) == 0 and again.state(SUPI, state(4)) == 2
        assert len(again.read().tables["ue_radio"]) == 2


def test_a_ue_without_coverage_has_a_row_without_a_cell_and_no_cell_change(intake: Kept) -> None:
    for second, cell in enumerate(["AAAAA1001", None, "AAAAA1001", "AAAAA1002"]):
        intake.after(second)
        intake.state(SUPI, state(second, cell))
    found = intake.read()
    assert found.tables["ue_radio"]["cell_id"].to_list()[1] is None
    assert found.tables["ue_radio"]["rsrp_dbm"].to_list()[1] is None
    lost = found.tables["ue_neighbour"].filter(source_line=2).sort("rank")
    assert lost["rank"].to_list() == [1, 2, 3] and lost["rsrp_offset_db"].null_count() == 3
    changes = found.tables["network_event"].select("from_cell_id", "to_cell_id", "kind").rows()
    assert changes == [("AAAAA1001", "AAAAA1002", "cell_change")]
    assert not any(reasons(name, found) for name in TABLES)


@pytest.mark.parametrize("name", ["enodeBId", "gNBId"])
def test_a_change_told_by_state_and_report_is_one_event_at_its_time(
    intake: Kept, name: str
) -> None:
    subscribe(intake)
    intake.state(SUPI, state(0))
    intake.after(1.5)
    assert intake.call_back(location("AAAAA1002", 1, name)) == 204
    intake.after(2)
    intake.state(SUPI, state(2, "AAAAA1002"))
    events = intake.read().tables["network_event"]
    assert len(events) == 1
    row = events.row(0, named=True)
    assert row["event_timestamp"] == BEGAN + timedelta(seconds=1)
    assert row["arrival_timestamp"] == BEGAN + timedelta(seconds=1.5)


def test_a_report_that_comes_late_takes_its_place_by_its_own_time(intake: Kept) -> None:
    for second, cell in ((0, "a1"), (3, "c3")):
        intake.after(second)
        intake.state(SUPI, state(second, cell))
    intake.after(9)
    assert intake.call_back(location("b2", 1)) == 204
    events = intake.read().tables["network_event"].sort("event_timestamp")
    assert events.select("from_cell_id", "to_cell_id").rows() == [("a1", "b2"), ("b2", "c3")]


def test_reports_are_the_flow_of_a_ue_whose_states_tell_no_qos(intake: Kept) -> None:
    subscribe(intake, "2")
    intake.state(SUPI, state(0, five_qi=None, qos=None))
    intake.after(1)
    intake.call_back(report({"qosMonReports": [{"dlDelays": [4, 6], "ulDelays": [9]}]}))
    row = intake.read().tables["ue_flow"].row(0, named=True)
    assert (row["five_qi"], row["cell_id"], row["downlink_delay_ms"], row["uplink_delay_ms"]) == (
        2, "AAAAA1001", 5.0, 9.0)  # fmt: skip
    assert row["event_timestamp"] == row["arrival_timestamp"] == BEGAN + timedelta(seconds=1)


def test_reports_beside_states_that_tell_qos_are_counted_and_not_told_twice(intake: Kept) -> None:
    subscribe(intake)
    intake.state(SUPI, state(0))
    intake.call_back(report({"qosMonReports": [{"dlDelays": [4]}]}))
    found = intake.read()
    assert len(found.tables["ue_flow"]) == 1
    assert found.nulls["nef.qos_report"] == {"the polled state says it too": 1}


def test_zeros_for_delays_and_null_usage_are_not_measured_and_counted(intake: Kept) -> None:
    subscribe(intake)
    intake.state(SUPI, state(0, qos=None))
    zeros = {"ulDelays": [0], "dlDelays": [0], "rtDelays": [0]}
    usage = {"duration": None, "totalVolume": None, "downlinkVolume": None, "uplinkVolume": None}
    intake.call_back(report({"qosMonReports": [zeros], "accumulatedUsage": usage}))
    found = intake.read()
    assert found.tables["ue_flow"].is_empty()
    assert found.nulls["nef.qos_report"] == {"nothing measured": 1}


def test_a_notification_after_the_deletion_is_a_refused_row(intake: Kept) -> None:
    subscribe(intake)
    intake.state(SUPI, state(0))
    intake.unsubscribed(EVENT_LINK)
    assert intake.call_back(location("AAAAA1002", 1)) == 404
    found = intake.read()
    assert reasons("network_event", found) == ["network_event: refused_at_capture"]
    assert "the subscription was deleted" in found.tables["network_event"]["refusal"][0]


def test_rsrp_beyond_the_reportable_range_is_refused_and_not_clipped(intake: Kept) -> None:
    intake.state(SUPI, state(0))
    assert intake.state(SUPI, {"rsrps": {"a1": -412.0}, "latitude": 48.137154}) is None
    found = intake.read()
    assert reasons("ue_radio", found) == ["ue_radio: refused_at_capture"]
    refused = found.tables["ue_radio"].filter(pl.col("refusal").is_not_null()).row(0, named=True)
    assert "-156" in refused["refusal"] and SUPI not in refused["source_text"]
    assert "48.137" not in refused["source_text"] and "-412" in refused["source_text"]


def test_equal_states_without_a_time_differ_by_their_arrival_and_doubles_are_admissions(
    intake: Kept,
) -> None:
    intake.state(SUPI, state(None))
    intake.state(SUPI, state(None))
    assert reasons("ue_radio", intake.read()) == ["ue_radio: duplicate_identical"]


def test_a_requirement_is_a_request_of_the_flow_and_cell_that_the_ue_has(intake: Kept) -> None:
    intake.state(SUPI, state(0))
    intake.after(1)
    intake.requirement(SUPI, {"service_type": "urllc"})
    row = intake.read().tables["qos_request"].row(0, named=True)
    assert (row["five_qi"], row["cell_id"], row["request_id"]) == (7, "AAAAA1001", "requirement-2")
    assert row["requested_delay_ms"] > 0 and row["requested_loss_ratio"] < 1


def test_a_report_of_an_unknown_subscription_is_refused_by_name(intake: Kept) -> None:
    intake.state(SUPI, state(0))
    intake.call_back(report({"qosMonReports": [{"dlDelays": [4]}]}))
    assert reasons("ue_flow", intake.read()) == ["ue_flow: unknown_ue"]


@pytest.mark.parametrize("content", ["", '{"sequence":1,"received_at":"2026-03-01T12:00:00+00:00",'
                                         '"kind":"capture","network":"n"}\n'])  # fmt: skip
def test_nothing_captured_is_one_line_that_says_what_to_do(tmp_path: Path, content: str) -> None:
    with pytest.raises(QosError, match="nothing was captured; run `make capture` first"):
        collect(Params(source="nef", nef=NefParams(captured=str(tmp_path / "none"))))
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(QosError, match="nothing was captured"):
        collect(Params(source="nef", nef=NefParams(captured=str(tmp_path))))


def test_collect_leaves_pseudonyms_and_squares_as_they_are(
    intake: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", KEY.decode())
    intake.state(SUPI, state(0))
    before = intake.read().tables
    after = collect(Params(source="nef", nef=NefParams(captured=str(intake.folder)))).tables
    assert all(after[name].equals(before[name]) for name in TABLES)


def test_a_torn_last_line_is_left_out_and_one_in_the_middle_is_told(intake: Kept) -> None:
    intake.state(SUPI, state(0))
    intake.sync()
    whole = intake.journal.path.read_bytes()
    intake.journal.path.write_bytes(whole + b'{"sequence": 2, "rec')
    assert len(intake.read().tables["ue_radio"]) == 1
    intake.journal.path.write_bytes(b"broken\n" + whole)
    with pytest.raises(QosError, match=r"nef.ndjson: line 1: not JSON"):
        intake.read()


KINDS = st.sampled_from(
    ["good", "no time", "out of range", "html", "location", "deleted", "report"]
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(KINDS, min_size=1, max_size=12))
def test_every_state_and_refusal_is_a_row_once(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str]
) -> None:
    with Kept(tmp_path_factory.mktemp("law")) as intake:
        subscribe(intake)
        intake.after(0)
        intake.state(SUPI, state(0))
        for second, kind in enumerate(kinds, start=1):
            intake.after(second)
            match kind:
                case "good":
                    intake.state(SUPI, state(second))
                case "no time":
                    intake.state(SUPI, state(None))
                case "out of range":
                    intake.state(SUPI, state(second, cells=[{"cell_id": "a", "rsrp_dbm": 3.0}]))
                case "html":
                    intake.refuse("poll", b"<html>", [("body", "not JSON")])
                case "location":
                    intake.call_back(location("AAAAA1001", second))
                case "deleted":
                    intake.call_back({"transaction": 3})
                case "report":
                    intake.call_back(report({"qosMonReports": [{"dlDelays": [4]}]}))
        found = intake.read()
        states = 1 + kinds.count("good") + kinds.count("no time")
        assert len(found.tables["ue_radio"].filter(pl.col("refusal").is_null())) == states
        refused = sum(table["refusal"].is_not_null().sum() for table in found.tables.values())
        assert refused == kinds.count("out of range") + kinds.count("html") + kinds.count("deleted")
        assert found.nulls.get("nef.qos_report", {}).get("the polled state says it too", 0) == (
            kinds.count("report")
        )
        for name in TABLES:
            good, bad = split(name, found.tables[name])
            assert len(good) + len(bad) == len(found.tables[name])
