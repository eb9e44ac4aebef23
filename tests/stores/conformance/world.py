"""A world is what a case needs: views over tables, and what the two loops say of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, FileSource
from feast.type_map import pa_to_feast_value_type
from feast.types import from_value_type

from tests.stores import pit_oracle

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
US = pa.timestamp("us", tz="UTC")
Ask = Mapping[str, Any]  # join keys, and `at`
Values = list[tuple[Any, ...]]


def _one_file(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


@dataclass(frozen=True)
class View:
    """table: columns under their names in the source.

    keys, event, created, features are source names; `mapping` leads from them to what Feast calls them.
    path: of the source in the repository, else `<name>.parquet`. relative: Feast is told just that.
    more: times that are features too.
    written: puts the table where the source is.
    """

    name: str
    table: pa.Table
    keys: tuple[str, ...]
    ttl: timedelta | None = HOUR
    event: str = "event"
    created: str | None = "created"
    mapping: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    relative: bool = False
    more: tuple[str, ...] = ()
    written: Callable[[Path, pa.Table], None] = _one_file

    def feast_name(self, column: str) -> str:
        """What Feast calls a column of the source."""
        return self.mapping.get(column, column)

    @property
    def features(self) -> tuple[str, ...]:
        """The source columns that are neither key nor time."""
        other = {*self.keys, self.event, self.created}
        return (*(name for name in self.table.column_names if name not in other), *self.more)

    def path_in(self, folder: Path) -> Path:
        """Where the table is, in a repository."""
        return folder / (self.path or f"{self.name}.parquet")

    def entities(self) -> list[Entity]:
        """One of each key."""
        return [
            Entity(
                name=f"entity_{self.feast_name(key)}",
                join_keys=[self.feast_name(key)],
                value_type=self._type(key).to_value_type(),
            )
            for key in self.keys
        ]

    def feature_view(self, folder: Path) -> FeatureView:
        """The definition for Feast in a repository."""
        return FeatureView(
            name=self.name,
            entities=self.entities(),
            ttl=self.ttl,
            schema=[
                Field(name=self.feast_name(column), dtype=self._type(column))
                for column in (*self.keys, *self.features)
            ],
            source=FileSource(
                name=f"{self.name}_file",
                path=str(self.path_in(Path()) if self.relative else self.path_in(folder)),
                timestamp_field=self.feast_name(self.event),
                created_timestamp_column=self.feast_name(self.created) if self.created else "",
                field_mapping=dict(self.mapping),
            ),
        )

    def _type(self, column: str) -> Any:
        name = self.feast_name(column)
        if name in self.types:
            return self.types[name]
        return from_value_type(pa_to_feast_value_type(str(self.table.schema.field(column).type)))

    def rows(self) -> list[dict[str, Any]]:
        """The table under Feast's names, its times in UTC under `event` and `created`."""
        return [
            {self.feast_name(name): value for name, value in row.items()}
            | {
                "event": _utc(row[self.event]),
                "created": _utc(row[self.created]) if self.created else None,
            }
            for row in self.table.to_pylist()
        ]

    def known_at(self, time: datetime) -> "View":
        """The view over what its source held at a time."""
        if self.created is None:
            return self
        column = self.table[self.created].cast(US)
        known = pc.less_equal(column, pa.scalar(time, US)).fill_null(True)
        return replace(self, table=self.table.filter(known))


def _utc(time: Any) -> datetime | None:
    if time is None:
        return None
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    aware: datetime = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return aware


def table(types: Mapping[str, pa.DataType], *rows: Sequence[Any]) -> pa.Table:
    """Rows as an Arrow table of these columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return pa.table(
        {n: pa.array(list(c), t) for (n, t), c in zip(types.items(), columns, strict=True)}
    )


def trips(
    *rows: Sequence[Any],
    key: pa.DataType | None = None,
    value: pa.DataType | None = None,
    **more: Any,
) -> View:
    """A view of one key and one feature: (driver_id, event, created, count) rows."""
    types = {
        "driver_id": key or pa.int64(),
        "event": US,
        "created": US,
        "count": value or pa.int64(),
    }
    return View(**({"name": "trips", "table": table(types, *rows), "keys": ("driver_id",)} | more))


def pairs(*rows: Sequence[Any], key: pa.DataType | None = None, **more: Any) -> View:
    """A view of two keys: (driver_id, rider_id, event, created, rating) rows."""
    kind = key or pa.string()
    types = {
        "driver_id": kind,
        "rider_id": kind,
        "event": US,
        "created": US,
        "rating": pa.float64(),
    }
    return View(
        **(
            {"name": "pairs", "table": table(types, *rows), "keys": ("driver_id", "rider_id")}
            | more
        )
    )


def expected(views: Sequence[View], asks: Sequence[Ask], *, known: bool = True) -> Values:
    """For each ask the values of all features of all views, as two loops find them."""
    answers: list[list[Any]] = [[] for _ in asks]
    for view in views:
        keys = [view.feast_name(key) for key in view.keys]
        found = pit_oracle.join(asks, view.rows(), keys, view.ttl, as_known_at=known)
        for answer, row in zip(answers, found, strict=True):
            answer.extend(row[view.feast_name(f)] if row else None for f in view.features)
    return [tuple(answer) for answer in answers]


def references(views: Sequence[View]) -> list[str]:
    """All features of all views, as Feast is asked for them."""
    return [f"{view.name}:{view.feast_name(f)}" for view in views for f in view.features]
