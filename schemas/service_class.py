"""The service classes: what each asks for, how far a request may stray, and its 5QI. The only table.

Presets and envelopes are those of a comparable public system (its request presets, and its request
generator's triangular ranges), which agree: every preset lies within its class's envelope.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from schemas.errors import QosError, listed
from schemas.five_qi import FIVE_QIS

ServiceClassName = Literal["urllc", "embb", "mmtc", "default"]


@dataclass(frozen=True)
class Range:
    """A triangular distribution: low, its most frequent value, high."""

    low: float
    mode: float
    high: float


@dataclass(frozen=True)
class ServiceClass:
    """One class of service.

    five_qi: the standardised value it is mapped to; slice_type: S-NSSAI SST, None: no slice of its own;
    priority: 1..10, 10 the most important; delay_ms: one way, at most; downlink_mbps: at least;
    reliability_percent: packets delivered, at least; jitter_ms: at most; `…_range`: its envelope.
    """

    name: ServiceClassName
    five_qi: int
    slice_type: int | None
    priority: int
    delay_ms: float
    downlink_mbps: float
    reliability_percent: float
    jitter_ms: float
    delay_range_ms: Range
    downlink_range_mbps: Range
    reliability_range_percent: Range
    priority_range: tuple[int, int]


SERVICE_CLASSES: dict[ServiceClassName, ServiceClass] = {
    one.name: one
    for one in (
        ServiceClass(
            "urllc", 82, 2, 10, 5.0, 1.0, 99.99, 1.0,
            Range(1, 2, 10), Range(0.5, 1.5, 5), Range(99.95, 99.995, 99.999), (9, 10),
        ),
        ServiceClass(  # 80 is the standard's low-latency eMBB
            "embb", 80, 1, 7, 50.0, 100.0, 99.0, 15.0,
            Range(20, 45, 80), Range(50, 200, 350), Range(98.5, 99.4, 99.9), (6, 9),
        ),
        ServiceClass(  # 10 is the only value whose delay budget is as long as mMTC's
            "mmtc", 10, 3, 3, 1000.0, 0.1, 95.0, 100.0,
            Range(100, 600, 1000), Range(0.01, 0.2, 1), Range(94, 96, 98.5), (2, 4),
        ),
        ServiceClass(
            "default", 9, None, 5, 100.0, 5.0, 98.0, 20.0,
            Range(30, 80, 200), Range(5, 25, 80), Range(95, 97.5, 99), (4, 6),
        ),
    )
}  # fmt: skip
assert tuple(SERVICE_CLASSES) == get_args(ServiceClassName)


def service_class(name: str) -> ServiceClass:
    """The class of that name, in any case and with spaces about it; `QosError` for an unknown one."""
    plain = name.strip().lower()
    for known, found in SERVICE_CLASSES.items():
        if known == plain:
            return found
    raise QosError(f"unknown service class {name!r}; known: {listed(SERVICE_CLASSES)}")


def class_of_5qi(value: int) -> ServiceClassName:
    """The class a standardised 5QI belongs to: the one mapped to it; else embb for video, else default.

    Raises `QosError` for a value that is not standardised.
    """
    if value not in FIVE_QIS:
        raise QosError(f"unknown 5QI {value}; known: {listed(FIVE_QIS)}")
    for one in SERVICE_CLASSES.values():
        if one.five_qi == value:
            return one.name
    return "embb" if "video" in FIVE_QIS[value].example_services.lower() else "default"
