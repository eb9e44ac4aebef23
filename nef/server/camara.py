"""CAMARA's QoS profiles, sessions and verdicts over the simulated network: rules without HTTP."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from nef.server.world import Sample
from nef.simulator.services import MEASURABLE_LOSS
from schemas.nef.camara import (
    CreateSession,
    Duration,
    NetworkQuality,
    QosProfile,
    QosStatus,
    Rate,
    SessionInfo,
    StatusInfo,
    Verdict,
)
from schemas.service_class import SERVICE_CLASSES, ServiceClass
from schemas.units import camara_of_priority, ratio_of_reliability

MAX_DURATION_S = 86_400
LOST_S = 2  # without coverage, then the session is over
KEPT_S = 360  # an ended session can still be read
GOOD: Verdict = "meets the application requirements"
POOR: Verdict = "unable to meet the application requirements"


def _profile(one: ServiceClass) -> QosProfile:
    return QosProfile(
        name=one.name,
        status="ACTIVE",
        description=f"Service class {one.name}, 5QI {one.five_qi}",
        targetMinDownstreamRate=Rate.of_mbps(one.downlink_mbps),
        maxDuration=Duration(value=MAX_DURATION_S, unit="Seconds"),
        packetDelayBudget=Duration.of_ms(one.delay_ms),
        priority=camara_of_priority(one.priority),
    )


PROFILES = {str(one.name): _profile(one) for one in SERVICE_CLASSES.values()}
FIVE_QI = {str(one.name): one.five_qi for one in SERVICE_CLASSES.values()}
APPLICATIONS: dict[UUID, ServiceClass] = {
    uuid5(NAMESPACE_URL, f"service-class:{one.name}"): one for one in SERVICE_CLASSES.values()
}


@dataclass
class CamaraSession:
    """A session; seconds of the simulation. lost_s: without coverage until now."""

    number: UUID
    supi: str
    asked: CreateSession
    began_s: int
    until_s: int
    status: QosStatus = "REQUESTED"
    info: StatusInfo | None = None
    lost_s: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.info is not None

    def pass_second(self, sample: Sample) -> bool:
        """Moves it on; whether its status is another now."""
        if self.over:
            return False
        before = self.status
        self.lost_s = self.lost_s + 1 if sample.cell_id is None else 0
        if sample.second + 1 >= self.until_s:
            self.end("DURATION_EXPIRED", sample.second + 1)
        elif self.lost_s >= LOST_S:
            self.end("NETWORK_TERMINATED", sample.second + 1)
        elif sample.cell_id is not None:
            self.status = "AVAILABLE"
        return self.status != before

    def end(self, why: StatusInfo, second: int) -> None:
        """It is over from this second on."""
        self.status, self.info, self.until_s = "UNAVAILABLE", why, second

    def told(self, started: datetime) -> dict[str, Any]:
        """As the API answers it; started: the simulation's second 0."""
        content = self.asked.model_dump(mode="json", by_alias=True, exclude_none=True)
        began = None if self.status == "REQUESTED" else started + timedelta(seconds=self.began_s)
        ends = None if began is None else started + timedelta(seconds=self.until_s)
        return SessionInfo.model_validate(
            content
            | {
                "sessionId": self.number, "qosStatus": self.status, "statusInfo": self.info,
                "duration": max(self.until_s - self.began_s, 1),
                "startedAt": began, "expiresAt": ends,
            }
        ).wire()  # fmt: skip

    def event(self, now: datetime, link: str, number: int) -> dict[str, Any]:
        """The CloudEvent of a change."""
        data = {"sessionId": str(self.number), "qosStatus": self.status}
        return {
            "id": f"{self.number}-{number}", "source": link, "specversion": "1.0",
            "type": "org.camaraproject.quality-on-demand.v1.qos-status-changed",
            "time": now.isoformat(), "datacontenttype": "application/json",
            "data": data | ({"statusInfo": self.info} if self.info else {}),
        }  # fmt: skip


def quality(wanted: ServiceClass, sample: Sample) -> NetworkQuality:
    """Each demand's verdict on a UE's last second; no coverage meets none."""

    def verdict(value: float | None, met: bool) -> Verdict:
        return GOOD if value is not None and met else POOR

    delay, jitter = sample.downlink_delay_ms, sample.jitter_ms
    loss = max(ratio_of_reliability(wanted.reliability_percent), MEASURABLE_LOSS)
    rate = min(wanted.downlink_mbps, 0.95 * sample.offered_mbps)
    served = None if sample.cell_id is None else 1.0
    level = sample.rsrp_dbm
    steps = ((-85.0, "excellent"), (-95.0, "good"), (-105.0, "fair"), (-156.0, "poor"))
    strength = (
        "no signal" if level is None else next(name for least, name in steps if level >= least)
    )
    return NetworkQuality.model_validate(
        {
            "packetDelayBudget": verdict(delay, (delay or 0.0) <= wanted.delay_ms),
            "targetMinDownstreamRate": verdict(served, sample.downlink_mbps >= rate),
            "packetlossErrorRate": verdict(served, sample.loss_ratio <= loss),
            "jitter": verdict(jitter, (jitter or 0.0) <= wanted.jitter_ms),
            "additionalKPIs": {"signalStrength": strength, "connectivityType": "5G-SA"},
        }
    )
