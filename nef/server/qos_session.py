"""What a QoS session has to report after a second: pure rules, no clock and no network of their own.

Time is the simulation's. A threshold is reported when it is first exceeded, and again after each
waitTime for as long as it is; without waitTime only when it is crossed anew.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from nef.server.world import Sample
from nef.simulator.services import MEASURABLE_LOSS
from schemas.five_qi import DEFAULT_FIVE_QI, FIVE_QIS
from schemas.nef.as_session_with_qos import (
    AsSessionWithQoSSubscription,
    PdvMonitoringReport,
    QosMonitoringInformation,
    QosMonitoringReport,
    UserPlaneEventReport,
)  # fmt: skip
from schemas.nef.common import AccumulatedUsage
from schemas.service_class import SERVICE_CLASSES
from schemas.units import (
    bit_rate_of_mbps,
    mbps_of_bit_rate,
    ratio_of_error_rate,
    ratio_of_reliability,
)  # fmt: skip

WINDOW_S = 3  # over which a target is judged
SETTLED_S = 2  # for which another verdict has to last
RETRY_S, PROBE_S = 30, WINDOW_S + SETTLED_S
BEARER_LOST_S = 2  # without coverage
MONITORS = ("qosMonInfo", "rttMon", "qosMonDatRate", "qosMonConReq", "pdvMon")
UPLINK, DOWNLINK, ROUND_TRIP = "UPLINK", "DOWNLINK", "ROUND_TRIP"


@dataclass(frozen=True)
class Level:
    """A set of QoS targets: one-way delay, share of lost packets, rates; None: not asked for."""

    reference: str | None
    five_qi: int
    delay_ms: float | None = None
    loss_ratio: float | None = None
    downlink_mbps: float | None = None
    uplink_mbps: float | None = None

    def met(self, window: list[Sample]) -> bool:
        """Whether these seconds meet it; a sender that offers less than the rate is not held to it."""
        if any(one.cell_id is None for one in window):
            return False
        count = len(window)
        down = sum(one.downlink_delay_ms or 0.0 for one in window) / count
        rate = sum(one.downlink_mbps for one in window) / count
        offered = sum(one.offered_mbps for one in window) / count
        up = sum(one.uplink_mbps for one in window) / count
        loss = sum(one.loss_ratio for one in window) / count
        return (
            (self.delay_ms is None or down <= self.delay_ms)
            and (self.loss_ratio is None or loss <= max(self.loss_ratio, MEASURABLE_LOSS))
            and (self.downlink_mbps is None or rate >= min(self.downlink_mbps, 0.95 * offered))
            and (self.uplink_mbps is None or up >= self.uplink_mbps)
        )


def level_of_reference(reference: str) -> Level:
    """A 5QI's number or a service class's name; `ValueError` for another reference."""
    if reference.isascii() and reference.isdigit() and int(reference) in FIVE_QIS:
        row = FIVE_QIS[int(reference)]
        return Level(reference, row.value, row.packet_delay_budget_ms, row.packet_error_rate)
    known = {str(name): one for name, one in SERVICE_CLASSES.items()}
    if (found := known.get(reference.strip().lower())) is not None:
        loss = ratio_of_reliability(found.reliability_percent)
        return Level(reference, found.five_qi, found.delay_ms, loss, found.downlink_mbps)
    raise ValueError(f"unknown QoS reference; known: a 5QI of TS 23.501 or {list(known)}")


def levels(asked: AsSessionWithQoSSubscription) -> tuple[list[Level], list[tuple[str, str]]]:
    """The targets, the wanted one first, then the alternatives in order; and (place, reason) faults."""
    faults: list[tuple[str, str]] = []
    made: list[Level] = []
    named = [("qosReference", asked.qosReference)] if asked.qosReference else []
    others = [(f"altQoSReferences.{n}", one) for n, one in enumerate(asked.altQoSReferences or ())]
    for place, reference in named + others:
        try:
            made.append(level_of_reference(reference))
        except ValueError as error:
            faults.append((place, str(error)))
    first = made[0] if named and made else Level(None, DEFAULT_FIVE_QI, 300.0, 1e-6)
    if (extra := asked.tscQosReq) is not None:
        first = Level(
            first.reference, first.five_qi, extra.req5Gsdelay or first.delay_ms,
            ratio_of_error_rate(extra.reqPer) if extra.reqPer else first.loss_ratio,
            _mbps(extra.reqGbrDl) or first.downlink_mbps, _mbps(extra.reqGbrUl),
        )  # fmt: skip
    alternatives = made[1:] if named else made
    for alternative in asked.altQosReqs or ():
        loss = ratio_of_error_rate(alternative.per) if alternative.per else None
        alternatives.append(
            Level(alternative.altQosParamSetRef, first.five_qi, alternative.pdb, loss,
                  _mbps(alternative.gbrDl), _mbps(alternative.gbrUl))
        )  # fmt: skip
    return [first, *alternatives], faults


def _mbps(rate: str | None) -> float | None:
    return None if rate is None else mbps_of_bit_rate(rate)


@dataclass
class Watch:
    """What one monitor remembers: seconds of its last reports; over: the threshold was exceeded."""

    event_s: int | None = None
    period_s: int | None = None
    over: bool = False


@dataclass
class Progress:
    """What a session remembers. verdict: index of the level in force, -1: none; None: not judged."""

    began_s: int
    window: deque[Sample] = field(default_factory=lambda: deque(maxlen=WINDOW_S))
    verdict: int | None = None
    other: int | None = None
    other_s: int = 0
    since_s: int = 0
    bearer: bool | None = None
    lost_s: int = 0
    usage: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    watches: dict[str, Watch] = field(default_factory=dict)
    ended: bool = False


def reports(
    asked: AsSessionWithQoSSubscription, targets: list[Level], progress: Progress, sample: Sample
) -> list[UserPlaneEventReport]:
    """What this second has to report, in order; `progress.ended` says that the session is over."""
    progress.window.append(sample)
    found = _bearer(progress, sample)
    found += _verdict(targets, progress)
    for name in MONITORS:
        if (monitor := getattr(asked, name)) is not None:
            watch = progress.watches.setdefault(name, Watch(period_s=progress.began_s))
            found += _monitored(name, monitor, targets[0], watch, sample)
    found += _usage(asked, progress, sample)
    if asked.qosDuration and sample.second + 1 - progress.began_s >= asked.qosDuration:
        progress.ended = True
        for name in MONITORS:
            monitor = getattr(asked, name)
            if monitor is not None and "SESSION_RELEASE" in monitor.repFreqs:
                found.append(_report(name, monitor, sample))
        found.append(
            UserPlaneEventReport(event="SESSION_TERMINATION", accumulatedUsage=_used(progress))
        )
    return found if asked.events is None else [one for one in found if one.event in asked.events]


def _bearer(progress: Progress, sample: Sample) -> list[UserPlaneEventReport]:
    served, before = sample.cell_id is not None, progress.bearer
    progress.lost_s = 0 if served else progress.lost_s + 1
    if before is None:
        progress.bearer = served
        told = "SUCCESSFUL" if served else "FAILED"
        return [UserPlaneEventReport.read({"event": f"{told}_RESOURCES_ALLOCATION"})]
    if served and not before:
        progress.bearer = True
        return [UserPlaneEventReport(event="RECOVERY_OF_BEARER")]
    if before and progress.lost_s >= BEARER_LOST_S:
        progress.bearer = False
        return [UserPlaneEventReport(event="LOSS_OF_BEARER")]
    return []


def _verdict(targets: list[Level], progress: Progress) -> list[UserPlaneEventReport]:
    """QOS_GUARANTEED when the wanted targets are met again, QOS_NOT_GUARANTEED with what is in force."""
    window = list(progress.window)
    if len(window) < WINDOW_S:
        return []
    now = next((n for n, level in enumerate(targets) if level.met(window)), -1)
    progress.other_s = progress.other_s + 1 if now == progress.other else 1
    progress.other = now
    if now == progress.verdict or progress.other_s < SETTLED_S:
        return []
    before, progress.verdict = progress.verdict, now
    progress.since_s = window[-1].second
    if now == 0:
        if before is None:
            return []
        return [UserPlaneEventReport(event="QOS_GUARANTEED", appliedQosRef=targets[0].reference)]
    return [
        UserPlaneEventReport(
            event="QOS_NOT_GUARANTEED",
            appliedQosRef=targets[now].reference if now > 0 else None,
            altQosNotSuppInd=True if now < 0 and len(targets) > 1 else None,
        )
    ]


def in_force(progress: Progress, second: int) -> int:
    """Index of the level by which the flow is scheduled: the wanted one, or an alternative.

    An alternative is what the network falls back to, so it serves by it, and tries the wanted one
    again for PROBE_S after each RETRY_S.
    """
    if progress.verdict is None or progress.verdict <= 0:
        return 0
    return 0 if (second - progress.since_s) % (RETRY_S + PROBE_S) >= RETRY_S else progress.verdict


def _monitored(
    name: str, monitor: QosMonitoringInformation, wanted: Level, watch: Watch, sample: Sample
) -> list[UserPlaneEventReport]:
    now, due = sample.second + 1, False
    if "PERIODIC" in monitor.repFreqs and monitor.repPeriod:
        due = now - (watch.period_s or 0) >= monitor.repPeriod
        if due:
            watch.period_s = now
    if "EVENT_TRIGGERED" in monitor.repFreqs and sample.cell_id is not None:
        over = exceeds(name, monitor, wanted, sample)
        waited = watch.event_s is None or now - watch.event_s >= (monitor.waitTime or 0)
        again = monitor.waitTime is not None and watch.over
        if over and waited and (again or not watch.over):
            watch.event_s, due = now, True
            watch.over = True
        elif not over:
            watch.over = False
    return [_report(name, monitor, sample)] if due else []


def measured(sample: Sample) -> dict[str, float | None]:
    """By RequestedQosMonitoringParameter: ms, Mbps, and percent of the cell's resource blocks."""
    down, up = sample.downlink_delay_ms, sample.uplink_delay_ms
    load = None if sample.load is None else 100.0 * sample.load
    return {
        DOWNLINK: down, UPLINK: up,
        ROUND_TRIP: None if down is None or up is None else down + up,
        "DOWNLINK_DATA_RATE": sample.downlink_mbps, "UPLINK_DATA_RATE": sample.uplink_mbps,
        "DOWNLINK_CONGESTION": load, "UPLINK_CONGESTION": load,
    }  # fmt: skip


def exceeds(name: str, monitor: QosMonitoringInformation, wanted: Level, sample: Sample) -> bool:
    """Whether any asked parameter is above its threshold; a delay without one has the target's."""
    budget = wanted.delay_ms
    delays = (monitor.repThreshDl, monitor.repThreshUl, monitor.repThreshRp)
    if all(one is None for one in delays) and name in ("qosMonInfo", "rttMon"):
        limits: dict[str, float | None] = {
            DOWNLINK: budget, UPLINK: budget, ROUND_TRIP: None if budget is None else 2 * budget,
        }  # fmt: skip
    else:
        limits = dict(zip((DOWNLINK, UPLINK, ROUND_TRIP), delays, strict=True))
    limits |= {
        "DOWNLINK_DATA_RATE": _mbps(monitor.repThreshDatRateDl),
        "UPLINK_DATA_RATE": _mbps(monitor.repThreshDatRateUl),
        "DOWNLINK_CONGESTION": monitor.conThreshDl, "UPLINK_CONGESTION": monitor.conThreshUl,
    }  # fmt: skip
    found = measured(sample)
    if name == "pdvMon":
        found = dict.fromkeys((DOWNLINK, UPLINK, ROUND_TRIP), sample.jitter_ms)
    return any(
        value is not None and limit is not None and value > limit
        for value, limit in ((found.get(p), limits.get(p)) for p in monitor.reqQosMonParams)
    )


def _report(name: str, monitor: QosMonitoringInformation, sample: Sample) -> UserPlaneEventReport:
    """Delays are rounded up to whole ms; without coverage the report says it has no measurement."""
    asked, found = set(monitor.reqQosMonParams), measured(sample)
    if name == "pdvMon":
        jitter = None if sample.jitter_ms is None else math.ceil(sample.jitter_ms)
        variation = PdvMonitoringReport(
            dlPdv=jitter if DOWNLINK in asked else None, ulPdv=jitter if UPLINK in asked else None,
            rtPdv=jitter if ROUND_TRIP in asked else None,
        )  # fmt: skip
        return UserPlaneEventReport(event="PACK_DELAY_VAR", pdvMonReports=[variation])

    def delays(parameter: str) -> list[int] | None:
        value = found[parameter]
        return None if parameter not in asked or value is None else [math.ceil(value)]

    def rate(parameter: str) -> str | None:
        value = found[parameter]
        return (
            None if parameter not in asked or value is None else bit_rate_of_mbps(round(value, 3))
        )

    def share(parameter: str) -> int | None:
        value = found[parameter]
        return None if parameter not in asked or value is None else round(value)

    lost = sample.cell_id is None
    about_delay = bool(asked & {DOWNLINK, UPLINK, ROUND_TRIP})
    about_load = bool(asked & {"DOWNLINK_CONGESTION", "UPLINK_CONGESTION"})
    one = QosMonitoringReport(
        dlDelays=delays(DOWNLINK), ulDelays=delays(UPLINK), rtDelays=delays(ROUND_TRIP),
        pdmf=True if lost and about_delay else None,
        dlDataRate=rate("DOWNLINK_DATA_RATE"), ulDataRate=rate("UPLINK_DATA_RATE"),
        dlConInfo=share("DOWNLINK_CONGESTION"), ulConInfo=share("UPLINK_CONGESTION"),
        cimf=True if lost and about_load else None,
    )  # fmt: skip
    place = {"qosMonInfo": "qosMonReports", "rttMon": "rttMonReports",
             "qosMonDatRate": "qosMonDatRateReps", "qosMonConReq": "qosMonConInfoReps"}[name]  # fmt: skip
    return UserPlaneEventReport.model_validate({"event": "QOS_MONITORING", place: [one]})


def _usage(
    asked: AsSessionWithQoSSubscription, progress: Progress, sample: Sample
) -> list[UserPlaneEventReport]:
    """A report each time that a threshold is reached anew since the last report."""
    progress.usage[0] += sample.cell_id is not None
    progress.usage[1] += sample.downlink_mbps * 125_000.0
    progress.usage[2] += sample.uplink_mbps * 125_000.0
    if (limit := asked.usageThreshold) is None:
        return []
    used = _used(progress)
    pairs = [(getattr(used, name), getattr(limit, name)) for name in type(limit).model_fields]
    if not any(bound and value >= bound for value, bound in pairs):
        return []
    progress.usage = [0.0, 0.0, 0.0]
    return [UserPlaneEventReport(event="USAGE_REPORT", accumulatedUsage=used)]


def _used(progress: Progress) -> AccumulatedUsage:
    seconds, down, up = (int(value) for value in progress.usage)
    return AccumulatedUsage(
        duration=seconds, totalVolume=down + up, downlinkVolume=down, uplinkVolume=up
    )
