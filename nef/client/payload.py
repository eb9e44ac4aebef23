"""A QoS requirement payload to a checked requirement; every violation at once."""

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from schemas.errors import QosError, listed
from schemas.service_class import SERVICE_CLASSES, ServiceClass, ServiceClassName
from schemas.units import ratio_of_reliability

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CONTAINERS = ("requirements", "qos_requirements", "qosRequirements")


@dataclass(frozen=True)
class Threshold:
    """A threshold's spellings, first ours, and its range: above `low` (or from it on) up to `high`."""

    names: tuple[str, ...]
    low: float
    high: float
    positive: bool
    unit: str

    @property
    def allowed(self) -> str:
        """The range in words."""
        return f"{'(' if self.positive else '['}{self.low:g}, {self.high:g}] {self.unit}"


THRESHOLDS: dict[str, Threshold] = {
    spec.names[0]: spec
    for spec in (
        Threshold(
            ("latency_requirement_ms", "latencyRequirementMs", "latency_ms", "latency"),
            0, 60_000, True, "ms",
        ),
        Threshold(
            ("throughput_requirement_mbps", "throughputRequirementMbps", "throughput_mbps",
             "throughput"),
            0, 10_000, False, "Mbps",
        ),
        Threshold(
            ("reliability_pct", "reliabilityPct", "reliability_percent", "reliability"),
            0, 100, False, "percent",
        ),
        Threshold(("jitter_ms", "jitterMs"), 0, 60_000, False, "ms"),
    )
}  # fmt: skip


class RefusedPayload(QosError, ValueError):
    """A payload that is none; `violations` has each as (field, reason)."""

    def __init__(self, violations: Iterable[tuple[str, str]]) -> None:
        """One line that states them all."""
        self.violations = tuple(violations)
        told = "; ".join(f"{field}: {reason}" for field, reason in self.violations)
        super().__init__(f"QoS payload: {len(self.violations)} violations: {told}")


@dataclass(frozen=True)
class QosRequirement:
    """What was asked for one UE.

    delay_ms is one way, at most; downlink_mbps at least; loss_ratio and jitter_ms at most; None: not
    asked. A payload that states no threshold asks for its class's; `stated` names those it states.
    priority 1..10, 10 the most important: the payload's, else the class's own.
    """

    service_class: ServiceClassName
    five_qi: int
    priority: int
    delay_ms: float | None
    downlink_mbps: float | None
    reliability_percent: float | None
    jitter_ms: float | None
    stated: tuple[str, ...]

    @property
    def loss_ratio(self) -> float | None:
        """The share of packets that may be lost."""
        percent = self.reliability_percent
        return None if percent is None else ratio_of_reliability(percent)


def read_requirement(payload: object, required_thresholds: Collection[str] = ()) -> QosRequirement:
    """The requirement that a payload states; raises `RefusedPayload` with every violation.

    required_thresholds: keys of `THRESHOLDS` that the payload itself must state; `QosError` for others.
    """
    for name in required_thresholds:
        if name not in THRESHOLDS:
            raise QosError(f"required_thresholds: unknown {name!r}; known: {listed(THRESHOLDS)}")
    if not isinstance(payload, dict):
        raise RefusedPayload([("payload", f"is {_kind(payload)}, must be an object")])
    if not payload:
        raise RefusedPayload([("payload", "is empty")])
    violations: list[tuple[str, str]] = []
    service = _service(payload, violations)
    priority = _priority(payload, violations)
    thresholds = {name: _threshold(payload, spec, violations) for name, spec in THRESHOLDS.items()}
    stated = tuple(name for name, value in thresholds.items() if value is not None)
    faulty = {field for field, _ in violations}
    violations += [
        (name, "is required and missing")
        for name in required_thresholds
        if name not in stated and name not in faulty
    ]
    if not stated and service is None and not violations:
        known = [name for spec in THRESHOLDS.values() for name in spec.names[:1]]
        violations.append(("payload", f"states neither a service class nor any of {known}"))
    if violations:
        raise RefusedPayload(violations)
    found = service or SERVICE_CLASSES["default"]
    if not stated:
        preset = (found.delay_ms, found.downlink_mbps, found.reliability_percent, found.jitter_ms)
        thresholds = dict(zip(THRESHOLDS, preset, strict=True))
    delay, downlink, reliability, jitter = thresholds.values()
    return QosRequirement(
        service_class=found.name,
        five_qi=found.five_qi,
        priority=found.priority if priority is None else priority,
        delay_ms=delay,
        downlink_mbps=downlink,
        reliability_percent=reliability,
        jitter_ms=jitter,
        stated=stated,
    )


def _service(payload: dict[str, Any], violations: list[tuple[str, str]]) -> ServiceClass | None:
    names = ("service_type", "serviceType")
    value = _one_of(payload, names, violations)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        violations.append((names[0], f"is {_kind(value)}, must be text"))
        return None
    found = next((c for n, c in SERVICE_CLASSES.items() if n == value.strip().lower()), None)
    if found is None:
        reason = f"unknown service class {_shown(value)}; known: {listed(SERVICE_CLASSES)}"
        violations.append((names[0], reason))
    return found


def _priority(payload: dict[str, Any], violations: list[tuple[str, str]]) -> int | None:
    names = ("service_priority", "servicePriority")
    value = _one_of(payload, names, violations)
    if value is None:
        return None
    number = _number(value)
    if (
        number is None
        or not math.isfinite(number)
        or number != int(number)
        or not 1 <= number <= 10
    ):
        reason = f"is {_shown(value)}, must be a whole number in [1, 10], 10 the most important"
        violations.append((names[0], reason))
        return None
    return int(number)


def _threshold(
    payload: dict[str, Any], spec: Threshold, violations: list[tuple[str, str]]
) -> float | None:
    name = spec.names[0]
    nested: dict[str, Any] = next(
        (payload[key] for key in _CONTAINERS if isinstance(payload.get(key), dict)), {}
    )
    before = len(violations)
    found = [_one_of(place, spec.names, violations) for place in (nested, payload)]
    if len(violations) > before:
        return None
    told = [value for value in found if value is not None]
    if not told:
        return None
    numbers = [_number(value) for value in told]
    if len(told) > 1 and numbers[0] != numbers[1]:
        violations.append((name, f"is {_shown(told[0])} and {_shown(told[1])} at once"))
        return None
    number = numbers[0]
    if number is None:
        violations.append((name, f"is {_shown(told[0])}, must be a number"))
    elif not math.isfinite(number):
        violations.append((name, f"is {_shown(told[0])}, must be finite"))
    elif not spec.low <= number <= spec.high or (spec.positive and number == spec.low):
        violations.append((name, f"is {_shown(told[0])}, must be in {spec.allowed}"))
    else:
        return number
    return None


def _one_of(
    place: dict[str, Any], names: tuple[str, ...], violations: list[tuple[str, str]]
) -> Any:
    """The value under any of its names; two names with different values are a violation."""
    told = {name: place[name] for name in names if place.get(name) is not None}
    values = list(told.values())
    if any(value != values[0] and _number(value) != _number(values[0]) for value in values[1:]):
        violations.append((names[0], f"differs between {' and '.join(told)}"))
        return None
    return values[0] if values else None


def _number(value: object) -> float | None:
    """The number, or the one that a text spells; None for all else, NaN and infinity as they are."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            plain = value.strip()
            if plain.lower().lstrip("+-") in ("nan", "inf", "infinity") or _NUMBER.fullmatch(plain):
                return float(plain)
    except OverflowError:
        return math.inf
    return None


def _kind(value: object) -> str:
    kinds = {
        type(None): "null",
        bool: "a truth value",
        list: "a list",
        str: "text",
        dict: "an object",
    }
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else "no JSON value")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a whole number too long to print
        text = _kind(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
