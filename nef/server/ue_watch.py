"""What a MonitoringEvent subscription has to report after a second: pure rules, simulated time."""

from dataclasses import dataclass
from datetime import datetime

from nef.server.world import Sample
from schemas.nef.monitoring_event import (
    LocationInfo,
    MonitoringEventReport,
    MonitoringEventSubscription,
)  # fmt: skip

KNOWN = ("LOCATION_REPORTING", "LOSS_OF_CONNECTIVITY", "UE_REACHABILITY")
DETECTION_S = 2  # without coverage, where maximumDetectionTime says nothing
MOBILE_REACHABLE_TIMER = 7  # lossOfConnectReason, as emulators send it


@dataclass
class Watched:
    """What a subscription remembers. cell: last reported; lost_s: seconds without coverage."""

    began_s: int
    cell: str | None = None
    told_s: int | None = None
    lost_s: int = 0
    lost_told: bool = False
    sent: int = 0
    ended: bool = False


def location(
    asked: MonitoringEventSubscription, sample: Sample | None, now: datetime
) -> MonitoringEventReport:
    """Where the UE is: its cell, none without coverage."""
    place = LocationInfo(
        ageOfLocationInfo=0,
        cellId=None if sample is None else sample.cell_id,
        enodeBId=None if sample is None else sample.gnb_id,
    )
    return _report(asked, now, locationInfo=place)


def _report(
    asked: MonitoringEventSubscription, now: datetime, **content: object
) -> MonitoringEventReport:
    who = {"externalId": asked.externalId, "msisdn": asked.msisdn, "eventTime": now}
    return MonitoringEventReport.model_validate(
        who | {"monitoringType": asked.monitoringType} | content
    )


def report(
    asked: MonitoringEventSubscription, watched: Watched, sample: Sample, now: datetime
) -> MonitoringEventReport | None:
    """This second's report, if there is one; `watched.ended` says that the subscription is over."""
    if asked.monitorExpireTime is not None and _utc(now, asked.monitorExpireTime):
        watched.ended = True
        return None
    watched.lost_s = watched.lost_s + 1 if sample.cell_id is None else 0
    found = _found(asked, watched, sample, now)
    if found is not None:
        watched.sent += 1
        watched.told_s = sample.second
        most = asked.maximumNumberOfReports
        watched.ended = most is not None and watched.sent >= most
    return found


def _utc(now: datetime, end: datetime) -> bool:
    return now >= (end if end.tzinfo else end.replace(tzinfo=now.tzinfo))


def _found(
    asked: MonitoringEventSubscription, watched: Watched, sample: Sample, now: datetime
) -> MonitoringEventReport | None:
    limit = asked.maximumDetectionTime or DETECTION_S
    lost = watched.lost_s >= limit
    if asked.monitoringType == "LOSS_OF_CONNECTIVITY":
        tell, watched.lost_told = lost and not watched.lost_told, lost
        return _report(asked, now, lossOfConnectReason=MOBILE_REACHABLE_TIMER) if tell else None
    if asked.monitoringType == "UE_REACHABILITY":
        tell = watched.lost_told and sample.cell_id is not None
        watched.lost_told = lost or (watched.lost_told and sample.cell_id is None)
        kind = asked.reachabilityType or "DATA"
        return _report(asked, now, reachabilityType=kind) if tell else None
    if sample.cell_id is None:
        return None
    since = None if watched.told_s is None else sample.second - watched.told_s
    if since is not None and since < (asked.minimumReportInterval or 0):
        return None
    periodic = bool(asked.repPeriod) and (since is None or since >= (asked.repPeriod or 0))
    if sample.cell_id == watched.cell and not periodic:
        return None
    watched.cell = sample.cell_id
    return location(asked, sample, now)
