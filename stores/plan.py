"""What a materialisation would do: rows, keys, online bytes, seconds and memory, before it does it.

Nothing of the project is changed. Rows and keys are counted: the source is read as the run would read
it, and the time of every key's row is held against the online store's. Bytes and seconds come from a
sample of the rows, really written by the online store under a name of its own that is removed again: in
Redis beside copies of the keys' present hashes, so that what is shared and what is replaced is not
counted anew; for SQLite in a file apart.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.common.materialization_job import MaterializationTask
from google.protobuf.timestamp_pb2 import Timestamp

from stores import redis as in_redis
from stores import sqlite as in_sqlite
from stores.arrival import CREATED, EVENT, ROW, batches
from stores.asof import AsofOfflineStore
from stores.encode import field_hash
from stores.engine import BulkComputeEngine, left_to_feast
from stores.rows import checked, newest_rows, times_us
from stores.times import BEYOND, Order
from stores.trial import (
    KEPT,
    KEY,
    KEYS_A_PIPELINE,
    NEW,
    NEWER,
    STATE,
    Part,
    costs,
    forget_peak,
    is_redis,
    peak,
)

SAMPLE = 2_000
_YEAR = timedelta(weeks=52)


@dataclass(frozen=True)
class PlannedView:
    """rows: read; keys: distinct ones among them; written: keys whose row is newer than the stored one.

    bytes: by which the online store grows; seconds: of reading and writing; memory: peak of this
    process, in bytes, while it reads and writes one batch.
    """

    view: str
    rows: int
    keys: int
    written: int
    bytes: int
    seconds: float
    memory: int


def plan(
    store: FeatureStore,
    start: datetime | None,
    end: datetime,
    views: Sequence[str] | None = None,
    sample: int = SAMPLE,
) -> list[PlannedView]:
    """A line a view, in the order given, of `store.materialize(start, end, views)`.

    start None: of `materialize_incremental(end, views)`. views None: every view that is online.
    sample: rows of a view that are tried. Raises `TypeError` where engine or offline store are not
    ours, `ValueError` for a view that the engine leaves to Feast.
    """
    engine: Any = store._get_provider().batch_engine  # type: ignore[attr-defined]
    if not isinstance(engine, BulkComputeEngine):
        raise TypeError(f"plan needs batch_engine BulkComputeEngine; it is {type(engine).__name__}")
    if not isinstance(engine.offline_store, AsofOfflineStore):
        raise TypeError(
            f"plan needs offline store AsofOfflineStore; it is {type(engine.offline_store).__name__}"
        )
    chosen = [
        view
        for view in store.registry.list_feature_views(store.project)
        if (view.online and view.enabled if views is None else view.name in views)
    ]
    if missing := set(views or ()) - {view.name for view in chosen}:
        raise ValueError(f"plan: no feature view {sorted(missing)} in project {store.project}")
    if left := [view.name for view in chosen if left_to_feast(view)]:
        raise ValueError(f"plan: {left} are left to Feast's local engine and cannot be planned")
    if views is not None:
        chosen.sort(key=lambda view: list(views).index(view.name))
    parts = [_read(engine, store.project, view, start or _start(view, end), end) for view in chosen]
    found = costs(engine, parts, sample)
    return [_planned(part, *cost) for part, cost in zip(parts, found, strict=True)]


def _start(view: FeatureView, end: datetime) -> datetime:
    """Where Feast starts an incremental run."""
    if view.most_recent_end_time is not None:
        return view.most_recent_end_time
    return datetime.now(UTC) - (view.ttl or _YEAR)


def _planned(part: Part, size: int, write_s: float, memory: int) -> PlannedView:
    return PlannedView(
        view=part.view.name,
        rows=part.pulled.rows_read,
        keys=len(part.keys),
        written=len(part.written),
        bytes=size,
        seconds=part.read_s + write_s * len(part.keys),
        memory=max(part.memory, memory),
    )


def _read(
    engine: BulkComputeEngine, project: str, view: FeatureView, start: datetime, end: datetime
) -> Part:
    """Reads a view as the run would, up to its first batch."""
    forget_peak()
    begun = time.perf_counter()
    task = MaterializationTask(project=project, feature_view=view, start_time=start, end_time=end)
    pulled = engine.pulled(task)
    for _ in batches(pulled, engine.batch_rows):
        break
    read_s, memory = time.perf_counter() - begun, peak()
    names = [name for name in pulled.winners.columns if name != ROW]
    rows = pulled.winners.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
    keys = pulled.winners.select(ROW, pl.Series(KEY, _encoded(engine, view, rows), dtype=pl.Binary))
    states = _states(engine, view, keys[KEY].to_list(), rows)
    return Part(
        view, pulled, keys.with_columns(pl.Series(STATE, states, pl.String)), read_s, memory
    )


def _encoded(engine: BulkComputeEngine, view: FeatureView, rows: pa.Table) -> list[bytes]:
    """Each row's key as the online store holds it."""
    project = engine.repo_config.project if is_redis(engine) else None
    if not rows.num_rows:
        return []
    columns = [*(c.name for c in view.entity_columns), EVENT, CREATED]
    if DUMMY_ENTITY_ID in rows.column_names and DUMMY_ENTITY_ID not in columns:
        columns.append(DUMMY_ENTITY_ID)
    keyed = copy.copy(view)
    keyed.features = []
    encoded: list[bytes] = newest_rows(keyed, checked(keyed, rows), project)[1].to_pylist()
    return encoded


def _states(
    engine: BulkComputeEngine, view: FeatureView, keys: list[bytes], rows: pa.Table
) -> list[str]:
    """Of each row: the store has no row of its key, an older or incomplete one, or this or a newer."""
    stored = _stored_orders(engine, view, keys)
    orders = zip(times_us(rows[EVENT]).tolist(), times_us(rows[CREATED]).tolist(), strict=True)
    return [
        NEW if key not in stored else NEWER if (order, True) > stored[key] else KEPT
        for key, order in zip(keys, orders, strict=True)
    ]


def _stored_orders(
    engine: BulkComputeEngine, view: FeatureView, keys: list[bytes]
) -> Mapping[bytes, tuple[Order, bool]]:
    """Order of each stored row, and whether it has all features."""
    store: Any = engine.online_store
    config: Any = engine.repo_config
    if not is_redis(engine):
        name = in_sqlite._quoted(in_sqlite._table(config, view))
        features = [feature.name for feature in view.features]
        found = in_sqlite._orders(store._get_conn(config), name, keys, features)
        return {key: (order, not lacks) for key, (order, lacks) in found.items()}
    client = store._get_client(config.online_store)
    name = in_redis._name(config, view)
    fields = [*in_redis._time_fields(name), *(field_hash(name, f.name) for f in view.features)]
    orders = {}
    for begin in range(0, len(keys), KEYS_A_PIPELINE):
        some = keys[begin : begin + KEYS_A_PIPELINE]
        with client.pipeline(transaction=False) as pipe:
            for key in some:
                pipe.hmget(key, fields)
            answers = pipe.execute()
        for key, (event, created, *cells) in zip(some, answers, strict=True):
            if event is not None:
                at = Timestamp.FromString(event)
                known = (
                    BEYOND if created is None else int.from_bytes(created, "little", signed=True)
                )
                order = (at.seconds * 1_000_000 + at.nanos // 1_000, known)
                orders[key] = (order, None not in cells)
    return orders
