"""The one form behind the dialects: explicit units, one way delays, shares; and how it is reached.

A field is None where the message says nothing; an emulator's zeros for delays it never measured are
None too, never a measured 0 ms.
"""

from dataclasses import dataclass
from datetime import datetime

from schemas.five_qi import FIVE_QIS
from schemas.nef.as_session_with_qos import (
    AsSessionWithQoSSubscription,
    QosMonitoringReport,
    TscQosRequirement,
    UserPlaneEventReport,
    UserPlaneNotificationData,
)
from schemas.nef.camara import Duration, QosProfile, Rate
from schemas.nef.monitoring_event import MonitoringNotification
from schemas.units import (
    bit_rate_of_mbps,
    camara_of_priority,
    error_rate_of_ratio,
    exponent_of_ratio,
    mbps_of_bit_rate,
    priority_of_camara,
    priority_of_level,
    ratio_of_error_rate,
    ratio_of_exponent,
)


@dataclass(frozen=True)
class QosTarget:
    """What a flow is to get: rates at least, one way delay, jitter and loss share at most.

    jitter_ms is of the round trip (99th percentile); priority 1..10, 10 the most important.
    """

    five_qi: int | None = None
    downlink_mbps: float | None = None
    uplink_mbps: float | None = None
    delay_ms: float | None = None
    jitter_ms: float | None = None
    loss_ratio: float | None = None
    priority: int | None = None


@dataclass(frozen=True)
class SessionReport:
    """One event of a QoS session; delays [ms] one way but the round trips', rates Mbps, volumes bytes.

    measured: whether any delay or rate was; applied_reference: the alternative profile in force.
    """

    event: str
    downlink_delays_ms: tuple[float, ...] | None = None
    uplink_delays_ms: tuple[float, ...] | None = None
    round_trip_delays_ms: tuple[float, ...] | None = None
    downlink_mbps: float | None = None
    uplink_mbps: float | None = None
    downlink_variation_ms: float | None = None
    uplink_variation_ms: float | None = None
    round_trip_variation_ms: float | None = None
    used_s: float | None = None
    used_bytes: int | None = None
    used_downlink_bytes: int | None = None
    used_uplink_bytes: int | None = None
    applied_reference: str | None = None
    alternatives_unsupported: bool | None = None
    measured: bool = False


@dataclass(frozen=True)
class UeEvent:
    """One monitored event of a UE; subscriber: its identity, None where the subscription tells it.

    cell_id None: out of coverage, or the event is no location.
    """

    kind: str
    subscriber: str | None
    event_timestamp: datetime | None
    cell_id: str | None = None
    gnb_id: str | None = None
    loss_reason: int | None = None


# -- targets --------------------------------------------------------------------------------------


def target_of_five_qi(value: int) -> QosTarget:
    """The standardised characteristics; `KeyError` for a value outside the table."""
    row = FIVE_QIS[value]
    return QosTarget(
        five_qi=value,
        delay_ms=row.packet_delay_budget_ms,
        loss_ratio=row.packet_error_rate,
        priority=priority_of_level(row.priority_level),
    )


def target_of_subscription(subscription: AsSessionWithQoSSubscription) -> QosTarget:
    """The subscription's own numbers (tscQosReq); where it has none, those of its 5QI."""
    reference = subscription.qosReference or ""
    known = reference.isascii() and reference.isdigit() and int(reference) in FIVE_QIS
    base = target_of_five_qi(int(reference)) if known else QosTarget()
    asked = subscription.tscQosReq
    if asked is None:
        return base
    return QosTarget(
        five_qi=base.five_qi,
        downlink_mbps=_mbps(asked.reqGbrDl),
        uplink_mbps=_mbps(asked.reqGbrUl),
        delay_ms=base.delay_ms if asked.req5Gsdelay is None else float(asked.req5Gsdelay),
        loss_ratio=base.loss_ratio if asked.reqPer is None else ratio_of_error_rate(asked.reqPer),
        priority=base.priority,
    )


def requirement_of_target(target: QosTarget) -> TscQosRequirement:
    """The target in TS 29.122's words. Rates are exact; a delay is cut to whole ms and a loss to the
    next error rate below, never promising less; jitter and priority (another scale) have no place."""
    return TscQosRequirement(
        reqGbrDl=None if target.downlink_mbps is None else bit_rate_of_mbps(target.downlink_mbps),
        reqGbrUl=None if target.uplink_mbps is None else bit_rate_of_mbps(target.uplink_mbps),
        req5Gsdelay=None if target.delay_ms is None else int(target.delay_ms),
        reqPer=None if target.loss_ratio is None else error_rate_of_ratio(target.loss_ratio),
    )


def target_of_profile(profile: QosProfile) -> QosTarget:
    """A CAMARA profile's demands."""
    down, up = profile.targetMinDownstreamRate, profile.targetMinUpstreamRate
    delay, jitter, exponent = profile.packetDelayBudget, profile.jitter, profile.packetErrorLossRate
    return QosTarget(
        downlink_mbps=None if down is None else down.mbps(),
        uplink_mbps=None if up is None else up.mbps(),
        delay_ms=None if delay is None else delay.ms(),
        jitter_ms=None if jitter is None else jitter.ms(),
        loss_ratio=None if exponent is None else ratio_of_exponent(exponent),
        priority=None if profile.priority is None else priority_of_camara(profile.priority),
    )


def profile_of_target(name: str, target: QosTarget) -> QosProfile:
    """An active CAMARA profile; rates and times exact (`ValueError` where the format has none), the
    loss the next power of ten below."""
    down, up, delay, jitter = (
        target.downlink_mbps,
        target.uplink_mbps,
        target.delay_ms,
        target.jitter_ms,
    )
    return QosProfile(
        name=name,
        status="ACTIVE",
        targetMinDownstreamRate=None if down is None else Rate.of_mbps(down),
        targetMinUpstreamRate=None if up is None else Rate.of_mbps(up),
        packetDelayBudget=None if delay is None else Duration.of_ms(delay),
        jitter=None if jitter is None else Duration.of_ms(jitter),
        packetErrorLossRate=None
        if target.loss_ratio is None
        else exponent_of_ratio(target.loss_ratio),
        priority=None if target.priority is None else camara_of_priority(target.priority),
    )


# -- reports --------------------------------------------------------------------------------------


def session_reports(notification: UserPlaneNotificationData) -> list[SessionReport]:
    """One a event report, in order."""
    return [_session_report(report) for report in notification.eventReports]


def _session_report(report: UserPlaneEventReport) -> SessionReport:
    delays = [*(report.qosMonReports or []), *(report.rttMonReports or [])]
    downlink, uplink, round_trip = (
        _delays(delays, name) for name in ("dlDelays", "ulDelays", "rtDelays")
    )
    if not any(downlink + uplink + round_trip):  # nothing, or an emulator's zeros
        downlink = uplink = round_trip = ()
    rates = [*(report.qosMonReports or []), *(report.qosMonDatRateReps or [])]
    downlink_mbps = _last_rate([one.dlDataRate for one in rates])
    uplink_mbps = _last_rate([one.ulDataRate for one in rates])
    variation = report.pdvMonReports[-1] if report.pdvMonReports else None
    usage = report.accumulatedUsage
    return SessionReport(
        event=report.event,
        downlink_delays_ms=downlink or None,
        uplink_delays_ms=uplink or None,
        round_trip_delays_ms=round_trip or None,
        downlink_mbps=downlink_mbps,
        uplink_mbps=uplink_mbps,
        downlink_variation_ms=None if variation is None else _float(variation.dlPdv),
        uplink_variation_ms=None if variation is None else _float(variation.ulPdv),
        round_trip_variation_ms=None if variation is None else _float(variation.rtPdv),
        used_s=None if usage is None else _float(usage.duration),
        used_bytes=None if usage is None else usage.totalVolume,
        used_downlink_bytes=None if usage is None else usage.downlinkVolume,
        used_uplink_bytes=None if usage is None else usage.uplinkVolume,
        applied_reference=report.appliedQosRef,
        alternatives_unsupported=report.altQosNotSuppInd,
        measured=bool(downlink or uplink or round_trip)
        or downlink_mbps is not None
        or uplink_mbps is not None,
    )


def _delays(reports: list[QosMonitoringReport], name: str) -> tuple[float, ...]:
    """All delays of one direction but those of reports that say the measurement failed."""
    return tuple(
        float(delay)
        for report in reports
        if not report.pdmf
        for delay in (getattr(report, name) or ())
    )


def _last_rate(rates: list[str | None]) -> float | None:
    return next((mbps_of_bit_rate(rate) for rate in reversed(rates) if rate is not None), None)


def ue_events(notification: MonitoringNotification) -> list[UeEvent]:
    """One a event report, in order; none where the notification only ends a subscription."""
    found = []
    for report in notification.monitoringEventReports or ():
        place = report.locationInfo
        found.append(
            UeEvent(
                kind=report.monitoringType,
                subscriber=report.subscriber(),
                event_timestamp=report.eventTime,
                cell_id=None if place is None else place.cellId,
                gnb_id=None if place is None else place.enodeBId,
                loss_reason=report.lossOfConnectReason,
            )
        )
    return found


def _mbps(rate: str | None) -> float | None:
    return None if rate is None else mbps_of_bit_rate(rate)


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)
