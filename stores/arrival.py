"""What a materialisation reads of a view's source: the rows of its interval, and those that arrived.

Feast starts an incremental run where the last one ended, by event time; a row that arrives late, with
an event time before that, is never loaded. Here a run also reads every row whose created time is at or
after the arrival watermark, whatever its event time, as long as that is not after the run's end.

The watermark of a view is the latest event and the latest created time of the rows that completed runs
have read. It lives in the online store, beside the rows that it speaks of (an emptied store has none),
and moves only after the last row of a run has been written, never beyond what was read and never beyond
the clock: an end date or a row in the future holds nothing back later. An incremental run starts at the
watermark's event time where that is before Feast's start.

What reaches the source with a created time before the watermark, that is later than it says, is not
seen by its arrival; a run over an interval that holds its event time loads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore

from stores.source import UTC_US, columns_of, finest, in_unit, scan, utc
from stores.times import BEYOND, micros

EVENT, CREATED = "event_timestamp", "created_timestamp"
ROW = "__row"
_CHANGED = "the source changed while it was read; run again"
_ROWS_AT_ONCE = 4_000_000
_TABLE = "CREATE TABLE IF NOT EXISTS watermark (project TEXT, view TEXT, event_us INTEGER, created_us INTEGER, PRIMARY KEY (project, view))"  # noqa: E501


@dataclass(frozen=True)
class Watermark:
    """Latest event and created time read by completed runs, in microseconds; `BEYOND`: of no row."""

    event_us: int
    created_us: int


@dataclass(frozen=True)
class Pull:
    """The newest row of each key among the rows that a run reads, not yet with its features.

    rows: the source by output names; winners: row number, keys and times; rows_read: how many rows
    they won over, themselves included; mark: the watermark that stands for having read them.
    """

    rows: pl.LazyFrame
    winners: pl.DataFrame
    rows_read: int
    mark: Watermark


def source_rows(config: RepoConfig, view: FeatureView) -> pl.LazyFrame:
    """All rows of a view's source, unread: number, keys, features, event and created time.

    Raises `ValueError` for a column that the source has not, or a name that a time column takes.
    """
    keys, features, event, created = columns_of(view)
    source = view.batch_source
    assert source is not None
    rows = scan(config, source)
    schema = rows.collect_schema()
    wanted = [*keys.values(), *features.values(), event, *([created] if created else [])]
    if missing := [name for name in wanted if name not in schema]:
        raise ValueError(
            f"{view.name}: its source has no column {missing}; it has {schema.names()}"
        )
    if taken := {EVENT, CREATED, ROW} & {*keys, *features}:
        raise ValueError(f"{view.name}: {sorted(taken)} cannot name a key or a feature")
    unit = finest(schema[event], *([schema[created]] if created else []))
    dummy = [] if keys else [pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID)]
    return rows.with_row_index(ROW).select(
        ROW,
        *dummy,
        *(pl.col(column).alias(name) for name, column in (keys | features).items()),
        utc(pl.col(event), schema[event], unit).alias(EVENT),
        (utc(pl.col(created), schema[created], unit) if created else pl.lit(None, UTC_US)).alias(
            CREATED
        ),
    )


def pull(
    config: RepoConfig,
    view: FeatureView,
    start: datetime,
    end: datetime,
    arrived_from: int | None = None,
) -> Pull:
    """The newest row of each key with an event in [start, end], or arrived since and not after end.

    arrived_from: created time in microseconds; None reads by event time alone. A row without a key or
    an event time is no one's.
    """
    rows = source_rows(config, view)
    keys = list(columns_of(view)[0]) or [DUMMY_ENTITY_ID]
    clock = micros(datetime.now(UTC))
    read = pl.col(EVENT) >= _literal(micros(start))
    if arrived_from is not None:
        read |= pl.col(CREATED) >= _literal(arrived_from)
    times = (
        rows.select(ROW, *keys, EVENT, CREATED)
        .filter(pl.col(EVENT) <= _literal(micros(end)), read)
        .drop_nulls([*keys, EVENT])
    )
    winners = times.clear().collect()
    count, latest = 0, [BEYOND, BEYOND]
    for some in times.collect_batches(chunk_size=_ROWS_AT_ONCE, maintain_order=False):
        count += len(some)
        latest = [
            max(us, _latest_us(some[n])) for us, n in zip(latest, (EVENT, CREATED), strict=True)
        ]
        winners = _newest(pl.concat([winners, some]), keys)
    return Pull(rows, winners.sort(ROW), count, Watermark(*(min(us, clock) for us in latest)))


def _newest(times: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The newest row of each key, of rows of equal times the last."""
    latest = times.lazy().group_by(keys).agg(pl.col(EVENT).max())
    rows = times.lazy().join(latest, on=[*keys, EVENT], how="semi").collect(engine="streaming")
    return rows.sort(CREATED, ROW, nulls_last=False).unique(keys, keep="last")


def batches(pulled: Pull, size: int) -> Iterator[pa.Table]:
    """The winners with their features, `size` rows at a time at most.

    Raises `RuntimeError` where the source changed since it was pulled.
    """
    found = 0
    picked = pulled.rows.filter(pl.col(ROW).is_in(pulled.winners[ROW].implode()))
    times = [in_unit(pl.col(name), "us") for name in (EVENT, CREATED)]
    try:
        for batch in picked.collect_batches(chunk_size=size, maintain_order=True):
            for part in batch.iter_slices(size):
                expected = pulled.winners.slice(found, len(part))
                if not part.select(expected.columns).equals(expected):
                    raise RuntimeError(_CHANGED)
                found += len(part)
                rows = part.drop(ROW).with_columns(times)
                yield rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    except pl.exceptions.ComputeError as error:  # of a file that is no longer what it was
        raise RuntimeError(f"{_CHANGED} ({error})") from error
    if found != len(pulled.winners):
        raise RuntimeError(_CHANGED)


def read_watermark(store: Any, config: RepoConfig, view: FeatureView) -> Watermark | None:
    """The watermark of a view; None where no run of it has completed in this online store."""
    if isinstance(store, RedisOnlineStore):
        stored = store._get_client(config.online_store).hget(_redis_key(config), view.name)
        return None if stored is None else Watermark(*(int(us) for us in stored.split()))
    assert isinstance(store, SqliteOnlineStore)
    connection = store._get_conn(config)
    connection.execute(_TABLE)
    row = connection.execute(
        "SELECT event_us, created_us FROM watermark WHERE project = ? AND view = ?",
        (config.project, view.name),
    ).fetchone()
    return Watermark(*row) if row else None


def advance_watermark(store: Any, config: RepoConfig, view: FeatureView, mark: Watermark) -> None:
    """Moves the watermark of a view forward; to be called after its rows have been written."""
    stored = read_watermark(store, config, view) or Watermark(BEYOND, BEYOND)
    event_us = max(stored.event_us, mark.event_us)
    created_us = max(stored.created_us, mark.created_us)
    if isinstance(store, RedisOnlineStore):
        client = store._get_client(config.online_store)
        client.hset(_redis_key(config), view.name, f"{event_us} {created_us}")
        return
    with store._get_conn(config) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO watermark VALUES (?, ?, ?, ?)",
            (config.project, view.name, event_us, created_us),
        )


def forget_watermarks(store: Any, config: RepoConfig, names: Sequence[str]) -> None:
    """Removes the watermarks of views that are taken down."""
    if not names:
        return
    if isinstance(store, RedisOnlineStore):
        store._get_client(config.online_store).hdel(_redis_key(config), *names)
    elif isinstance(store, SqliteOnlineStore):
        with store._get_conn(config) as connection:
            connection.execute(_TABLE)
            connection.executemany(
                "DELETE FROM watermark WHERE project = ? AND view = ?",
                [(config.project, name) for name in names],
            )


def watermarked_views(store: Any, config: RepoConfig) -> list[str]:
    """The views of this project that have a watermark."""
    if isinstance(store, RedisOnlineStore):
        names = store._get_client(config.online_store).hkeys(_redis_key(config))
        return [name.decode() for name in names]
    assert isinstance(store, SqliteOnlineStore)
    connection = store._get_conn(config)
    connection.execute(_TABLE)
    found = connection.execute("SELECT view FROM watermark WHERE project = ?", (config.project,))
    return [name for (name,) in found]


def _redis_key(config: RepoConfig) -> str:
    return f"watermark:{config.project}"


def _literal(us: int) -> pl.Expr:
    return pl.lit(us, pl.Int64).cast(UTC_US)


def _latest_us(times: pl.Series) -> int:
    found = times.dt.epoch("us").max()
    return BEYOND if found is None else int(found)  # type: ignore[arg-type]
