"""A Feast online store in SQLite: stock tables, readable by stock Feast, with right times.

online_store:
  type: stores.sqlite.BulkSqliteOnlineStore
  path: ../.qos/online.db
  age_from: newest      # recorded data: ages count to the newest row written; `now` for live data
  enforce_ttl: true     # false answers with rows of any age, as stock Feast does

A table is written in the order of its primary key, and kept in it. Three columns stand beside Feast's
own: `event_us` and `created_us` hold the times to the microsecond (stock keeps seconds), `stock_ts` the
stock column as it was when they were written, so that a row which stock Feast wrote later is known by
it.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from numpy.typing import NDArray

from stores.errors import StoreError
from stores.rows import Encoded, checked, newest_rows, of_protos, slices
from stores.times import BEYOND, AgedReads, AgeFrom, Order, Row, from_micros

_COLUMNS = {
    "entity_key": "BLOB",
    "feature_name": "TEXT",
    "value": "BLOB",
    "value_text": "TEXT",
    "vector_value": "BLOB",
    "event_ts": "timestamp",
    "created_ts": "timestamp",
    "event_us": "INTEGER",
    "created_us": "INTEGER",
    "stock_ts": "INTEGER",
}
_EVENT = "CASE WHEN stock_ts = CAST(event_ts AS INTEGER) THEN event_us END"
_KEYS_A_QUERY = 500
_FEATURES_A_STATEMENT = 200
_BUSY_MS = 30_000
_CACHE_KB = 32_768
_PAGES_A_CHECKPOINT = 8_000


class BulkSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """enforce_ttl: a row past its view's ttl is OUTSIDE_MAX_AGE; age_from: what ages count to."""

    type: Literal["stores.sqlite.BulkSqliteOnlineStore"] = "stores.sqlite.BulkSqliteOnlineStore"  # type: ignore[assignment]
    enforce_ttl: bool = True
    age_from: AgeFrom = "now"


class BulkSqliteOnlineStore(AgedReads, SqliteOnlineStore):
    """See the module's docstring."""

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if not self._conn:
            _set_up(super()._get_conn(config))
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
        """Makes the tables of the views, of stock Feast's too, as this store needs them.

        A table is kept in the order of its primary key, unless a search of stock Feast's asks for row
        numbers.
        """
        settings = config.online_store
        searched = settings.vector_enabled or settings.text_search_enabled
        connection = self._get_conn(config)
        with connection:
            for view in tables_to_keep:
                name = _quoted(_table(config, view))
                columns = ", ".join(f"{column} {kind}" for column, kind in _COLUMNS.items())
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {name} ({columns}, "
                    f"PRIMARY KEY (entity_key, feature_name)){'' if searched else ' WITHOUT ROWID'}"
                )
                _add_columns(connection, name)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS newest_row (project TEXT PRIMARY KEY, us INTEGER)"
            )
            for view in tables_to_delete:
                connection.execute(f"DROP TABLE IF EXISTS {_quoted(_table(config, view))}")

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
        """Writes the rows that are newer than what is stored.

        Newer: a later event time, or an equal one and a later created time (a correction). Older and
        equal rows are left out. A reader sees an entity's row of a view either before or after.
        """
        version = config.entity_key_serialization_version
        self._write(config, table, of_protos(data, version, None), len(data))
        if progress:
            progress(len(data))

    def write_arrow(self, config: RepoConfig, view: FeatureView, rows: pa.Table) -> int:
        """Writes the rows that are newer than what is stored; the number of keys written.

        rows: the join keys, the features by name, `event_timestamp` (UTC, microseconds, not null) and
        `created_timestamp` (null: not known). Of several rows of a key the newest counts. Raises
        StoreError: of the rows' form before anything is written, of the file with the rows done.
        """
        rows, keys = newest_rows(view, checked(view, rows), None)
        return self._write(config, view, slices(view, rows, keys), rows.num_rows)

    def _write(
        self, config: RepoConfig, view: FeatureView, encoded: Iterable[Encoded], count: int
    ) -> int:
        """One transaction a slice, which no other writer can come between."""
        path, name = self._get_db_path(config), _quoted(_table(config, view))
        done = written = 0
        try:
            with closing(sqlite3.connect(path)) as connection:
                _set_up(connection)
                for rows in encoded:
                    connection.execute("BEGIN IMMEDIATE")
                    with connection:
                        newer = _newer(connection, name, rows)
                        for statement, cells in _upserts(name, newer):
                            connection.executemany(statement, cells)
                        _advance(connection, config.project, rows.latest_us)
                    done += len(rows.keys)
                    written += len(newer.keys)
        except sqlite3.Error as error:
            raise StoreError.halted(f"SQLite {path}", view.name, done, count, error) from error
        except StoreError as error:
            if not done:
                raise
            raise StoreError.halted(f"SQLite {path}", view.name, done, count, error) from error
        return written

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


def _set_up(connection: sqlite3.Connection) -> None:
    for setting in (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"cache_size = -{_CACHE_KB}",
        f"wal_autocheckpoint = {_PAGES_A_CHECKPOINT}",
    ):
        connection.execute(f"PRAGMA {setting}")


def _add_columns(connection: sqlite3.Connection, name: str) -> None:
    have = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
    for column, kind in _COLUMNS.items():
        if column not in have:
            connection.execute(f"ALTER TABLE {name} ADD COLUMN {column} {kind}")


def _newer(connection: sqlite3.Connection, name: str, rows: Encoded) -> Encoded:
    """The rows that win over what is stored, in the order of the table."""
    keys = rows.keys.to_pylist()
    stored = _orders(connection, name, keys, list(rows.values))
    orders = zip(rows.event_us.tolist(), rows.created_us.tolist(), strict=True)
    wins = [
        place
        for place, (key, order) in enumerate(zip(keys, orders, strict=True))
        if key not in stored
        or order > stored[key][0]
        or (order == stored[key][0] and stored[key][1])
    ]
    wins.sort(key=keys.__getitem__)
    return rows.take(np.array(wins, np.int64))


def _orders(
    connection: sqlite3.Connection, name: str, keys: Sequence[bytes], features: Sequence[str]
) -> dict[bytes, tuple[Order, bool]]:
    """Order of the stored row of each key that has one, and whether it lacks one of the features.

    A row of stock Feast has an order to the second.
    """
    orders: dict[bytes, Order] = {}
    cells: Counter[bytes] = Counter()
    asked = ",".join(map(_literal, features))
    for some in _batches(keys):
        for key, event_us, stock_us, created_us, count in connection.execute(
            f"SELECT entity_key, {_EVENT}, CAST(event_ts AS INTEGER) * 1000000, created_us, "
            f"SUM(feature_name IN ({asked})) FROM {name} "
            f"WHERE entity_key IN ({','.join('?' * len(some))}) GROUP BY 1, 2, 3, 4",
            some,
        ):
            order = (stock_us, BEYOND) if event_us is None else (event_us, created_us)
            orders[key] = max(orders.get(key, order), order)
            cells[key] += count
    return {key: (order, cells[key] < len(features)) for key, order in orders.items()}


def _upserts(name: str, rows: Encoded) -> Iterator[tuple[str, Iterable[tuple[Any, ...]]]]:
    """Statements that write a row's cells at once, some hundred features each."""
    stock = _stock_seconds(rows.event_us)
    known = rows.created_us != BEYOND
    stock_created = [
        second if is_known else None
        for second, is_known in zip(
            _stock_seconds(np.where(known, rows.created_us, 0)), known.tolist(), strict=True
        )
    ]
    times = [stock, stock_created, rows.event_us.tolist(), rows.created_us.tolist()]
    features = sorted(rows.values)
    for start in range(0, len(features), _FEATURES_A_STATEMENT):
        some = features[start : start + _FEATURES_A_STATEMENT]
        cells = [column for f in some for column in (rows.values[f].to_pylist(), rows.texts(f))]
        yield _upsert(name, some), zip(rows.keys.to_pylist(), *times, *cells, strict=True)


def _upsert(name: str, features: Sequence[str]) -> str:
    """Parameters: key, stock time, stock created time, event us, created us, then value and text."""
    lines = ", ".join(
        f"(?1, {_literal(feature)}, ?{place}, ?{place + 1}, ?2, ?3, ?4, ?5, ?2)"
        for place, feature in zip(range(6, 6 + 2 * len(features), 2), features, strict=True)
    )
    columns = [c for c in _COLUMNS if c != "vector_value"]
    updates = ", ".join(f"{c} = excluded.{c}" for c in columns[2:])
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES {lines} "
        f"ON CONFLICT (entity_key, feature_name) DO UPDATE SET {updates}"
    )


def _stock_seconds(us: NDArray[np.int64]) -> list[int]:
    """Stock Feast's reading of times: whole seconds, a time in UTC taken for one of this machine."""
    if time.tzname == ("UTC", "UTC"):
        seconds: list[int] = (np.sign(us) * (np.abs(us) // 1_000_000)).tolist()
        return seconds
    return [int(from_micros(value).replace(tzinfo=None).timestamp()) for value in us.tolist()]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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
