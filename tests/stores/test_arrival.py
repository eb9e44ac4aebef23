"""Which rows a run reads of a source, against two loops; and where it starts."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from feast import FeatureView, Field
from feast.infra.common.materialization_job import MaterializationTask
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from stores import arrival
from stores.arrival import Watermark, batches, pull, source_rows
from stores.engine import first_event
from stores.times import BEYOND, micros
from tests.stores.example import NOON
from tests.stores.fillable import HOUR, trip, views, write_source

SECOND = timedelta(seconds=1)
INSTANTS = st.integers(0, 6)
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 3)),
        st.one_of(st.none(), INSTANTS),
        st.one_of(st.none(), INSTANTS),
    ),
    max_size=30,
)


def trips(folder: Path) -> tuple[RepoConfig, FeatureView]:
    """The view as the registry gives it, and a configuration of its folder."""
    view = next(view for view in views(folder) if view.name == "trips")
    view.entity_columns = [Field(name="driver_id", dtype=Int64)]
    view.features = [Field(name="count", dtype=Int64), Field(name="mean_km", dtype=Float64)]
    config = RepoConfig(
        project="rides",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": "stores.asof.AsofOfflineStore"},
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return config, view


def expected(
    rows: list[tuple[int | None, int | None, int | None]],
    start: int,
    end: int,
    arrived: int | None,
) -> dict[int, int]:
    """Driver to the number of its row that a run must load."""
    found: dict[int, tuple[int, int, int]] = {}
    for number, (driver, event, created) in enumerate(rows):
        if driver is None or event is None or event > end:
            continue
        late = arrived is not None and created is not None and created >= arrived
        if event >= start or late:
            order = (event, -1 if created is None else created, number)
            found[driver] = max(found.get(driver, order), order)
    return {driver: order[2] for driver, order in found.items()}


def at(instant: int | None) -> Any:
    return None if instant is None else NOON + instant * SECOND


@settings(deadline=None, max_examples=250)
@given(ROWS, INSTANTS, INSTANTS, st.one_of(st.none(), INSTANTS), st.integers(1, 9))
def test_a_run_reads_the_newest_row_of_each_key(
    rows: list[tuple[int | None, int | None, int | None]],
    start: int,
    end: int,
    arrived: int | None,
    at_once: int,
) -> None:
    with tempfile.TemporaryDirectory() as name, patch.object(arrival, "_ROWS_AT_ONCE", at_once):
        folder = Path(name)
        lines: list[Any] = [(driver, at(event), at(created)) for driver, event, created in rows]
        write_source(folder, "trips", [trip(d, n, e, c) for n, (d, e, c) in enumerate(lines)])
        config, view = trips(folder)
        arrived_us = None if arrived is None else micros(at(arrived))
        pulled = pull(config, view, at(start), at(end), arrived_us)
        parts = list(batches(pulled, at_once))
    found = pa.concat_tables(parts).to_pydict() if parts else {"driver_id": [], "count": []}
    counted = dict(zip(found["driver_id"], found["count"], strict=True))
    assert len(counted) == len(found["count"])
    assert counted == expected(rows, start, end, arrived)
    assert all(part.num_rows <= at_once for part in parts)


def test_the_mark_is_what_was_read_and_no_more(tmp_path: Path) -> None:
    rows = [trip(1, 1, NOON, NOON + 3 * HOUR), trip(2, 2, NOON + HOUR, NOON + HOUR)]
    beyond = trip(3, 3, NOON + 9 * HOUR, NOON + 9 * HOUR)
    write_source(tmp_path, "trips", [*rows, beyond])
    pulled = pull(*trips(tmp_path), NOON, NOON + 2 * HOUR)
    assert pulled.mark == Watermark(micros(NOON + HOUR), micros(NOON + 3 * HOUR))
    assert (pulled.rows_read, len(pulled.winners)) == (2, 2)
    write_source(tmp_path, "trips", [])
    assert pull(*trips(tmp_path), NOON, NOON).mark == Watermark(BEYOND, BEYOND)


def test_a_source_that_changes_while_it_is_read_is_not_mixed(tmp_path: Path) -> None:
    write_source(tmp_path, "trips", [trip(i, i, NOON, NOON) for i in range(5)])
    pulled = pull(*trips(tmp_path), NOON, NOON)
    write_source(tmp_path, "trips", [trip(i, -1, NOON + HOUR, NOON) for i in range(5)])
    with pytest.raises(RuntimeError, match="the source changed while it was read"):
        list(batches(pulled, 100))
    write_source(tmp_path, "trips", [trip(i, i, NOON, NOON) for i in range(4)])
    with pytest.raises(RuntimeError, match="the source changed while it was read"):
        list(batches(pulled, 100))


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path, "trips", [])
    config, view = trips(tmp_path)
    view.features = [Field(name="created_timestamp", dtype=Int64)]
    assert view.batch_source is not None
    view.batch_source.field_mapping = {"count": "created_timestamp"}
    with pytest.raises(ValueError, match=r"trips: \['created_timestamp'\] cannot name"):
        source_rows(config, view)


@pytest.mark.parametrize(
    ("intervals", "start", "stored", "first"),
    [
        ([], 5, None, 5),
        ([(0, 5)], 5, None, 0),
        ([(0, 5)], 5, 3, 3),
        ([(0, 5)], 5, 9, 5),
        ([(0, 50)], 50, 4, 4),
        ([(0, 5), (5, 8)], 5, 7, 5),
        ([(0, 5)], 2, 4, 2),
    ],
)
def test_an_incremental_run_starts_at_what_was_read(
    tmp_path: Path,
    intervals: list[tuple[int, int]],
    start: int,
    stored: int | None,
    first: int,
) -> None:
    def hours(count: int) -> datetime:
        return NOON + count * HOUR

    view = trips(tmp_path)[1]
    view.materialization_intervals = [(hours(a), hours(b)) for a, b in intervals]
    task = MaterializationTask("rides", view, hours(start), hours(60))
    mark = None if stored is None else Watermark(micros(hours(stored)), BEYOND)
    assert first_event(task, mark) == hours(first)
