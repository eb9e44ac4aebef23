"""Converters between the units of 3GPP, CAMARA and our own columns; each has its inverse.

Ours are Mbps (decimal, 1e6 bit/s), milliseconds one way, and shares from 0 to 1. A converter refuses
what its target cannot say with `ValueError`; the ones that round say which way.
"""

import math
import re
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

Rounding = Literal["exact", "down", "up"]

BIT_RATE = re.compile(r"(\d+(?:\.\d+)?) (bps|[Kk]bps|Mbps|Gbps|Tbps)", re.ASCII)
ERROR_RATE = re.compile(r"([0-9])E-([0-9])", re.ASCII)
_EXPONENT_OF_BPS = {"bps": 0, "Kbps": 3, "Mbps": 6, "Gbps": 9, "Tbps": 12}
RATE_UNITS = ("bps", "kbps", "Mbps", "Gbps", "Tbps")
_MS = {
    "Days": Decimal(86_400_000),
    "Hours": Decimal(3_600_000),
    "Minutes": Decimal(60_000),
    "Seconds": Decimal(1000),
    "Milliseconds": Decimal(1),
    "Microseconds": Decimal("1e-3"),
    "Nanoseconds": Decimal("1e-6"),
}
DURATION_UNITS = tuple(_MS)
MAX_RATE_VALUE = 1024
MAX_DURATION_VALUE = 2_147_483_647


def _finite(value: float, low: float, high: float, what: str) -> float:
    if isinstance(value, bool) or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{what}: {value!r}, must be a number in [{low:g}, {high:g}]")
    return value


# -- bit rates ------------------------------------------------------------------------------------


def standard_bit_rate(text: str) -> str:
    """A BitRate string as 3GPP TS 29.571 spells it: capital K. `ValueError` for any other text."""
    if BIT_RATE.fullmatch(text) is None:
        raise ValueError(f"bit rate: {text!r}, must be like '12.5 Mbps' (bps|Kbps|Mbps|Gbps|Tbps)")
    return text.replace("kbps", "Kbps")


def mbps_of_bit_rate(text: str) -> float:
    """'12.5 Mbps' (TS 29.571 BitRate; kbps is read as Kbps) to Mbps."""
    number, unit = standard_bit_rate(text).split(" ")
    mbps = float(Decimal(number).scaleb(_EXPONENT_OF_BPS[unit] - 6))
    return _finite(mbps, 0, math.inf, "bit rate [Mbps]")


def bit_rate_of_mbps(mbps: float) -> str:
    """Mbps to a BitRate string in the largest unit that leaves 1 or more; exact, never an exponent."""
    exact = Decimal(repr(float(_finite(mbps, 0, math.inf, "bit rate [Mbps]"))))
    bps = exact.scaleb(6)
    units = [
        (unit, power) for unit, power in _EXPONENT_OF_BPS.items() if bps >= Decimal(10) ** power
    ]
    unit, power = units[-1] if units else ("bps", 0)
    number = format(bps.scaleb(-power), "f")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def mbps_of_rate(value: int, unit: str) -> float:
    """A CAMARA Rate to Mbps: {value: 500, unit: kbps} is 0.5."""
    if unit not in RATE_UNITS:
        raise ValueError(f"rate unit: {unit!r}; allowed: {list(RATE_UNITS)}")
    _finite(value, 0, MAX_RATE_VALUE, "rate value")
    return mbps_of_bit_rate(f"{value} {unit}")


def rate_of_mbps(mbps: float, rounding: Rounding = "exact") -> tuple[int, str]:
    """Mbps to a CAMARA Rate (whole value 0..1024, unit), in the largest unit that says it exactly.

    `exact` raises `ValueError` where no pair does; `down` and `up` then keep within one step of the
    finest unit that reaches so far.
    """
    bps = Decimal(repr(float(_finite(mbps, 0, 1024e6, "rate [Mbps]")))).scaleb(6)
    scaled = [(bps.scaleb(-3 * step), unit) for step, unit in enumerate(RATE_UNITS)]
    fitting = [(value, unit) for value, unit in scaled if value <= MAX_RATE_VALUE]
    whole_ones = [(int(value), unit) for value, unit in fitting if value == int(value)]
    if whole_ones:
        return whole_ones[-1] if bps else whole_ones[0]
    if rounding == "exact":
        raise ValueError(
            f"rate: {mbps!r} Mbps is no whole number up to 1024 of any of {RATE_UNITS}"
        )
    value, unit = fitting[0]
    whole = int(value.to_integral_value(ROUND_FLOOR)) + (rounding == "up")
    if whole > MAX_RATE_VALUE:  # 1024.5 Mbps up is 2 Gbps
        whole, unit = 2, RATE_UNITS[RATE_UNITS.index(unit) + 1]
    return whole, unit


# -- shares of lost packets -----------------------------------------------------------------------


def ratio_of_error_rate(text: str) -> float:
    """A PacketErrRate string (TS 29.571) to a share: '1E-3' is 0.001. Above 1 is refused."""
    if ERROR_RATE.fullmatch(text) is None:
        raise ValueError(f"packet error rate: {text!r}, must be like '1E-3' (one digit each)")
    return _finite(float(text), 0, 1, f"packet error rate {text!r}")


def error_rate_of_ratio(ratio: float) -> str:
    """A share to the PacketErrRate string that is equal or next below it: never a looser promise.

    A share above 0 and below 1E-9 cannot be said and raises `ValueError`.
    """
    exact = Decimal(repr(float(_finite(ratio, 0, 1, "packet error ratio"))))
    if exact == 0:
        return "0E-0"
    if exact < Decimal("1e-9"):
        raise ValueError(f"packet error ratio: {ratio!r}, the smallest that can be said is 1E-9")
    power = exact.adjusted()
    return f"{int(exact.scaleb(-power))}E-{-power}"


def ratio_of_exponent(exponent: int) -> float:
    """CAMARA packetErrorLossRate to a share: 3 is 0.001."""
    if isinstance(exponent, bool) or exponent not in range(1, 11):
        raise ValueError(f"packet error exponent: {exponent!r}, must be a whole number in [1, 10]")
    return float(f"1e-{exponent}")


def exponent_of_ratio(ratio: float) -> int:
    """A share to the CAMARA exponent of the same power of ten or the next below it (0.005 is 3)."""
    exact = Decimal(repr(float(_finite(ratio, 1e-10, 1, "packet error ratio"))))
    power = exact.adjusted()
    return max(1, -power)


def ratio_of_percent_tenths(tenths: int) -> float:
    """TS 29.571 PacketLossRate, tenths of a percent 0..1000, to a share: 25 is 0.025."""
    if isinstance(tenths, bool) or tenths not in range(1001):
        raise ValueError(f"packet loss rate: {tenths!r}, must be a whole number in [0, 1000]")
    return tenths / 1000


def percent_tenths_of_ratio(ratio: float) -> int:
    """A share to the nearest tenth of a percent, 0..1000."""
    return round(_finite(ratio, 0, 1, "packet loss ratio") * 1000)


def ratio_of_reliability(percent: float) -> float:
    """Reliability in percent to the share of packets that may be lost: 99.99 is 0.0001."""
    exact = Decimal(repr(float(_finite(percent, 0, 100, "reliability [%]"))))
    return float((100 - exact).scaleb(-2))


def reliability_of_ratio(ratio: float) -> float:
    """The share of packets that may be lost to reliability in percent."""
    exact = Decimal(repr(float(_finite(ratio, 0, 1, "packet loss ratio"))))
    return float(100 - exact.scaleb(2))


# -- delays ---------------------------------------------------------------------------------------


def round_trip_of_one_way(downlink_ms: float, uplink_ms: float) -> float:
    """Both ways' delays to the round trip [ms]."""
    return _finite(downlink_ms, 0, math.inf, "delay [ms]") + _finite(
        uplink_ms, 0, math.inf, "delay [ms]"
    )


def one_way_of_round_trip(round_trip_ms: float, downlink_share: float = 0.5) -> tuple[float, float]:
    """(downlink, uplink) delay [ms] of a round trip, by the share that is downlink's: an assumption."""
    _finite(round_trip_ms, 0, math.inf, "round trip [ms]")
    downlink = round_trip_ms * _finite(downlink_share, 0, 1, "downlink share")
    return downlink, round_trip_ms - downlink


def ms_of_hundredths(hundredths: int) -> float:
    """TS 29.571 ExtPacketDelBudget, units of 0.01 ms from 1 upward, to ms: 50 is 0.5."""
    if isinstance(hundredths, bool) or hundredths < 1:
        raise ValueError(f"delay budget [0.01 ms]: {hundredths!r}, must be 1 or more")
    return hundredths / 100


def hundredths_of_ms(ms: float) -> int:
    """ms to the nearest ExtPacketDelBudget; what is nearer to 0 than to 0.01 ms is refused."""
    return int(_finite(round(_finite(ms, 0, 2**43, "delay [ms]") * 100), 1, 2**53, "0.01 ms"))


def ms_of_duration(value: int, unit: str) -> float:
    """A CAMARA Duration to ms: {value: 20, unit: Milliseconds} is 20."""
    if unit not in _MS:
        raise ValueError(f"duration unit: {unit!r}; allowed: {list(_MS)}")
    if isinstance(value, bool) or value not in range(1, MAX_DURATION_VALUE + 1):
        raise ValueError(f"duration value: {value!r}, must be in [1, {MAX_DURATION_VALUE}]")
    return float(value * _MS[unit])


def duration_of_ms(ms: float) -> tuple[int, str]:
    """ms to a CAMARA Duration (value, unit) in the largest unit in which it is whole.

    What is no whole number of nanoseconds, or out of the format's reach, raises `ValueError`.
    """
    exact = Decimal(
        repr(float(_finite(ms, 1e-6, 86_400_000.0 * MAX_DURATION_VALUE, "duration [ms]")))
    )
    for unit, size in _MS.items():
        value = exact / size
        if value == value.to_integral_value() and 1 <= value <= MAX_DURATION_VALUE:
            return int(value), unit
    raise ValueError(
        f"duration: {ms!r} ms is no whole number up to {MAX_DURATION_VALUE} of any unit"
    )


# -- priorities -----------------------------------------------------------------------------------
# Ours is 1..10 with 10 the most important; 3GPP's (1..127) and CAMARA's (1..100) run the other way.


def level_of_priority(priority: int) -> int:
    """Our priority to a 5QI priority level: 10 is 1, 1 is 127, evenly between."""
    return 1 + 14 * (10 - _whole(priority, 10, "priority"))


def priority_of_level(level: int) -> int:
    """A 5QI priority level 1..127 to the nearest of ours."""
    return 10 - _nearest(_whole(level, 127, "priority level") - 1, 14)


def camara_of_priority(priority: int) -> int:
    """Our priority to CAMARA's: 10 is 1, 1 is 100, evenly between."""
    return 1 + 11 * (10 - _whole(priority, 10, "priority"))


def priority_of_camara(priority: int) -> int:
    """CAMARA's priority 1..100 to the nearest of ours."""
    return 10 - _nearest(_whole(priority, 100, "CAMARA priority") - 1, 11)


def _whole(value: int, high: int, what: str) -> int:
    if isinstance(value, bool) or value not in range(1, high + 1):
        raise ValueError(f"{what}: {value!r}, must be a whole number in [1, {high}]")
    return value


def _nearest(value: int, step: int) -> int:
    return (2 * value + step) // (2 * step)
