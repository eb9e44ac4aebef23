"""3GPP messages: two dialects read, the standard one written, every fault told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.nef.as_session_with_qos import (
    AsSessionWithQoSSubscription,
    QosMonitoringInformation,
    QosMonitoringReport,
    TscQosRequirement,
    UserPlaneNotificationData,
)
from schemas.nef.common import (
    AccumulatedUsage,
    Arp,
    Dynamic5Qi,
    PlmnId,
    ProblemDetails,
    Snssai,
    UsageThreshold,
    problem,
)
from schemas.nef.monitoring_event import (
    LocationInfo,
    MonitoringEventSubscription,
    MonitoringNotification,
)
from schemas.nef.ue_state import UeState
from schemas.nef.wire import Wire, faults_of

STANDARD = {
    "self": "http://nef/3gpp-as-session-with-qos/v1/af/subscriptions/1",
    "ueIpv4Addr": "10.0.0.1",
    "notificationDestination": "http://af/callback",
    "snssai": {"sst": 1, "sd": "000001"},
    "dnn": "province1.mnc01.mcc202.gprs",
    "qosReference": "82",
    "altQoSReferences": ["9", "7"],
    "usageThreshold": {"duration": 60, "totalVolume": 10_000},
    "qosMonInfo": {
        "reqQosMonParams": ["DOWNLINK", "ROUND_TRIP"],
        "repFreqs": ["EVENT_TRIGGERED", "PERIODIC"],
        "repThreshDl": 10,
        "repThreshUl": 20,
        "repThreshRp": 30,
        "waitTime": 5,
        "repPeriod": 3,
    },
}
EMULATED = {
    "link": STANDARD["self"],
    "ipv4Addr": "10.0.0.1",
    "ipv6Addr": "0:0:0:0:0:0:0:0",
    "macAddr": "22-00-00-00-00-00",
    "notificationDestination": "http://af/callback",
    "snssai": {"sst": 1, "sd": "000001"},
    "dnn": "province1.mnc01.mcc202.gprs",
    "qosReference": 82,
    "altQoSReferences": [9, 7],
    "usageThreshold": {"duration": 60, "totalVolume": 10_000, "downlinkVolume": None},
    "qosMonInfo": {
        "reqQosMonParams": ["DOWNLINK", "ROUND_TRIP"],
        "repFreqs": ["EVENT_TRIGGERED", "PERIODIC"],
        "latThreshDl": 10,
        "latThreshUl": 20,
        "latThreshRp": 30,
        "waitTime": 5,
        "repPeriod": 3,
    },
}


def faults(kind: type[Wire], content: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as error:
        kind.read(content)
    return dict(faults_of(error.value))


def test_both_dialects_are_one_message_and_the_standard_one_is_written() -> None:
    standard = AsSessionWithQoSSubscription.read(STANDARD)
    assert AsSessionWithQoSSubscription.read(EMULATED) == standard
    assert standard.wire() == STANDARD


def test_two_names_of_a_field_must_agree() -> None:
    doubled = STANDARD | {"ipv4Addr": "10.0.0.1", "link": STANDARD["self"]}
    assert AsSessionWithQoSSubscription.read(doubled).wire() == STANDARD
    found = faults(AsSessionWithQoSSubscription, STANDARD | {"ipv4Addr": "10.0.0.2"})
    assert "ipv4Addr and ueIpv4Addr differ" in found["body"]


def test_a_subscription_names_exactly_one_ue() -> None:
    plain = {"notificationDestination": "http://x"}
    assert "no UE" in faults(AsSessionWithQoSSubscription, plain)["body"]
    two = plain | {"ueIpv4Addr": "10.0.0.1", "macAddr": "02-00-00-00-00-01"}
    assert "only one address" in faults(AsSessionWithQoSSubscription, two)["body"]
    one = AsSessionWithQoSSubscription.read(plain | {"ipv6Addr": "2001:DB8:0::1"})
    assert one.subscriber() == "2001:db8::1"
    assert AsSessionWithQoSSubscription.read(plain | {"gpsi": "msisdn-491234567"}).subscriber()


def test_every_fault_is_told_at_once_and_no_value_of_a_subscriber() -> None:
    content = EMULATED | {
        "ipv4Addr": "262011234567890",
        "qosReference": True,
        "snssai": {"sst": 256, "sd": "xyz"},
        "notificationDestination": None,
        "altQoSReferences": [],
    }
    found = faults(AsSessionWithQoSSubscription, content)
    assert set(found) == {
        "ueIpv4Addr", "qosReference", "snssai.sst", "snssai.sd", "notificationDestination",
        "altQoSReferences",
    }  # fmt: skip
    assert "262011234567890" not in str(found)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"repFreqs": []}, "repFreqs"),
        ({"repFreqs": ["SOMETIMES"]}, "repFreqs.0"),
        ({"reqQosMonParams": []}, "reqQosMonParams"),
        ({"repPeriod": None}, "body"),
        ({"repPeriod": 0}, "body"),
        ({"repPeriod": -1}, "repPeriod"),
        ({"waitTime": 1.5}, "waitTime"),
        ({"waitTime": True}, "waitTime"),
        ({"repThreshDl": -1}, "repThreshDl"),
        ({"repThreshDl": float("nan")}, "repThreshDl"),
        ({"repThreshDl": float("inf")}, "repThreshDl"),
        ({"repThreshDatRateDl": "10 mbps"}, "repThreshDatRateDl"),
    ],
)
def test_a_faulty_monitoring_request_is_refused_at_its_place(
    changes: dict[str, Any], place: str
) -> None:
    content = dict(STANDARD["qosMonInfo"]) | changes  # type: ignore[call-overload]
    assert place in faults(QosMonitoringInformation, content)


def test_a_small_k_is_read_and_a_capital_one_written() -> None:
    report = QosMonitoringReport.read({"dlDataRate": "500 kbps"})
    assert report.wire() == {"dlDataRate": "500 Kbps"}


def test_session_release_of_older_releases_is_read() -> None:
    content = {"reqQosMonParams": ["UPLINK"], "repFreqs": ["SESSION_RELEASE"]}
    assert QosMonitoringInformation.read(content).wire() == content


def test_the_emulators_notification_loses_its_address_when_written() -> None:
    content = {"transaction": "http://x/1", "ipv4Addr": "10.0.0.1",
               "eventReports": [{"event": "QOS_GUARANTEED", "appliedQosRef": None}]}  # fmt: skip
    found = UserPlaneNotificationData.read(content)
    assert found.subscriber() == "10.0.0.1"
    assert found.wire() == {
        "transaction": "http://x/1",
        "eventReports": [{"event": "QOS_GUARANTEED"}],
    }


def test_gnb_id_and_enodeb_id_are_one_field() -> None:
    one = LocationInfo.read({"cellId": "AAAAA1001", "gNBId": "AAAAA1"})
    assert one.wire() == {"cellId": "AAAAA1001", "enodeBId": "AAAAA1"}
    assert "differ" in faults(LocationInfo, {"gNBId": "a", "enodeBId": "b"})["body"]


def test_a_monitoring_subscription_needs_a_ue_and_an_end() -> None:
    plain = {"notificationDestination": "http://x", "monitoringType": "LOCATION_REPORTING"}
    assert "no UE" in faults(MonitoringEventSubscription, plain)["body"]
    ue = plain | {"externalId": "10001@domain.com"}
    assert "no end" in faults(MonitoringEventSubscription, ue)["body"]
    whole = ue | {"monitorExpireTime": "2026-01-01T00:00:00Z", "link": "http://x/1"}
    found = MonitoringEventSubscription.read(whole)
    assert found.subscriber() == "10001@domain.com"
    assert found.wire()["self"] == "http://x/1" and "link" not in found.wire()


def test_a_report_without_its_envelope_gets_it() -> None:
    bare = {"subscription": "http://x/1", "monitoringType": "LOSS_OF_CONNECTIVITY",
            "externalId": "10001@domain.com", "ipv4Addr": "10.0.0.1",
            "lossOfConnectReason": 7}  # fmt: skip
    assert MonitoringNotification.read(bare).wire() == {
        "subscription": "http://x/1",
        "monitoringEventReports": [
            {"monitoringType": "LOSS_OF_CONNECTIVITY", "externalId": "10001@domain.com",
             "lossOfConnectReason": 7}
        ],
    }  # fmt: skip
    both = bare | {"monitoringEventReports": []}
    assert "beside" in faults(MonitoringNotification, both)["body"]
    assert (
        "no report"
        in faults(MonitoringNotification, {"subscription": "x", "cancelInd": None})["body"]
    )


@pytest.mark.parametrize(
    ("kind", "content", "place"),
    [
        (Snssai, {"sst": -1}, "sst"),
        (UsageThreshold, {"totalVolume": -1}, "totalVolume"),
        (AccumulatedUsage, {"duration": "long"}, "duration"),
        (PlmnId, {"mcc": "20", "mnc": "01"}, "mcc"),
        (Arp, {"preemptCap": "MAY_PREEMPT", "preemptVuln": "PREEMPTABLE"}, "priorityLevel"),
        (TscQosRequirement, {"reqPer": "1E-10"}, "reqPer"),
        (TscQosRequirement, {"reqPer": "9E-0"}, "reqPer"),
        (TscQosRequirement, {"priority": 9}, "priority"),
        (TscQosRequirement, {"maxTscBurstSize": 4095}, "maxTscBurstSize"),
        (Dynamic5Qi, {"resourceType": "NON_GBR", "priorityLevel": 128, "packetDelayBudget": 1,
                      "packetErrRate": "1E-3"}, "priorityLevel"),
        (ProblemDetails, {}, "body"),
        (ProblemDetails, {"detail": None}, "body"),
        (ProblemDetails, [], "body"),
    ],
)  # fmt: skip
def test_values_off_their_standards_range_are_refused(
    kind: type[Wire], content: object, place: str
) -> None:
    assert place in faults(kind, content)


def test_a_nullable_field_may_be_null_where_the_standard_says_so() -> None:
    content = {"priorityLevel": None, "preemptCap": "MAY_PREEMPT", "preemptVuln": "PREEMPTABLE"}
    assert Arp.read(content).priorityLevel is None


def test_a_problem_names_every_faulty_parameter() -> None:
    found = problem(400, "Bad Request", [("a.b", "is missing"), ("c", "is negative")], "MANDATORY")
    assert found.wire() == {
        "title": "Bad Request", "status": 400, "cause": "MANDATORY",
        "detail": "a.b: is missing; c: is negative",
        "invalidParams": [{"param": "a.b", "reason": "is missing"},
                          {"param": "c", "reason": "is negative"}],
    }  # fmt: skip
    assert ProblemDetails.read(found.wire()) == found
    assert problem(404, "Not Found").wire() == {"title": "Not Found", "status": 404}


@pytest.mark.parametrize(
    ("content", "cell", "gnb"),
    [
        ({"cell_id": 7, "cell_id_hex": "AAAAA1001", "gnb_id_hex": "AAAAA1"}, "AAAAA1001", "AAAAA1"),
        ({"cell_id": 7, "cell_id_hex": None}, None, None),
        ({"connected_to": "antenna_1"}, "antenna_1", None),
        ({"cell_id": "None", "gNBId": ""}, None, None),
        ({"cell_id": None}, None, None),
    ],
)
def test_a_ues_cell_is_read_in_every_dialect(
    content: dict[str, Any], cell: str | None, gnb: str | None
) -> None:
    found = UeState.read(content)
    assert (found.cell_id, found.gnb_id, found.cells) == (cell, gnb, ())


@pytest.mark.parametrize("content", [{}, {"latitude": 1.0}, [], None, "x"])
def test_a_state_that_says_nothing_is_refused(content: object) -> None:
    assert faults(UeState, content)


@pytest.mark.parametrize("level", [-156.1, -30.9, float("nan"), float("-inf"), True, "strong"])
def test_a_level_out_of_the_reportable_range_is_refused(level: object) -> None:
    content = {"cells": [{"cell_id": "a", "rsrp": -80}, {"cell_id": "b", "rsrp": level}]}
    assert "cells.1.rsrp_dbm" in faults(UeState, content)
    assert UeState.read({"rsrps": {"a": -156, "b": -31}}).cells[1].rsrp_dbm == -31.0


COUNT = st.integers(0, 2**40)
RATE = st.sampled_from(["1 bps", "500 Kbps", "12.5 Mbps", "0.000001 Tbps"])
MAYBE: Any = st.none()
USAGE = st.fixed_dictionaries(
    {}, optional={name: COUNT for name in ("duration", "totalVolume", "downlinkVolume")}
)
REPORT = st.fixed_dictionaries(
    {},
    optional={
        "ulDelays": st.lists(COUNT, min_size=1, max_size=3),
        "dlDelays": st.lists(COUNT, min_size=1, max_size=3),
        "pdmf": st.booleans(),
        "dlDataRate": RATE,
        "ulConInfo": COUNT,
    },
)
NOTIFICATION = st.fixed_dictionaries(
    {
        "transaction": st.text(min_size=1, max_size=9),
        "eventReports": st.lists(
            st.fixed_dictionaries(
                {"event": st.sampled_from(["QOS_MONITORING", "USAGE_REPORT", "PACK_DELAY_VAR"])},
                optional={
                    "accumulatedUsage": USAGE,
                    "appliedQosRef": st.text(min_size=1, max_size=3),
                    "altQosNotSuppInd": st.booleans(),
                    "qosMonReports": st.lists(REPORT, min_size=1, max_size=2),
                    "pdvMonReports": st.lists(
                        st.fixed_dictionaries({}, optional={"dlPdv": st.integers(-9, 9)}),
                        min_size=1,
                        max_size=2,
                    ),
                },
            ),
            min_size=1,
            max_size=3,
        ),
    }
)


@given(NOTIFICATION)
def test_what_is_read_is_written_as_it_was(content: dict[str, Any]) -> None:
    found = UserPlaneNotificationData.read(content)
    assert found.wire() == content
    assert UserPlaneNotificationData.read(found.wire()) == found


@given(
    st.dictionaries(
        st.sampled_from([*STANDARD, *EMULATED, "qosDuration", "events", "macAddr"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1.:-", max_size=6)
        | st.lists(st.integers() | st.text("A9"), max_size=2)
        | st.dictionaries(st.sampled_from(["sst", "sd", "duration", "repFreqs"]), st.integers()),
    )
)  # fmt: skip
def test_any_content_is_a_message_that_survives_or_refused(content: dict[str, Any]) -> None:
    try:
        found = AsSessionWithQoSSubscription.read(STANDARD | content)
    except ValidationError as error:
        assert faults_of(error)
        return
    assert AsSessionWithQoSSubscription.read(found.wire()) == found
    assert not set(found.wire()) & {"link", "ipv4Addr", "ipv6Addr"}
