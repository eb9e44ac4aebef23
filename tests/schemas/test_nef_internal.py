"""The internal form: explicit units, what is not measured is None, and the way there and back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.five_qi import FIVE_QIS
from schemas.nef.as_session_with_qos import (
    AsSessionWithQoSSubscription,
    UserPlaneNotificationData,
)
from schemas.nef.camara import QosProfile
from schemas.nef.internal import (
    QosTarget,
    SessionReport,
    profile_of_target,
    requirement_of_target,
    session_reports,
    target_of_five_qi,
    target_of_profile,
    target_of_subscription,
    ue_events,
)
from schemas.nef.monitoring_event import MonitoringNotification
from schemas.units import ratio_of_error_rate

PLAIN = {"ueIpv4Addr": "10.0.0.1", "notificationDestination": "http://x"}


def subscription(**fields: Any) -> AsSessionWithQoSSubscription:
    return AsSessionWithQoSSubscription.read(PLAIN | fields)


def report(**fields: Any) -> SessionReport:
    content = {"transaction": "x", "eventReports": [{"event": "QOS_MONITORING"} | fields]}
    [found] = session_reports(UserPlaneNotificationData.read(content))
    return found


@pytest.mark.parametrize("value", sorted(FIVE_QIS))
def test_every_5qi_is_a_target(value: int) -> None:
    target, row = target_of_five_qi(value), FIVE_QIS[value]
    assert target.delay_ms == row.packet_delay_budget_ms
    assert target.loss_ratio == row.packet_error_rate
    assert target_of_subscription(subscription(qosReference=value)) == target
    assert target_of_subscription(subscription(qosReference=str(value))) == target


@pytest.mark.parametrize("reference", ["gold", "0", "999", "٩", "82 "])
def test_a_reference_that_is_no_5qi_says_nothing_in_numbers(reference: str) -> None:
    assert target_of_subscription(subscription(qosReference=reference)) == QosTarget()


def test_the_subscriptions_own_numbers_come_before_its_5qis() -> None:
    own = {"reqGbrDl": "12.5 Mbps", "reqGbrUl": "500 kbps", "req5Gsdelay": 7, "reqPer": "1E-3"}
    found = target_of_subscription(subscription(qosReference="82", tscQosReq=own))
    assert found == QosTarget(
        five_qi=82, downlink_mbps=12.5, uplink_mbps=0.5, delay_ms=7.0, loss_ratio=0.001,
        priority=target_of_five_qi(82).priority,
    )  # fmt: skip
    some = target_of_subscription(subscription(qosReference="82", tscQosReq={"reqPer": "1E-3"}))
    assert some.delay_ms == 10.0 and some.loss_ratio == 0.001


@given(
    down=st.none() | st.floats(0, 1e4),
    up=st.none() | st.floats(0, 1e4),
    delay=st.none() | st.integers(1, 60_000).map(float),
    digit=st.integers(1, 9),
    power=st.integers(1, 9),
)
def test_a_target_survives_ts_29_122(
    down: float | None, up: float | None, delay: float | None, digit: int, power: int
) -> None:
    loss = ratio_of_error_rate(f"{digit}E-{power}")
    target = QosTarget(downlink_mbps=down, uplink_mbps=up, delay_ms=delay, loss_ratio=loss)
    written = requirement_of_target(target).wire()
    assert target_of_subscription(subscription(tscQosReq=written)) == target


@given(st.floats(1, 1e4), st.floats(1e-9, 1))
def test_a_target_that_the_wire_cannot_say_is_never_loosened(delay: float, loss: float) -> None:
    written = requirement_of_target(QosTarget(delay_ms=delay, loss_ratio=loss)).wire()
    read = target_of_subscription(subscription(tscQosReq=written))
    assert read.delay_ms is not None and read.loss_ratio is not None
    assert read.delay_ms <= delay and read.loss_ratio <= loss


@given(
    st.builds(
        QosTarget,
        downlink_mbps=st.none() | st.integers(0, 1024).map(float),
        uplink_mbps=st.none() | st.integers(0, 1024).map(lambda kbps: kbps / 1000),
        delay_ms=st.none() | st.integers(1, 10**6).map(lambda us: us / 1000),
        jitter_ms=st.none() | st.integers(1, 10**6).map(float),
        loss_ratio=st.none() | st.integers(1, 10).map(lambda n: float(f"1e-{n}")),
        priority=st.none() | st.integers(1, 10),
    )
)
def test_a_target_survives_a_camara_profile(target: QosTarget) -> None:
    profile = profile_of_target("QOS_X", target)
    assert target_of_profile(QosProfile.read(profile.wire())) == target


def test_the_scales_of_priority_run_against_each_other() -> None:
    assert profile_of_target("QOS_X", QosTarget(priority=10)).priority == 1
    assert profile_of_target("QOS_X", QosTarget(priority=1)).priority == 100
    levels = sorted(FIVE_QIS, key=lambda value: FIVE_QIS[value].priority_level)
    ours = [target_of_five_qi(value).priority or 0 for value in levels]
    assert ours == sorted(ours, reverse=True)


def test_a_report_is_read_in_its_units() -> None:
    found = report(
        qosMonReports=[
            {"dlDelays": [4, 6], "ulDelays": [9], "rtDelays": [14], "dlDataRate": "12.5 Mbps"}
        ],
        qosMonDatRateReps=[{"ulDataRate": "250 Kbps"}],
        pdvMonReports=[{"dlPdv": 2, "rtPdv": 3}],
        accumulatedUsage={"duration": 60, "totalVolume": 9, "downlinkVolume": 5, "uplinkVolume": 4},
        appliedQosRef=7,
        altQosNotSuppInd=False,
    )
    assert found == SessionReport(
        "QOS_MONITORING", (4.0, 6.0), (9.0,), (14.0,), 12.5, 0.25, 2.0, None, 3.0, 60.0, 9, 5, 4,
        "7", False, True,
    )  # fmt: skip


def test_zeros_in_all_directions_are_no_measurement() -> None:
    zeros = {"ulDelays": [0], "dlDelays": [0, 0], "rtDelays": [0]}
    assert report(qosMonReports=[zeros]) == SessionReport("QOS_MONITORING")
    some = report(qosMonReports=[zeros | {"rtDelays": [1]}])
    assert some.measured and some.downlink_delays_ms == (0.0, 0.0)


def test_a_failed_measurement_is_none() -> None:
    found = report(
        qosMonReports=[{"dlDelays": [40], "pdmf": True}, {"dlDelays": [5], "pdmf": False}]
    )
    assert found.downlink_delays_ms == (5.0,)
    assert not report(qosMonReports=[{"dlDelays": [40], "pdmf": True}]).measured


def test_a_report_of_nothing_measures_nothing() -> None:
    assert report() == SessionReport("QOS_MONITORING")
    assert report(accumulatedUsage={"totalVolume": None}).used_bytes is None
    assert report(accumulatedUsage={"totalVolume": 0}).used_bytes == 0


def test_a_rate_of_zero_is_a_measurement() -> None:
    found = report(qosMonReports=[{"dlDataRate": "0 bps"}])
    assert found == replace(SessionReport("QOS_MONITORING"), downlink_mbps=0.0, measured=True)


def test_the_last_of_several_rates_counts() -> None:
    rates = [{"dlDataRate": "1 Mbps"}, {"dlDataRate": "2 Mbps"}, {"ulDataRate": "3 Mbps"}]
    assert report(qosMonReports=rates).downlink_mbps == 2.0


def test_monitored_events_keep_their_order_and_an_end_has_none() -> None:
    content = {
        "subscription": "x",
        "monitoringEventReports": [
            {"monitoringType": "LOCATION_REPORTING", "msisdn": "4912345",
             "eventTime": "2026-01-01T00:00:00Z", "locationInfo": {"cellId": "c", "gNBId": "g"}},
            {"monitoringType": "LOSS_OF_CONNECTIVITY", "lossOfConnectReason": 7},
        ],
    }  # fmt: skip
    first, second = ue_events(MonitoringNotification.read(content))
    assert (first.subscriber, first.cell_id, first.gnb_id) == ("4912345", "c", "g")
    assert (second.subscriber, second.loss_reason, second.cell_id) == (None, 7, None)
    assert ue_events(MonitoringNotification.read({"subscription": "x", "cancelInd": True})) == []
