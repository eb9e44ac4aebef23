"""Reads of Feast's SQLite tables: one connection a thread, one query a view, one snapshot a read."""

import sqlite3
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from stores.compiled import Plan, ViewPlan
from stores.decode import Cell
from stores.fetched import Fetch, Keys, Raw
from stores.redis_server import OnlineStoreAway
from stores.times import micros

_KEYS_A_QUERY = 500
Cells = dict[str, bytes]
Found = dict[bytes, tuple[int, Cells]]


class SqliteTables:
    """The tables of one file. Raises OnlineStoreAway where there is no such file or table."""

    def __init__(self, path: str):
        self.path = path
        self._local = threading.local()

    def fetch(
        self, asked: Sequence[tuple[str, Sequence[bytes]]], clock_of: str | None
    ) -> tuple[list[Found], int | None]:
        """Of each (table, keys): key to (event time in microseconds, feature to bytes).

        clock_of: the project whose newest row's time is read in the same snapshot.
        """
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                found = [_rows(connection, table, keys) for table, keys in asked]
                clock = None if clock_of is None else _clock(connection, clock_of)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as why:
            self.close()
            raise OnlineStoreAway(self.path, 1, 0.0, why) from None
        return found, clock

    def close(self) -> None:
        """Closes this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection:
            connection.close()
            self._local.connection = None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            uri = f"{Path(self.path).absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5)
            self._local.connection = connection
        return connection


def _rows(connection: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> Found:
    name = '"' + table.replace('"', '""') + '"'
    found: dict[bytes, tuple[int, Cells]] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        some = keys[start : start + _KEYS_A_QUERY]
        for key, feature, value, event_us, stock in connection.execute(
            "SELECT entity_key, feature_name, value, "
            "CASE WHEN stock_ts = CAST(event_ts AS INTEGER) THEN event_us END, "
            "CAST(event_ts AS INTEGER) "
            f"FROM {name} WHERE entity_key IN ({','.join('?' * len(some))})",
            some,
        ):
            if event_us is None:
                event_us = _stock_us(stock)
            known = found.get(key)
            if known is None:
                found[key] = (event_us, {feature: value})
            else:
                known[1][feature] = value
                if event_us > known[0]:
                    found[key] = (event_us, known[1])
    return found


def _stock_us(seconds: int) -> int:
    """A time that stock Feast wrote: seconds, of a UTC time taken for a local one."""
    return micros(datetime.fromtimestamp(seconds))


def _clock(connection: sqlite3.Connection, project: str) -> int | None:
    row = connection.execute("SELECT us FROM newest_row WHERE project = ?", (project,)).fetchone()
    return row[0] if row else None


class SqliteFetch(Fetch):
    """One query a view, all in one snapshot."""

    def __init__(self, plan: Plan, tables: SqliteTables, newest: bool):
        self.plan, self.tables = plan, tables
        self.clock_of = plan.project if newest else None

    def ask(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        asked = [
            (f"{self.plan.project}_{view.stored_name}", some.unique)
            for some, views in zip(keys, self.plan.views_of, strict=True)
            for view in views
        ]
        found, clock = self.tables.fetch(asked, self.clock_of)
        left = iter(found)
        return [
            _raw(some, views, [next(left) for _ in views])
            for some, views in zip(keys, self.plan.views_of, strict=True)
        ], clock

    def close(self) -> None:
        self.tables.close()


def _raw(keys: Keys, views: Sequence[ViewPlan], found: Sequence[Found]) -> Raw:
    cells: list[list[Cell]] = []
    times, hits = [], []
    for key in keys.unique:
        row: list[Cell] = []
        for view, rows in zip(views, found, strict=True):
            hit = rows.get(key)
            hits.append(hit is not None)
            times.append(hit[0] if hit else 0)
            known = hit[1] if hit else {}
            row += [known.get(column.feature) for column in view.columns]
        cells.append(row)
    absent = np.array([[cell is None for cell in row] for row in cells], bool)
    return Raw(
        keys=keys,
        cells=cells,
        time_us=np.array(times, np.int64).reshape(-1, len(views)),
        found=np.array(hits, bool).reshape(-1, len(views)),
        absent=absent.reshape(len(cells), sum(len(view.columns) for view in views)),
    )
