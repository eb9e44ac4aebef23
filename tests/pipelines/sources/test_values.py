"""Numbers, units and times of text: converted, or null with a counted reason, or refused."""

import math
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.times import TimeColumn
from pipelines.sources.units import UNITS, conversion
from pipelines.sources.values import Number, count_nulls, refusal
from schemas.errors import QosError


def _rows(*texts: str | None) -> pl.DataFrame:
    return pl.DataFrame({"v": texts}, schema={"v": pl.String})


def _values(number: Number, *texts: str | None) -> list[float | None]:
    return _rows(*texts).select(number.expression())["v"].to_list()


def _why(number: Number, target: str, *texts: str | None) -> list[str | None]:
    return _rows(*texts).select(refusal({target: number})).to_series().to_list()


def test_missing_markers_and_sentinels_are_null_and_counted() -> None:
    number = Number("v", sentinels=(-200.0, 2147483647.0), below=(-150.0, "below the floor"))
    texts = ("-90", "-", "", "-200", "-200.0", "2147483647", "-151", None)
    assert _values(number, *texts) == [-90.0, *[None] * 7]
    assert count_nulls(_rows(*texts), "ue_radio", {"rsrp_dbm": number}) == {
        "ue_radio.rsrp_dbm": {
            "missing '-'": 1,
            "missing ''": 1,
            "sentinel -200": 2,
            "sentinel 2.14748e+09": 1,
            "below the floor": 1,
        }
    }
    assert _why(number, "rsrp_dbm", *texts) == [None] * len(texts)


def test_no_number_has_no_nulls() -> None:
    assert count_nulls(_rows("1"), "ue_radio", {}) == {}


def test_text_that_is_no_number_refuses_its_row() -> None:
    why = _why(Number("v"), "cqi", "1E05", "77E4x", "12,5", " 7 ")
    assert why == [None, "unparseable: cqi 77E4x", "unparseable: cqi 12,5", None]


@pytest.mark.parametrize("text", ["001011234567890", "+4917012345678", "2.62011234567890e14"])
def test_a_number_as_long_as_a_subscriber_id_is_none(text: str) -> None:
    number = Number("v")
    assert _values(number, text) == [None]
    assert _why(number, "rsrp_dbm", text) == [f"unparseable: rsrp_dbm {text}"]


def test_ten_digits_of_bits_per_second_are_a_rate() -> None:
    assert _values(Number("v", scale=1e-6), "2500000000", "262011234567890") == [2500.0, None]


def test_a_whole_number_is_asked_for_where_the_column_counts() -> None:
    number = Number("v", whole=True)
    texts = ("9", "9.0", "9.5", "inf", "NaN", "1e300")
    assert _values(number, *texts) == [9.0, 9.0, None, None, None, None]
    why = _why(number, "five_qi", *texts)
    assert why == [None, None, *(f"unparseable: five_qi {text}" for text in texts[2:])]


@pytest.mark.parametrize(
    ("unit", "wanted", "value", "converted"),
    [
        ("km/h", "m/s", 36.0, 10.0),
        ("mph", "m/s", 10.0, 4.4704),
        ("kn", "m/s", 1.0, 0.5144444444),
        ("kbps", "Mbps", 1500.0, 1.5),
        ("bps", "Mbps", 2e6, 2.0),
        ("Gbps", "Mbps", 1.5, 1500.0),
        ("B/s", "Mbps", 125_000.0, 1.0),
        ("kB/s", "Mbps", 125.0, 1.0),
        ("MB/s", "Mbps", 2.0, 16.0),
        ("s", "ms", 0.0093, 9.3),
        ("us", "ms", 250.0, 0.25),
        ("%", "1", 5.0, 0.05),
        ("percent", "1", 5.0, 0.05),
        ("permille", "1", 5.0, 0.005),
        ("tenths of a percent", "1", 5.0, 0.005),
        ("ratio", "1", 0.5, 0.5),
        ("dB/10", "dB", -125.0, -12.5),
        ("dBm/10", "dBm", -905.0, -90.5),
        ("dBm", "dBm", -90.0, -90.0),
    ],
)
def test_units_convert(unit: str, wanted: str, value: float, converted: float) -> None:
    scale, offset = conversion(unit, wanted, "here")
    assert math.isclose(value * scale + offset, converted, rel_tol=1e-9)
    assert math.isclose(_values(Number("v", scale, offset), str(value))[0] or 0, converted)


def test_every_unit_leads_to_a_unit_that_is_its_own() -> None:
    assert all(UNITS[target] == (target, 1.0, 0.0) for target, _, _ in UNITS.values())


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (
            "kmph",
            r"here: unknown unit 'kmph'; for \[m/s\] there are \['km/h', 'kn', 'm/s', 'mph'\]",
        ),
        ("kbps", r"here: unit 'kbps' is no \[m/s\]; allowed: \['km/h', 'kn', 'm/s', 'mph'\]"),
        ("KM/H", r"here: unknown unit 'KM/H'; .*"),
        ("mphh", r"here: unknown unit 'mphh'; .*; did you mean 'mph'\?"),
    ],
)
def test_an_unknown_unit_is_refused_with_the_known(unit: str, said: str) -> None:
    with pytest.raises(QosError, match=f"^{said}"):
        conversion(unit, "m/s", "here")


def _times(column: TimeColumn, *values: object, dtype: pl.DataType | None = None) -> list[object]:
    rows = pl.DataFrame({"t": pl.Series(values, dtype=dtype or pl.String(), strict=False)})
    found = rows.select(t=column.expression("m.yaml: event_time", rows))["t"]
    assert found.dtype == pl.Datetime("us", "UTC")
    return found.to_list()


NOON = datetime(2024, 3, 5, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (TimeColumn(column="t"), "2024-03-05T12:00:00Z"),
        (TimeColumn(column="t"), "2024-03-05 20:00:00.000+08:00"),
        (TimeColumn(column="t"), "2024-03-05T20:00:00+0800"),
        (TimeColumn(column="t", zone="+08:00"), "2024-03-05T20:00:00"),
        (TimeColumn(column="t", zone="-0330"), "2024-03-05T08:30:00"),
        (TimeColumn(column="t", zone="Asia/Taipei"), "2024-03-05 20:00:00"),
        (TimeColumn(column="t", zone="Asia/Taipei"), "2024-03-05T12:00:00Z"),
        (TimeColumn(column="t", format="%d.%m.%Y %H:%M:%S", zone="UTC"), "05.03.2024 12:00:00"),
        (TimeColumn(column="t", format="%Y%m%d %H%M%S %z"), "20240305 140000 +0200"),
        (TimeColumn(column="t", format="epoch_s"), "1709640000"),
        (TimeColumn(column="t", format="epoch_ms"), "1709640000000"),
        (TimeColumn(column="t", format="epoch_us"), "1709640000000000"),
    ],
)
def test_times_come_out_in_utc(column: TimeColumn, text: str) -> None:
    assert _times(column, text) == [NOON]


@pytest.mark.parametrize("form", ["iso", "%Y-%m-%dT%H:%M:%S"])
def test_a_naive_time_without_a_zone_is_refused(form: str) -> None:
    said = r"^m.yaml: event_time: .*times in 't' bear no zone and the mapping names none; add `zone"
    with pytest.raises(QosError, match=said):
        _times(TimeColumn(column="t", format=form), "2024-03-05T12:00:00", "2024-03-05T12:00:00")


def test_naive_times_are_counted() -> None:
    with pytest.raises(QosError, match=r": 1 of 4 times in 't' bear no zone"):
        _times(TimeColumn(column="t"), "2024-03-05T12:00:00", "2024-03-05T12:00:00Z", "noon", None)


def test_text_that_is_no_time_is_no_naive_time() -> None:
    assert _times(TimeColumn(column="t"), "noon", "2024-03-05T12:00:00Z") == [None, NOON]


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(QosError, match=r"unknown zone 'Taipei'; e\.g\. UTC"):
        _times(TimeColumn(column="t", zone="Taipei"), "2024-03-05T12:00:00")


def test_typed_times_need_a_zone_too() -> None:
    naive = pl.Datetime("ns")
    with pytest.raises(QosError, match="bear no zone"):
        _times(TimeColumn(column="t"), datetime(2024, 3, 5, 12), dtype=naive)
    assert _times(TimeColumn(column="t", zone="+01:00"), datetime(2024, 3, 5, 13), dtype=naive) == [
        NOON
    ]
    zoned = pl.Datetime("ms", "Asia/Taipei")
    assert _times(TimeColumn(column="t"), NOON, dtype=zoned) == [NOON]


def test_hours_that_a_clock_change_makes_doubtful_are_null() -> None:
    local = TimeColumn(column="t", zone="Europe/Dublin")
    assert _times(local, "2024-03-31T01:30:00", "2024-10-27T01:30:00") == [None, None]


@pytest.mark.parametrize("form", ["epoch_s", "epoch_ms", "epoch_us", "iso", "%Y-%m-%d %H:%M:%S"])
def test_what_is_no_time_is_null(form: str) -> None:
    column = TimeColumn(column="t", format=form, zone="UTC")
    texts = ("", "-", "noon", "inf", "NaN", "1e30", "-1e18", "2024-13-01 00:00:00", None)
    assert _times(column, *texts) == [None] * len(texts)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_offset_is_honoured(instant: datetime, minutes: int) -> None:
    instant = instant.replace(tzinfo=UTC)
    local = instant.astimezone(timezone(timedelta(minutes=minutes)))
    assert _times(TimeColumn(column="t"), local.isoformat()) == [instant]
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    naive = local.replace(tzinfo=None).isoformat()
    assert _times(TimeColumn(column="t", zone=zone), naive) == [instant]
