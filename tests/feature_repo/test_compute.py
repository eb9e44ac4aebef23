"""The fast windows against two loops, and the laws of what is known when."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_repo import compute
from feature_repo.windows import View, Window, of
from tests import oracle

START = datetime(2024, 3, 1, tzinfo=UTC)
OPS = tuple(oracle.OPS)
KEYS = ("ue_id",)


def a_view(**changes: Any) -> View:
    windows = tuple(
        w for span in ("1s", "4s", "30s") for w in of("sinr_db", *(f"{op}_{span}" for op in OPS))
    )
    plain: dict[str, Any] = {
        "name": "v", "entity": "ue", "keys": KEYS, "table": "ue_radio", "description": "",
        "ttl": timedelta(seconds=10), "windows": windows,
    }  # fmt: skip
    return View(**(plain | changes))


def named(windows: tuple[Window, ...]) -> dict[str, Any]:
    return {f"ue_{w.column}_{w.op}_{w.span}": (w.column, w.op, w.length) for w in windows}


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={
            "ue_id": pl.String,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "arrival_timestamp": pl.Datetime("us", "UTC"),
            "sinr_db": pl.Float64,
        },
    )


@st.composite
def measurements(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of up to three UEs, some late, some null; (ue, event) is unique as after admission."""
    n = draw(st.integers(1, 40))
    events = draw(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 160)),
            min_size=n,
            max_size=n,
            unique=True,
        )
    )
    return [
        {
            "ue_id": ue,
            "event_timestamp": START + timedelta(milliseconds=250 * step),
            "arrival_timestamp": START
            + timedelta(
                milliseconds=250 * (step + draw(st.sampled_from([0, 0, 0, 0, 1, 3, 20, 100])))
            ),
            "sinr_db": draw(st.one_of(st.none(), st.integers(-20, 30).map(float))),
        }
        for ue, step in events
    ]


def assert_same(fast: pl.DataFrame, slow: list[dict[str, Any]]) -> None:
    assert len(fast) == len(slow)
    for got, wanted in zip(
        fast.sort(*KEYS, "arrival_timestamp").iter_rows(named=True), slow, strict=True
    ):
        for name, value in wanted.items():
            if isinstance(value, float):
                assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
            else:
                assert got[name] == value, name


@settings(max_examples=150, deadline=None)
@given(measurements())
def test_each_operation_equals_two_loops_with_late_rows(
    rows: list[dict[str, Any]],
) -> None:
    view = a_view()
    fast = compute.features(table(rows), table(rows), view)
    assert_same(fast, oracle.feature_rows(rows, rows, KEYS, named(view.windows)))


@settings(max_examples=60, deadline=None)
@given(measurements())
def test_ticks_equal_two_loops_with_late_rows(rows: list[dict[str, Any]]) -> None:
    tick = timedelta(seconds=5)
    view = a_view(tick=tick)
    fast = compute.features(table(rows), table(rows), view)
    assert_same(fast, oracle.feature_rows(rows, rows, KEYS, named(view.windows), tick))


@settings(max_examples=60, deadline=None)
@given(measurements(), measurements())
def test_another_tables_clock_asks_for_the_computation(
    rows: list[dict[str, Any]], clock: list[dict[str, Any]]
) -> None:
    view = a_view(clock="ue_motion")
    fast = compute.features(table(rows), table(clock), view)
    assert_same(fast, oracle.feature_rows(rows, clock, KEYS, named(view.windows)))


@settings(max_examples=60, deadline=None)
@given(measurements(), st.integers(0, 200))
def test_cutting_the_data_at_a_time_changes_nothing_known_before(
    rows: list[dict[str, Any]], step: int
) -> None:
    cut = START + timedelta(milliseconds=250 * step)
    view = a_view()
    whole = compute.features(table(rows), table(rows), view)
    early = table([r for r in rows if r["arrival_timestamp"] <= cut])
    part = compute.features(early, early, view)
    # A torn window is added up in another order once its late row is there: equal but for rounding.
    assert_frame_equal(part, whole.filter(pl.col("arrival_timestamp") <= cut), abs_tol=1e-9)


@settings(max_examples=30, deadline=None)
@given(measurements(), st.randoms())
def test_row_order_is_irrelevant(rows: list[dict[str, Any]], random: Any) -> None:
    view = a_view()
    shuffled = rows[:]
    random.shuffle(shuffled)
    assert compute.features(table(rows), table(rows), view).equals(
        compute.features(table(shuffled), table(shuffled), view)
    )


def test_a_late_row_counts_from_its_arrival_on_and_not_before() -> None:
    def row(event_s: float, arrival_s: float, value: float) -> dict[str, Any]:
        return {
            "ue_id": "a",
            "event_timestamp": START + timedelta(seconds=event_s),
            "arrival_timestamp": START + timedelta(seconds=arrival_s),
            "sinr_db": value,
        }

    rows = table([row(0, 0, 1.0), row(1, 3.5, 100.0), row(2, 2, 3.0), row(3, 3, 5.0)])
    found = compute.features(rows, rows, a_view(windows=of("sinr_db", "max_30s", "count_30s")))
    assert found["arrival_timestamp"].to_list() == [
        START + timedelta(seconds=s) for s in (0, 2, 3, 3.5)
    ]
    assert found["event_timestamp"].to_list() == [
        START + timedelta(seconds=s) for s in (0, 2, 3, 3)
    ]
    assert found["ue_sinr_db_max_30s"].to_list() == [1.0, 3.0, 5.0, 100.0]
    assert found["ue_sinr_db_count_30s"].to_list() == [1.0, 2.0, 3.0, 4.0]


def test_an_empty_table_gives_an_empty_table_with_every_column() -> None:
    found = compute.features(table([]), table([]), a_view())
    assert found.is_empty()
    assert set(named(a_view().windows)) <= set(found.columns)


def test_many_rows_of_one_instant_are_summed_in_one_order_on_every_run() -> None:
    """Rounding hangs on the order of a sum, so an order left to threads gives other bytes."""
    random = Random(5)
    instants = [START + timedelta(seconds=second) for second in range(500)]
    rows = table(
        [
            {
                "ue_id": "a",
                "event_timestamp": at,
                "arrival_timestamp": at,
                "sinr_db": random.gauss(0, 9),
            }
            for at in instants
            for _ in range(20)
        ]
    )
    asked = table(
        [
            {"ue_id": "a", "event_timestamp": at, "arrival_timestamp": at, "sinr_db": None}
            for at in (at + timedelta(milliseconds=500) for at in instants)
        ]
    )
    view = a_view(clock="ue_flow", windows=of("sinr_db", "mean_30s", "slope_30s"))
    first = compute.features(rows, asked, view)
    for _ in range(5):
        assert compute.features(rows, asked, view).equals(first)
