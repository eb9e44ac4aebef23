"""Every converter and its inverse, as laws, and against values worked out by hand."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import units as u

RATES = st.floats(0, 1e9, allow_nan=False, allow_infinity=False)
RATIOS = st.floats(0, 1, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "mbps"),
    [
        ("12.5 Mbps", 12.5),
        ("500 Kbps", 0.5),
        ("500 kbps", 0.5),
        ("1 Gbps", 1000.0),
        ("0.1 Tbps", 100_000.0),
        ("8 bps", 8e-6),
        ("0 bps", 0.0),
    ],
)
def test_a_bit_rate_string_is_read_in_mbps(text: str, mbps: float) -> None:
    assert u.mbps_of_bit_rate(text) == mbps


@pytest.mark.parametrize(
    "text",
    ["", "12.5", "12.5Mbps", "12,5 Mbps", "-1 Mbps", "1e3 bps", "1 mbps", "1 KBPS", "NaN Mbps", "1 Mbps\n",
     "٣ Mbps", ". Mbps", "1. Mbps"],
)  # fmt: skip
def test_any_other_text_is_no_bit_rate(text: str) -> None:
    with pytest.raises(ValueError, match="bit rate"):
        u.mbps_of_bit_rate(text)


@given(RATES)
def test_mbps_survive_the_bit_rate_string_to_the_last_bit(mbps: float) -> None:
    text = u.bit_rate_of_mbps(mbps)
    assert re.fullmatch(r"\d+(\.\d+)? (bps|Kbps|Mbps|Gbps|Tbps)", text)
    assert u.mbps_of_bit_rate(text) == mbps


@given(st.decimals(0, 1023, places=3), st.sampled_from(["bps", "Kbps", "Mbps", "Gbps", "Tbps"]))
def test_a_bit_rate_string_keeps_its_value_when_written_again(number: Decimal, unit: str) -> None:
    mbps = u.mbps_of_bit_rate(f"{number} {unit}")
    assert u.mbps_of_bit_rate(u.bit_rate_of_mbps(mbps)) == mbps


@pytest.mark.parametrize(
    ("mbps", "text"), [(12.5, "12.5 Mbps"), (0.5, "500 Kbps"), (1000.0, "1 Gbps"), (0.0, "0 bps"),
                       (100.0, "100 Mbps"), (1e-7, "0.1 bps")]
)  # fmt: skip
def test_mbps_are_written_in_the_unit_a_reader_would_choose(mbps: float, text: str) -> None:
    assert u.bit_rate_of_mbps(mbps) == text


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), True])
def test_what_is_no_rate_is_refused(bad: float) -> None:
    for write in (u.bit_rate_of_mbps, u.rate_of_mbps):
        with pytest.raises(ValueError, match="rate"):
            write(bad)


@given(st.integers(0, 1024), st.sampled_from(u.RATE_UNITS))
def test_a_camara_rate_survives_as_mbps(value: int, unit: str) -> None:
    mbps = u.mbps_of_rate(value, unit)
    assert u.mbps_of_rate(*u.rate_of_mbps(mbps)) == mbps


@given(st.floats(0, 1e9), st.sampled_from(["down", "up"]))
def test_a_rounded_camara_rate_stays_on_its_side_and_within_a_step(
    mbps: float, way: u.Rounding
) -> None:
    value, unit = u.rate_of_mbps(mbps, way)
    step = u.mbps_of_rate(1, unit)
    back = u.mbps_of_rate(value, unit)
    slack = 1e-9 * max(mbps, 1e-6)
    assert back <= mbps + slack if way == "down" else back >= mbps - slack
    assert abs(back - mbps) <= step + slack


def test_a_rate_that_camara_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.5 Mbps is no whole number"):
        u.rate_of_mbps(1.5)
    assert u.rate_of_mbps(0.5) == (500, "kbps")
    assert u.rate_of_mbps(1000.0) == (1, "Gbps")
    assert u.rate_of_mbps(0.0) == (0, "bps")
    assert u.rate_of_mbps(1.5, "down") == (1, "Mbps")
    assert u.rate_of_mbps(1.5, "up") == (2, "Mbps")
    assert u.rate_of_mbps(1024.5, "up") == (2, "Gbps")


@given(
    st.sampled_from([f"{d}E-{e}" for d in range(1, 10) for e in range(10) if (d, e) <= (1, 9) or e])
)
def test_an_error_rate_string_is_written_as_it_was_read(text: str) -> None:
    assert u.error_rate_of_ratio(u.ratio_of_error_rate(text)) == text


@given(st.floats(1e-9, 1))
def test_a_written_error_rate_never_promises_less(ratio: float) -> None:
    back = u.ratio_of_error_rate(u.error_rate_of_ratio(ratio))
    assert ratio / 2 < back <= ratio


@pytest.mark.parametrize("text", ["1e-3", "1E3", "10E-3", "1E-10", "0.001", "9E-0", "", "1E-3 "])
def test_any_other_text_is_no_error_rate(text: str) -> None:
    with pytest.raises(ValueError, match="packet error rate"):
        u.ratio_of_error_rate(text)


@pytest.mark.parametrize("ratio", [1e-10, 1.1, -1e-3, float("nan")])
def test_a_share_that_the_error_rate_cannot_say_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="packet error ratio"):
        u.error_rate_of_ratio(ratio)


def test_zero_errors_are_zero() -> None:
    assert u.ratio_of_error_rate(u.error_rate_of_ratio(0.0)) == 0.0


@given(st.integers(1, 10))
def test_an_exponent_survives_as_a_share(exponent: int) -> None:
    assert u.exponent_of_ratio(u.ratio_of_exponent(exponent)) == exponent


@given(st.floats(1e-10, 0.1))
def test_a_written_exponent_never_promises_less(ratio: float) -> None:
    assert ratio / 10 < u.ratio_of_exponent(u.exponent_of_ratio(ratio)) <= ratio


@given(st.integers(0, 1000))
def test_tenths_of_a_percent_survive_as_a_share(tenths: int) -> None:
    assert u.percent_tenths_of_ratio(u.ratio_of_percent_tenths(tenths)) == tenths


@given(RATIOS)
def test_a_share_is_within_half_a_tenth_of_a_percent(ratio: float) -> None:
    assert (
        abs(u.ratio_of_percent_tenths(u.percent_tenths_of_ratio(ratio)) - ratio) <= 0.0005 + 1e-12
    )


def test_25_tenths_of_a_percent_are_a_fortieth() -> None:
    assert u.ratio_of_percent_tenths(25) == 0.025
    assert u.ratio_of_exponent(3) == 0.001


@given(st.decimals(0, 100, places=6))
def test_reliability_survives_as_a_share(percent: Decimal) -> None:
    assert u.reliability_of_ratio(u.ratio_of_reliability(float(percent))) == float(percent)


def test_reliability_is_what_is_not_lost() -> None:
    assert u.ratio_of_reliability(99.99) == 0.0001
    assert u.ratio_of_reliability(100) == 0.0


@given(st.floats(0, 1e5), RATIOS)
def test_a_round_trip_is_the_sum_of_its_ways(round_trip: float, share: float) -> None:
    downlink, uplink = u.one_way_of_round_trip(round_trip, share)
    assert downlink >= 0 and uplink >= 0
    assert u.round_trip_of_one_way(downlink, uplink) == pytest.approx(round_trip, rel=1e-12)


def test_a_round_trip_is_halved_unless_told_otherwise() -> None:
    assert u.one_way_of_round_trip(20.0) == (10.0, 10.0)
    assert u.one_way_of_round_trip(20.0, 0.25) == (5.0, 15.0)


@given(st.integers(1, 10**9))
def test_hundredths_of_a_millisecond_survive_as_milliseconds(hundredths: int) -> None:
    assert u.hundredths_of_ms(u.ms_of_hundredths(hundredths)) == hundredths


@pytest.mark.parametrize("ms", [0.0, 0.004, -1.0, float("nan")])
def test_less_than_a_hundredth_of_a_millisecond_is_refused(ms: float) -> None:
    with pytest.raises(ValueError):
        u.hundredths_of_ms(ms)


@given(st.integers(1, 10**6), st.sampled_from(u.DURATION_UNITS))
def test_a_camara_duration_survives_as_milliseconds(value: int, unit: str) -> None:
    ms = u.ms_of_duration(value, unit)
    assert u.ms_of_duration(*u.duration_of_ms(ms)) == ms


def test_durations_are_written_in_their_largest_whole_unit() -> None:
    assert u.duration_of_ms(20.0) == (20, "Milliseconds")
    assert u.duration_of_ms(0.5) == (500, "Microseconds")
    assert u.duration_of_ms(60_000.0) == (1, "Minutes")
    with pytest.raises(ValueError, match="no whole number"):
        u.duration_of_ms(1.00000001)


@given(st.integers(1, 10))
def test_a_priority_survives_both_reversed_scales(priority: int) -> None:
    assert u.priority_of_level(u.level_of_priority(priority)) == priority
    assert u.priority_of_camara(u.camara_of_priority(priority)) == priority


def test_the_reversed_scales_run_the_other_way_and_meet_at_their_ends() -> None:
    levels = [u.level_of_priority(p) for p in range(1, 11)]
    camara = [u.camara_of_priority(p) for p in range(1, 11)]
    assert levels == sorted(levels, reverse=True) and levels[0] == 127 and levels[-1] == 1
    assert camara == sorted(camara, reverse=True) and camara[0] == 100 and camara[-1] == 1


@given(st.integers(1, 127), st.integers(1, 100))
def test_a_foreign_priority_is_at_most_half_a_step_off(level: int, camara: int) -> None:
    assert abs(u.level_of_priority(u.priority_of_level(level)) - level) <= 7
    assert abs(u.camara_of_priority(u.priority_of_camara(camara)) - camara) <= 5.5


@pytest.mark.parametrize("convert", [u.level_of_priority, u.priority_of_level, u.camara_of_priority,
                                     u.priority_of_camara, u.ratio_of_exponent])  # fmt: skip
@pytest.mark.parametrize("bad", [0, 128, -1, True])
def test_a_number_off_its_scale_is_refused(convert: object, bad: int) -> None:
    with pytest.raises(ValueError, match="whole number"):
        convert(bad)  # type: ignore[operator]
