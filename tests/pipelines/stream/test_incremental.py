"""Incremental = batch = two loops, over every declared view, in any order of the rows."""

from datetime import timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_repo import compute
from feature_repo.views import WINDOWED
from feature_repo.windows import View
from pipelines.stream.admission import Admission, Given
from pipelines.stream.incremental import ArrivalState, Incremental
from schemas.tables import TABLES
from tests import oracle
from tests.feature_repo.test_compute import a_view, measurements
from tests.feature_repo.test_compute import table as measured
from tests.feature_repo.test_laws import Sample, _plain, sample
from tests.pipelines.stream.rows import plain

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"

each_view = pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
some = settings(max_examples=12, deadline=None)


def clean(view: View, seed: int) -> Sample:
    """A sample's rows that keep their contracts."""
    found = sample(view, seed)
    tables = ((view.table, found.rows), (view.clock_table, found.clock))
    rows, clock = (TABLES[name].filter(table).result for name, table in tables)
    return Sample(rows, clock) if len(rows) and len(clock) else clean(view, seed + 1)


def streamed(
    view: View, given_rows: Sample, seed: int, jitter_us: int = 0, again: float = 0.0
) -> pl.DataFrame:
    """The rows by arrival, shuffled as far as watermarks let them, in parts of random size.

    The lateness allowed is what the rows need and no more; again: share of rows that come twice.
    """
    random = Random(seed)
    tables = {view.table: given_rows.rows, view.clock_table: given_rows.clock}
    late = [(frame[ARRIVAL] - frame[EVENT]).max() for frame in tables.values()]
    lateness = max(span for span in late if isinstance(span, timedelta))
    rows = [
        (arrival.timestamp() * 1e6 + random.uniform(0, jitter_us), table, number, arrival)
        for table, frame in tables.items()
        for number, arrival in enumerate(frame[ARRIVAL].to_list())
    ]
    last = max(arrival for *_, arrival in rows)
    rows += [(row[0] + random.uniform(0, 9e6), *row[1:]) for row in rows if random.random() < again]
    rows.sort(key=lambda row: (row[0], random.random()))
    states, admission = Incremental([view], lateness), Admission(lateness)
    found, sent = [], {name: plain(frame) for name, frame in tables.items()}
    while rows:
        size = random.choice([1, 1, 2, 7, 30])
        part, rows = rows[:size], rows[size:]
        for table in tables:
            mine = [sent[table][number] for _, of, number, _ in part if of == table]
            places = [("1-0", number) for number in range(len(mine))]
            admitted, refused = admission.judge(
                table, Given(mine, places, [states.watermark] * len(mine))
            )
            assert all(reason.endswith("duplicate_identical") for reason in refused["reason"])
            states.insert(table, admitted)
        to_come = min((arrival for *_, arrival in rows), default=None)
        if to_come is None:
            to_come = last + 2 * (view.tick or timedelta(1))
        found += states.advance(int(to_come.timestamp() * 1e6) - 1).values()
        if random.random() < 0.3:
            states.forget()
            admission.forget(states.watermark)
    empty = given_rows.computed(view).clear()
    return pl.concat([empty, *found]).sort(*view.keys, ARRIVAL)


@each_view
@some
@given(seed=st.integers(0, 10**6), shuffled=st.booleans(), again=st.sampled_from([0.0, 0.3]))
def test_a_stream_gives_the_rows_of_the_batch(
    view: View, seed: int, shuffled: bool, again: float
) -> None:
    given_rows = clean(view, seed)
    step = max(window.length for window in view.windows) / 3
    jitter = int(step.total_seconds() * 1e6) if shuffled else 0
    got = streamed(view, given_rows, seed, jitter, again)
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
    given_rows = clean(view, seed)
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


@settings(max_examples=40, deadline=None)
@given(rows=measurements(), seed=st.integers(0, 10**6))
def test_each_operation_over_rings_equals_the_batch(rows: list[dict[str, Any]], seed: int) -> None:
    view, random = a_view(), Random(seed)
    made = measured(rows)
    state = ArrivalState(view, (made[ARRIVAL] - made[EVENT]).max())  # type: ignore[arg-type]
    found = []
    for (arrival,), part in made.sort(ARRIVAL).partition_by(ARRIVAL, as_dict=True).items():
        state.insert(part)
        state.ask(part)
        if random.random() < 0.5:
            found.append(state.advance(int(arrival.timestamp() * 1e6)))
    found.append(state.advance(2**60))
    got = pl.concat([rows for rows in found if rows is not None]).sort(*view.keys, ARRIVAL)
    batch = compute.features(made, made, view).sort(*view.keys, ARRIVAL)
    assert_frame_equal(got, batch, rel_tol=1e-9, abs_tol=1e-9)


def test_memory_is_bounded_by_window_and_lateness_however_long_the_stream() -> None:
    view, state_rows = a_view(), []
    state = ArrivalState(view, timedelta(seconds=5))
    start = 1_700_000_000_000_000
    for step in range(0, 4000, 20):
        times = [start + second * 1_000_000 for second in range(step, step + 20)]
        part = pl.DataFrame(
            {"ue_id": f"ue{step // 500}", "event_timestamp": times, "arrival_timestamp": times}
        ).with_columns(
            pl.col(EVENT, ARRIVAL).cast(pl.Datetime("us", "UTC")), pl.lit(1.0).alias("sinr_db")
        )
        state.insert(part)
        state.ask(part)
        state.advance(times[-1])
        state.forget()
        state_rows.append(state.held)
    assert max(state_rows) <= 3 * 64  # two UEs side by side, of 30 s, 5 s and 20 s each
    assert len(state.rings.slots) == 1
