"""A Feast online store in SQLite: stock tables, readable by stock Feast, with right times.

online_store:
  type: stores.sqlite.BulkSqliteOnlineStore
  path: ../.qos/online.db
  age_from: newest      # recorded data: ages count to the newest row written; `now` for live data
  enforce_ttl: true     # false answers with rows of any age, as stock Feast does

Three columns stand beside Feast's own: `event_us` and `created_us` hold the times to the microsecond
(stock keeps seconds), `stock_ts` the stock column as it was when they were written, so that a row which
stock Feast wrote later is known by it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import to_naive_utc

from stores.times import (
    BEYOND,
    AgedReads,
    AgeFrom,
    Order,
    Row,
    from_micros,
    latest_us,
    newer,
    newest,
    rows_of,
)  # fmt: skip

_EXTRA = ("event_us", "created_us", "stock_ts")
_EVENT = "CASE WHEN stock_ts = CAST(event_ts AS INTEGER) THEN event_us END"
_KEYS_A_QUERY = 500
_BUSY_MS = 30_000


class BulkSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """enforce_ttl: a row past its view's ttl is OUTSIDE_MAX_AGE; age_from: what ages count to."""

    type: Literal["stores.sqlite.BulkSqliteOnlineStore"] = "stores.sqlite.BulkSqliteOnlineStore"  # type: ignore[assignment]
    enforce_ttl: bool = True
    age_from: AgeFrom = "now"


class BulkSqliteOnlineStore(AgedReads, SqliteOnlineStore):
    """See the module's docstring."""

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if not self._conn:
            connection = super()._get_conn(config)
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        return self._conn  # type: ignore[return-value]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Makes the tables of the views, and the columns and the clock that this store adds."""
        super().update(
            config, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial
        )
        connection = self._get_conn(config)
        with connection:
            for view in tables_to_keep:
                _add_columns(connection, _table(config, view))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS newest_row (project TEXT PRIMARY KEY, us INTEGER)"
            )

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Drops this project's tables; the file may hold other projects."""
        connection = self._get_conn(config)
        with connection:
            for view in tables:
                connection.execute(f"DROP TABLE IF EXISTS {_quoted(_table(config, view))}")
            connection.execute("DELETE FROM newest_row WHERE project = ?", (config.project,))

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Writes the rows that are newer than what is stored, in one transaction.

        Newer: a later event time, or an equal one and a later created time (a correction). Older and
        equal rows are left out. A reader sees an entity's row of a view either before or after.
        """
        self._write(config, table, data)
        if progress:
            progress(len(data))

    def write_arrow(self, config: RepoConfig, view: FeatureView, rows: pa.Table) -> int:
        """Writes the rows that are newer than what is stored; the number of keys written.

        rows: the join keys, the features by name, `event_timestamp` (UTC, microseconds, not null) and
        `created_timestamp` (null: not known). Of several rows of a key the newest counts.
        """
        return self._write(config, view, rows_of(view, rows))

    def _write(self, config: RepoConfig, table: FeatureView, data: list[Row]) -> int:
        rows = newest(data, partial(_key, config))
        connection = self._get_conn(config)
        name = _table(config, table)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            stored = _orders(connection, name, list(rows))
            wins = newer(rows, stored)
            connection.executemany(_UPSERT.format(name=_quoted(name)), _cells(wins))
            _advance(connection, config.project, latest_us(rows))
        return len(wins)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """(event time, values) of each key in order; (None, None) where there is no row."""
        keys = [_key(config, entity_key) for entity_key in entity_keys]
        name = _quoted(_table(config, table))
        found: dict[bytes, tuple[datetime, dict[str, Value]]] = {}
        for some in _batches(list(dict.fromkeys(keys))):
            answer = self._get_conn(config).execute(
                f"SELECT entity_key, feature_name, value, event_ts, {_EVENT} FROM {name} "
                f"WHERE entity_key IN ({','.join('?' * len(some))}) ORDER BY entity_key",
                some,
            )
            for key, cells in groupby(answer, key=lambda cell: cell[0]):
                found[key] = _row(cells)
        return [found.get(key, (None, None)) for key in keys]

    def newest_us(self, config: RepoConfig) -> int | None:
        """Time of the newest row written by this project, in microseconds."""
        found = self._get_conn(config).execute(
            "SELECT us FROM newest_row WHERE project = ?", (config.project,)
        )
        row = found.fetchone()
        return row[0] if row else None


def _table(config: RepoConfig, view: FeatureView) -> str:
    versioned = config.registry.enable_online_feature_view_versioning
    return compute_table_id(config.project, view, versioned)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _key(config: RepoConfig, entity_key: EntityKey) -> bytes:
    version = config.entity_key_serialization_version
    return serialize_entity_key(entity_key, entity_key_serialization_version=version)


def _batches(keys: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (keys[i : i + _KEYS_A_QUERY] for i in range(0, len(keys), _KEYS_A_QUERY))


def _add_columns(connection: sqlite3.Connection, name: str) -> None:
    have = {row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(name)})")}
    for column in _EXTRA:
        if column not in have:
            connection.execute(f"ALTER TABLE {_quoted(name)} ADD COLUMN {column} INTEGER")


def _orders(connection: sqlite3.Connection, name: str, keys: Sequence[bytes]) -> dict[bytes, Order]:
    """Order of the stored row of each key that has one; a row of stock Feast to the second."""
    orders: dict[bytes, Order] = {}
    for some in _batches(keys):
        for key, event_us, stock_us, created_us in connection.execute(
            f"SELECT entity_key, {_EVENT}, CAST(event_ts AS INTEGER) * 1000000, created_us "
            f"FROM {_quoted(name)} WHERE entity_key IN ({','.join('?' * len(some))})",
            some,
        ):
            order = (stock_us, BEYOND) if event_us is None else (event_us, created_us)
            orders[key] = max(orders.get(key, order), order)
    return orders


_UPSERT = """
INSERT INTO {name} (
    entity_key, feature_name, value, value_text, event_ts, created_ts, event_us, created_us, stock_ts
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (entity_key, feature_name) DO UPDATE SET
    value = excluded.value, value_text = excluded.value_text, event_ts = excluded.event_ts,
    created_ts = excluded.created_ts, event_us = excluded.event_us,
    created_us = excluded.created_us, stock_ts = excluded.stock_ts
"""


def _cells(rows: dict[bytes, tuple[Order, Row]]) -> Iterable[tuple[Any, ...]]:
    for key, ((event_us, created_us), (_, values, event, created)) in rows.items():
        naive = to_naive_utc(event)
        stock_ts = int(naive.timestamp())  # stock Feast's own reading of its naive times
        naive_created = None if created is None else to_naive_utc(created)
        for feature, value in values.items():
            text, _ = extract_text_and_num(value, compute_num=False)
            yield (
                key, feature, value.SerializeToString(), text, naive, naive_created,
                event_us, created_us, stock_ts,
            )  # fmt: skip


def _row(cells: Iterable[tuple[Any, ...]]) -> tuple[datetime, dict[str, Value]]:
    values: dict[str, Value] = {}
    event = datetime.min.replace(tzinfo=UTC)
    for _, feature, data, stock, event_us in cells:
        values[feature] = Value.FromString(data)
        cell = stock.replace(tzinfo=UTC) if event_us is None else from_micros(event_us)
        event = max(event, cell)
    return event, values


def _advance(connection: sqlite3.Connection, project: str, us: int) -> None:
    connection.execute(
        "INSERT INTO newest_row VALUES (?, ?) ON CONFLICT (project) DO UPDATE SET us = "
        "max(us, excluded.us)",
        (project, us),
    )
