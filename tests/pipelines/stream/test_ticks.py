"""Views of ticks: what is folded answers as the rows would, across saving, and takes little memory."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_repo import compute
from feature_repo.views import CELL_HISTORY, WINDOWED
from feature_repo.windows import View, of
from pipelines.stream.incremental import Incremental
from pipelines.stream.ticks import FoldedState, foldable
from tests.feature_repo.test_compute import a_view, measurements, table

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
DAY = timedelta(days=1)
FOLDED = ("count", "mean", "min", "max", "std", "p10", "p95", "share_below_0")


def ticking(*ops: str) -> View:
    windows = tuple(
        w for span in ("1s", "4s", "30s") for w in of("sinr_db", *(f"{op}_{span}" for op in ops))
    )
    return a_view(windows=windows, tick=timedelta(seconds=1))


def test_the_declared_views_of_ticks_fold() -> None:
    views = [view for view in WINDOWED if view.tick is not None]
    assert views and all(foldable(view) for view in views)
    assert foldable(ticking(*FOLDED))
    assert not foldable(ticking("mean", "last"))
    assert not foldable(a_view(tick=timedelta(seconds=3), windows=of("sinr_db", "mean_4s")))


@pytest.mark.parametrize("ops", [FOLDED, ("last", "slope", "mean")], ids=["folded", "rows"])
@settings(max_examples=40, deadline=None)
@given(rows=measurements(), seed=st.integers(0, 10**6))
def test_ticks_equal_the_batch_whatever_was_saved_and_restored_between(
    ops: tuple[str, ...], rows: list[dict[str, Any]], seed: int
) -> None:
    view, random = ticking(*ops), Random(seed)
    made = table(rows)
    state, found = Incremental([view], DAY), []
    saved: list[pl.DataFrame] = []
    so_far: list[pl.DataFrame] = []
    for (arrival,), part in made.sort(ARRIVAL).partition_by(ARRIVAL, as_dict=True).items():
        state.insert("ue_radio", part)
        so_far.append(part)
        if random.random() < 0.5:
            found += state.advance(int(arrival.timestamp() * 1e6)).values()
        if random.random() < 0.3:
            state.forget()
        if random.random() < 0.3:  # a commit, and a crash after it
            saved += state.save().get("v", [])
            before, state = state.watermark, Incremental([view], DAY)
            if saved:
                state.restore("v", state.live("v", before, pl.concat(saved)))
            state.insert("ue_radio", pl.concat(so_far), again=True)
            state.advance(before, compute_rows=False)
    found += state.advance(2**60).values()
    got = pl.concat(found).sort(*view.keys, ARRIVAL)
    batch = compute.features(made, made, view)
    assert_frame_equal(got, batch, rel_tol=1e-9, abs_tol=1e-6)


def test_a_week_of_a_cell_takes_its_hours_and_a_day_of_values() -> None:
    state, start = FoldedState(CELL_HISTORY), datetime(2024, 5, 1, tzinfo=UTC)
    held, values = [], []
    for hour in range(24 * 9):
        at = [start + timedelta(hours=hour, seconds=90 * n + 1) for n in range(40)]
        rows = pl.DataFrame(
            {"cell_id": ["c1"] * 40, EVENT: at, ARRIVAL: at, "downlink_capacity_mbps": 1.0}
        ).with_columns(pl.col(EVENT, ARRIVAL).cast(pl.Datetime("us", "UTC")))
        rows = rows.with_columns(pl.lit(float(hour)).alias("downlink_delay_ms"))
        state.insert(rows)
        state.ask(rows)
        state.advance(int(at[-1].timestamp() * 1e6))
        state.forget()
        held.append(state.held)
        assert state._folded is None or len(state._folded) <= 7 * 24
        if state._folded is not None:
            values.append(state._folded["downlink_delay_ms|values"].list.len().sum())
    assert max(held) <= 7 * 24 + 3
    assert max(values) <= 24 * 40 and values[-1] > 22 * 40
