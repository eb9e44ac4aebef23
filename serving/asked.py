"""What a request asks for, whichever way it says it: thresholds, priority, 5QI."""

from dataclasses import dataclass
from functools import lru_cache

from schemas.five_qi import DEFAULT_FIVE_QI, FIVE_QIS
from schemas.nef.camara import QosProfile
from schemas.service_class import SERVICE_CLASSES, ServiceClass, ServiceClassName
from serving.requests import PredictRequest

_CLASS_OF_FIVE_QI = {one.five_qi: one for one in SERVICE_CLASSES.values()}


@dataclass(frozen=True)
class Asked:
    """What must be met; null thresholds are not asked.

    service: class whose gate applies; priority: 1..10, 10 the most important; downlink_mbps: at
    least; delay_ms: one way, at most; loss_ratio: 0..1, at most; jitter_ms: at most; source: which
    part of the request the thresholds come from.
    """

    service: ServiceClassName
    priority: int
    five_qi: int
    downlink_mbps: float | None
    delay_ms: float | None
    loss_ratio: float | None
    jitter_ms: float | None
    source: str


def asked_of(request: PredictRequest) -> Asked:
    """What the request asks for, by the precedence that `PredictRequest` states."""
    plain = _of_class(request.service_class, request.five_qi)
    if request.thresholds is None and request.qos_profile is None:
        return plain if request.priority is None else _with(plain, request.priority)
    found: tuple[float | None, float | None, float | None, float | None]
    if request.thresholds is not None:
        given, source, ranked = request.thresholds, "thresholds", None
        found = (given.downlink_mbps, given.delay_ms, given.loss_ratio, given.jitter_ms)
    else:
        assert request.qos_profile is not None
        profile, source = request.qos_profile, "qos_profile"
        found, ranked = _of_profile(profile), profile.priority
    priority = request.priority or (plain.priority if ranked is None else _ranked(ranked, 100))
    return Asked(plain.service, priority, plain.five_qi, *found, source)


@lru_cache(maxsize=4096)
def _of_class(name: ServiceClassName | None, five_qi: int | None) -> Asked:
    if name is not None:
        return _preset(SERVICE_CLASSES[name], five_qi, "service_class")
    if five_qi is None:
        return _preset(SERVICE_CLASSES["default"], DEFAULT_FIVE_QI, "default")
    if five_qi in _CLASS_OF_FIVE_QI:
        return _preset(_CLASS_OF_FIVE_QI[five_qi], five_qi, "five_qi")
    row = FIVE_QIS[five_qi]
    return Asked(
        "default", _ranked(row.priority_level, 127), five_qi, None,
        row.packet_delay_budget_ms, row.packet_error_rate, None, "five_qi",
    )  # fmt: skip


def _preset(one: ServiceClass, five_qi: int | None, source: str) -> Asked:
    loss = round((100 - one.reliability_percent) / 100, 9)
    return Asked(
        one.name, one.priority, one.five_qi if five_qi is None else five_qi, one.downlink_mbps,
        one.delay_ms, loss, one.jitter_ms, source,
    )  # fmt: skip


def _of_profile(
    profile: QosProfile,
) -> tuple[float | None, float | None, float | None, float | None]:
    rate, delay, jitter = (
        profile.targetMinDownstreamRate, profile.packetDelayBudget, profile.jitter,
    )  # fmt: skip
    exponent = profile.packetErrorLossRate
    return (
        None if rate is None else rate.mbps(),
        None if delay is None else delay.ms(),
        None if exponent is None else 10.0**-exponent,
        None if jitter is None else jitter.ms(),
    )


def _ranked(level: int, lowest: int) -> int:
    """1..10, 10 the most important, of a level where 1 is the most important and `lowest` the least."""
    return round(10 - 9 * (level - 1) / (lowest - 1))


def _with(plain: Asked, priority: int) -> Asked:
    return Asked(**{**plain.__dict__, "priority": priority})
