"""The rules of reports, second by second, without a network."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nef.server import qos_session, ue_watch
from nef.server.qos_session import Progress
from nef.server.world import Sample
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventSubscription

GOOD = Sample(
    second=0, cell_id="000001001", gnb_id="000001", sinr_db=20.0, rsrp_dbm=-80.0, rsrq_db=-10.0,
    load=0.4, downlink_mbps=8.0, uplink_mbps=1.0, offered_mbps=8.0, downlink_delay_ms=10.2,
    uplink_delay_ms=12.0, jitter_ms=1.5, loss_ratio=0.0,
)  # fmt: skip
LOST = replace(
    GOOD, cell_id=None, gnb_id=None, downlink_delay_ms=None, uplink_delay_ms=None, jitter_ms=None,
    load=None, loss_ratio=1.0, downlink_mbps=0.0, uplink_mbps=0.0,
)  # fmt: skip


def asked(**changes: Any) -> AsSessionWithQoSSubscription:
    base = {"ueIpv4Addr": "10.0.0.1", "notificationDestination": "http://h/c", "qosReference": "9"}
    return AsSessionWithQoSSubscription.read(base | changes)


def played(
    subscription: AsSessionWithQoSSubscription, samples: list[Sample]
) -> list[tuple[int, dict[str, Any]]]:
    """(second, report) of all that is reported."""
    targets, faults = qos_session.levels(subscription)
    assert faults == []
    progress, found = Progress(0), []
    for second, sample in enumerate(samples):
        if progress.ended:
            break
        for one in qos_session.reports(
            subscription, targets, progress, replace(sample, second=second)
        ):
            found.append((second, one.wire()))
    return found


def seconds(found: list[tuple[int, dict[str, Any]]], event: str) -> list[int]:
    return [second for second, one in found if one["event"] == event]


def monitor(**changes: Any) -> dict[str, Any]:
    return {"reqQosMonParams": ["DOWNLINK"], "repFreqs": ["EVENT_TRIGGERED"]} | changes


SLOW = replace(GOOD, downlink_delay_ms=50.0)


def test_periodic_reports_come_each_period_with_delays_rounded_up() -> None:
    subscription = asked(qosMonInfo=monitor(repFreqs=["PERIODIC"], repPeriod=3))
    found = played(subscription, [GOOD] * 10)
    assert seconds(found, "QOS_MONITORING") == [2, 5, 8]
    assert found[1][1]["qosMonReports"] == [{"dlDelays": [11]}]


def test_without_coverage_a_periodic_report_says_that_it_measured_nothing() -> None:
    subscription = asked(qosMonInfo=monitor(repFreqs=["PERIODIC"], repPeriod=1))
    told = [one for _, one in played(subscription, [LOST]) if one["event"] == "QOS_MONITORING"]
    assert told[0]["qosMonReports"] == [{"pdmf": True}]


def test_a_threshold_without_wait_time_is_reported_at_each_crossing() -> None:
    subscription = asked(qosMonInfo=monitor(repThreshDl=20))
    samples = [GOOD, SLOW, SLOW, SLOW, GOOD, SLOW, SLOW]
    assert seconds(played(subscription, samples), "QOS_MONITORING") == [1, 5]


def test_wait_time_repeats_the_report_while_exceeded_and_never_sooner() -> None:
    subscription = asked(qosMonInfo=monitor(repThreshDl=20, waitTime=3))
    samples = [GOOD, SLOW, SLOW, SLOW, SLOW, SLOW, GOOD, SLOW, SLOW]
    assert seconds(played(subscription, samples), "QOS_MONITORING") == [1, 4, 7]


def test_a_delay_at_the_threshold_does_not_exceed_it() -> None:
    at = replace(GOOD, downlink_delay_ms=20.0)
    assert (
        seconds(played(asked(qosMonInfo=monitor(repThreshDl=20)), [at] * 3), "QOS_MONITORING") == []
    )


@given(st.lists(st.sampled_from([GOOD, SLOW, LOST]), max_size=60), st.integers(0, 7))
def test_two_event_reports_are_never_closer_than_wait_time(
    samples: list[Sample], wait: int
) -> None:
    subscription = asked(qosMonInfo=monitor(repThreshDl=20, waitTime=wait))
    told = seconds(played(subscription, samples), "QOS_MONITORING")
    assert all(b - a >= wait for a, b in itertools.pairwise(told))
    assert all(samples[second] is SLOW for second in told)


def test_the_alternative_in_force_is_named_and_the_wanted_one_returns() -> None:
    subscription = asked(qosReference="80", altQoSReferences=["7", "9"])  # 10, 100 and 300 ms
    fast, middling = replace(GOOD, downlink_delay_ms=5.0), replace(GOOD, downlink_delay_ms=60.0)
    awful = replace(GOOD, downlink_delay_ms=900.0)
    found = played(subscription, [fast] * 4 + [middling] * 6 + [awful] * 8 + [fast] * 8)
    told = [
        (one["event"], one.get("appliedQosRef"), one.get("altQosNotSuppInd"))
        for _, one in found
        if one["event"].startswith("QOS_")
    ]
    assert told[0] == ("QOS_NOT_GUARANTEED", "7", None)
    assert ("QOS_NOT_GUARANTEED", None, True) in told
    assert told[-1] == ("QOS_GUARANTEED", "80", None)


def test_a_met_session_reports_no_verdict() -> None:
    found = played(asked(), [GOOD] * 20)
    assert [one["event"] for _, one in found] == ["SUCCESSFUL_RESOURCES_ALLOCATION"]


def test_usage_is_reported_each_time_the_threshold_is_reached_anew() -> None:
    subscription = asked(usageThreshold={"downlinkVolume": 2_500_000})
    found = played(subscription, [GOOD] * 9)  # 1 MB a second
    assert seconds(found, "USAGE_REPORT") == [2, 5, 8]
    used = next(one["accumulatedUsage"] for _, one in found if one["event"] == "USAGE_REPORT")
    assert used == {"duration": 3, "totalVolume": 3_375_000, "downlinkVolume": 3_000_000,
                    "uplinkVolume": 375_000}  # fmt: skip


def test_the_bearer_is_lost_after_two_seconds_and_recovers() -> None:
    found = played(asked(), [GOOD, LOST, GOOD, LOST, LOST, LOST, GOOD])
    assert seconds(found, "LOSS_OF_BEARER") == [4]
    assert seconds(found, "RECOVERY_OF_BEARER") == [6]


def test_only_the_asked_events_are_told() -> None:
    found = played(asked(events=["LOSS_OF_BEARER"]), [GOOD, LOST, LOST, GOOD])
    assert [one["event"] for _, one in found] == ["LOSS_OF_BEARER"]


def test_a_session_ends_after_its_duration() -> None:
    found = played(asked(qosDuration=4), [GOOD] * 10)
    assert seconds(found, "SESSION_TERMINATION") == [3]


def test_rates_and_congestion_are_reported_in_their_units() -> None:
    wanted = ["DOWNLINK_DATA_RATE", "UPLINK_DATA_RATE", "DOWNLINK_CONGESTION"]
    subscription = asked(
        qosMonInfo=monitor(reqQosMonParams=wanted, repFreqs=["PERIODIC"], repPeriod=1)
    )
    report = played(subscription, [GOOD])[1][1]["qosMonReports"]
    assert report == [{"dlDataRate": "8 Mbps", "ulDataRate": "1 Mbps", "dlConInfo": 40}]


@pytest.mark.parametrize("reference", ["0", "91", "-1", "³", "gold", "9" * 400])
def test_an_unknown_reference_is_a_fault_that_names_its_place(reference: str) -> None:
    _, faults = qos_session.levels(asked(qosReference=reference, altQoSReferences=[reference]))
    assert [place for place, _ in faults] == ["qosReference", "altQoSReferences.0"]


NOW = datetime(2026, 3, 2, tzinfo=UTC)


def watched(samples: list[Sample], **content: Any) -> list[int]:
    base = {"externalId": "a@b", "notificationDestination": "http://h/c",
            "maximumNumberOfReports": 100}  # fmt: skip
    subscription = MonitoringEventSubscription.read(base | content)
    progress, found = ue_watch.Watched(0), []
    for second, sample in enumerate(samples):
        if progress.ended:
            break
        at = NOW + timedelta(seconds=second)
        if ue_watch.report(subscription, progress, replace(sample, second=second), at):
            found.append(second)
    return found


OTHER = replace(GOOD, cell_id="000001002")


def test_location_is_reported_at_each_change_of_cell() -> None:
    samples = [GOOD, GOOD, OTHER, LOST, OTHER, GOOD]
    assert watched(samples, monitoringType="LOCATION_REPORTING") == [0, 2, 5]


def test_a_minimum_interval_defers_a_location_and_loses_none() -> None:
    samples = [GOOD, OTHER, OTHER, OTHER, OTHER]
    told = watched(samples, monitoringType="LOCATION_REPORTING", minimumReportInterval=3)
    assert told == [0, 3]


def test_reports_end_with_their_number_and_their_time() -> None:
    samples = [GOOD, OTHER] * 5
    kind = "LOCATION_REPORTING"
    assert watched(samples, monitoringType=kind, maximumNumberOfReports=3) == [0, 1, 2]
    end = (NOW + timedelta(seconds=4)).isoformat()
    assert watched(samples, monitoringType=kind, monitorExpireTime=end) == [0, 1, 2, 3]


def test_loss_is_told_once_and_then_the_return() -> None:
    samples = [GOOD, LOST, LOST, LOST, GOOD, GOOD, LOST, GOOD]
    assert watched(samples, monitoringType="LOSS_OF_CONNECTIVITY") == [2]
    assert watched(samples, monitoringType="UE_REACHABILITY") == [4]
