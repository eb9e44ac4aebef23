"""Incremental = batch = two loops, over every declared view, in any order of the rows."""

from datetime import timedelta
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_repo.views import WINDOWED
from feature_repo.windows import View
from pipelines.stream.incremental import Incremental
from tests import oracle
from tests.feature_repo.test_laws import Sample, _plain, sample

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
ALL = timedelta(days=400)  # more than any sample's rows are late

each_view = pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
some = settings(max_examples=12, deadline=None)


def streamed(
    view: View, given_rows: Sample, seed: int, lateness: timedelta = ALL, jitter_us: int = 0
) -> pl.DataFrame:
    """The rows by arrival, shuffled as far as watermarks let them, in parts of random size."""
    random = Random(seed)
    same = view.table == view.clock_table
    tables = {view.table: given_rows.rows, view.clock_table: given_rows.clock}
    rows = [
        (arrival.timestamp() * 1e6 + random.uniform(0, jitter_us), table, number, arrival)
        for table, frame in tables.items()
        for number, arrival in enumerate(frame[ARRIVAL].to_list())
    ]
    rows.sort(key=lambda row: (row[0], random.random()))
    states = Incremental([view], lateness)
    found = []
    while rows:
        size = random.choice([1, 1, 2, 7, 30])
        part, rows = rows[:size], rows[size:]
        for table in dict.fromkeys([view.table, view.clock_table]):
            numbers = [number for _, of, number, _ in part if of == table]
            states.insert(table, tables[table][numbers])
        to_come = min((arrival for *_, arrival in rows), default=None)
        if to_come is None:
            to_come = max(arrival for *_, arrival in part) + 2 * (view.tick or timedelta(1))
        found += states.advance(int(to_come.timestamp() * 1e6) - 1).values()
        if random.random() < 0.3:
            states.forget()
    assert same or len(tables) == 2
    empty = given_rows.computed(view).clear()
    return pl.concat([empty, *found]).sort(*view.keys, ARRIVAL)


@each_view
@some
@given(seed=st.integers(0, 10**6), shuffled=st.booleans())
def test_a_stream_gives_the_rows_of_the_batch(view: View, seed: int, shuffled: bool) -> None:
    given_rows = sample(view, seed)
    step = max(window.length for window in view.windows) / 3
    jitter = int(step.total_seconds() * 1e6) if shuffled else 0
    got = streamed(view, given_rows, seed, jitter_us=jitter)
    batch = given_rows.computed(view).sort(*view.keys, ARRIVAL)
    counts = [f.name for f in view.features() if f.op == "count"]
    assert got.select(*view.keys, EVENT, ARRIVAL, *counts).equals(
        batch.select(*view.keys, EVENT, ARRIVAL, *counts)
    )
    assert_frame_equal(got, batch, rel_tol=1e-9, abs_tol=1e-6)


@each_view
@some
@given(seed=st.integers(0, 10**6))
def test_a_stream_gives_what_two_loops_over_the_rows_say(view: View, seed: int) -> None:
    given_rows = sample(view, seed)
    names = [feature.name for feature in view.features()]
    windows = {n: (w.column, w.op, w.length) for n, w in zip(names, view.windows, strict=True)}
    slow = oracle.feature_rows(
        _plain(view, given_rows.rows, quantities=True),
        _plain(view, given_rows.clock, quantities=False),
        view.keys, windows, view.tick,
    )  # fmt: skip
    got = streamed(view, given_rows, seed).to_dicts()
    assert len(got) == len(slow)
    for mine, wanted in zip(got, slow, strict=True):
        for name, value in wanted.items():
            close = pytest.approx(value, rel=1e-9, abs=1e-6) if isinstance(value, float) else value
            assert mine[name] == close, name
