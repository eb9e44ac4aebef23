"""Rows of the stream to admitted rows: the contract, then duplicates, then lateness.

One reason a row, as in `pipelines.admit`. Of rows with equal primary keys the first wins, as its
emissions have been served: another one is `duplicate_identical`, or `duplicate_conflicting` where more
than its arrival differs. Rows in = admitted + quarantined, always.
"""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import dataframely as dy
import numpy as np
import polars as pl

from feature_repo.windows import spelled
from nef.stream.entries import Row
from pipelines.admit import split
from pipelines.stream.times import ARRIVAL, EVENT, micros
from schemas.tables import TABLES, dtypes


@dataclass(frozen=True)
class Given:
    """Rows of one table in the order of the stream.

    places: entry and number within it of each; closed: the watermark (microseconds) before each; latest:
    the arrival that each can have at most, empty where any.
    """

    rows: list[Row]
    places: list[tuple[str, int]]
    closed: list[int]
    latest: list[int] = field(default_factory=list)

    def __getitem__(self, part: slice) -> "Given":
        return Given(self.rows[part], self.places[part], self.closed[part], self.latest[part])


class Judged(NamedTuple):
    """admitted: the contract's columns; quarantine: those, the place, `source_text` and `reason`."""

    admitted: pl.DataFrame
    quarantine: pl.DataFrame


class Admission:
    """Remembers the identities of the rows that were admitted, as long as such a row may come again."""

    def __init__(self, lateness: timedelta) -> None:
        self.lateness = lateness
        self._span = max(micros(lateness), 1)
        self._seen: dict[str, dict[int, dict[int, int]]] = {name: {} for name in TABLES}
        self._tests = {name: _Test(name) for name in TABLES}

    def judge(self, table: str, given: Given) -> Judged:
        """Splits the rows of a known table."""
        test = self._tests[table]
        rows, refused = parsed(table, test.schema, given)
        if len(rows) and not test.passes(rows):
            good, bad = split(table, rows.with_columns(pl.lit(None, pl.String).alias("refusal")))
            again = bad["reason"].str.contains(": duplicate_")  # judged here by another rule
            rows = pl.concat([good, bad.filter(again)], how="diagonal_relaxed").sort(
                "_number", maintain_order=True
            )
            refused.append(bad.filter(~again))
        reasons = self._reasons(table, rows, given)
        names = test.names
        held = rows
        if any(reason is not None for reason in reasons):
            held = rows.with_columns(pl.Series("reason", reasons, dtype=pl.String))
            refused.append(held.filter(pl.col("reason").is_not_null()))
            held = held.filter(pl.col("reason").is_null())
        return Judged(held[names], _quarantine(refused, test.quarantine))

    def remember(self, table: str, rows: pl.DataFrame) -> None:
        """Takes in rows that an earlier run admitted."""
        identities, values = self._tests[table].hashes(rows)
        buckets = (rows[EVENT].to_physical() // self._span).to_list()
        for bucket, identity, value in zip(buckets, identities, values, strict=True):
            self._seen[table].setdefault(bucket, {})[identity] = value

    def forget(self, watermark: int) -> None:
        """Lets go of the identities that could only come too late."""
        oldest = (watermark - self._span) // self._span
        for table, seen in self._seen.items():
            if any(bucket < oldest for bucket in seen):
                self._seen[table] = {b: known for b, known in seen.items() if b >= oldest}

    def _reasons(self, table: str, rows: pl.DataFrame, given: Given) -> list[str | None]:
        if rows.is_empty():
            return []
        identities, values = self._tests[table].hashes(rows)
        events, arrivals = (rows[name].to_physical().to_numpy() for name in (EVENT, ARRIVAL))
        number = rows["_number"].to_numpy()
        behind = arrivals <= np.asarray(given.closed, dtype=np.int64)[number]
        ahead = [False] * len(rows)
        if given.latest:
            ahead = (arrivals > np.asarray(given.latest, dtype=np.int64)[number]).tolist()
        slow = arrivals - events > self._span
        buckets = (events // self._span).tolist()
        seen = self._seen[table]
        reasons: list[str | None] = []
        for bucket, identity, value, is_behind, is_slow, is_ahead in zip(
            buckets, identities, values, behind.tolist(), slow.tolist(), ahead, strict=True
        ):
            known = seen.get(bucket, {}).get(identity)
            if known is not None:
                kind = "identical" if known == value else "conflicting"
                reasons.append(f"{table}: duplicate_{kind}")
            elif is_ahead:
                reasons.append(f"{table}.{ARRIVAL}: after the entry that brought it")
            elif is_slow:
                most = spelled(self.lateness)
                reasons.append(f"{table}.{ARRIVAL}: more than {most} after the event")
            elif is_behind:
                reasons.append(f"{table}.{ARRIVAL}: behind the watermark")
            else:
                seen.setdefault(bucket, {})[identity] = value
                reasons.append(None)
        return reasons


_OF_FLOATS = {"min", "max", "nan", "inf"}
_OF_TEXTS = {"min_length", "max_length"}


class _Test:
    """Whether every row of a frame surely keeps its contract: quick, and strict where in doubt."""

    def __init__(self, table: str) -> None:
        columns = TABLES[table].columns()
        self.names = TABLES[table].column_names()
        self.key = TABLES[table].primary_key()
        self.values = [name for name in self.names if name != ARRIVAL]
        self.schema = dtypes(table)
        texts = {name: pl.String() for name in ("source_file", "source_text", "reason")}
        placed: dict[str, pl.DataType] = {"source_line": pl.Int64(), **texts}
        self.quarantine = pl.DataFrame(schema=self.schema | placed)
        self._needed = [name for name, column in columns.items() if not column.nullable]
        self._floats = [name for name, column in columns.items() if column.dtype == pl.Float64]
        self._low = np.array([_bound(columns[n], "min", -np.inf) for n in self._floats])
        self._high = np.array([_bound(columns[n], "max", np.inf) for n in self._floats])
        self._lengths = {
            name: range(column.min_length or 0, (column.max_length or 2**31) + 1)
            for name, column in columns.items()
            if isinstance(column, dy.String)
        }
        rules = {
            f"{name}|{kind}": rule
            for name, column in columns.items()
            for kind, rule in column.validation_rules(pl.col(name)).items()
            if not (name in self._floats and kind in _OF_FLOATS)
            and not (name in self._lengths and kind in _OF_TEXTS)
            and kind != "nullability"
        }
        for name, rule in TABLES[table]._schema_validation_rules().items():
            if name != "primary_key":
                rules[name] = rule.expr
        self._others = pl.all_horizontal(
            rule.fill_null(value=True).all() for rule in rules.values()
        ).alias("all")

    def passes(self, rows: pl.DataFrame) -> bool:
        """All rows are good, but for duplicates."""
        if any(rows[name].null_count() for name in self._needed):
            return False
        if self._floats:
            matrix = np.array([rows[name].to_numpy() for name in self._floats], dtype=np.float64)
            nulls = sum(rows[name].null_count() for name in self._floats)
            inside = (matrix >= self._low[:, None]) & (matrix <= self._high[:, None])
            if int(inside.sum()) + nulls != matrix.size:
                return False
        for name, allowed in self._lengths.items():
            if not all(len(v) in allowed for v in {*rows[name].to_list()} if v is not None):
                return False
        return bool(rows.select(self._others).item())

    def hashes(self, rows: pl.DataFrame) -> tuple[list[int], list[int]]:
        """Of each row a number for its primary key, and one for all its values but the arrival."""
        identity = rows[self.key].hash_rows(1)
        values = rows[self.values].hash_rows(2)
        return identity.to_list(), values.to_list()


def parsed(
    table: str, schema: dict[str, pl.DataType], given: Given
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The rows that fit the table's dtypes, with `_number` and their place; and those that do not.

    A number is no text and a text no number; an absent column is null, an unknown one is not read.
    """
    columns = {name: [row.get(name) for row in given.rows] for name in schema}
    unfit = {name: _unfit(values, schema[name]) for name, values in columns.items()}
    blamed: dict[int, str] = {}
    for name, numbers in unfit.items():
        for number in numbers:
            blamed.setdefault(number, name)
    kept = [n for n in range(len(given.rows)) if n not in blamed]
    if blamed:
        columns = {name: [values[n] for n in kept] for name, values in columns.items()}
    made = [_column(name, values, schema[name]) for name, values in columns.items()]
    frame = pl.DataFrame(
        [
            *made,
            pl.Series("_number", kept, dtype=pl.Int64),
            pl.Series("source_file", [given.places[n][0] for n in kept], dtype=pl.String),
            pl.Series("source_line", [given.places[n][1] for n in kept], dtype=pl.Int64),
            pl.Series("source_text", [None] * len(kept), dtype=pl.String),
        ]
    )
    refused = [
        {
            "source_file": given.places[number][0],
            "source_line": given.places[number][1],
            "source_text": json.dumps(given.rows[number]),
            "reason": f"{table}.{name}: unparseable",
        }
        for number, name in sorted(blamed.items())
    ]
    return frame, [pl.DataFrame(refused)] if refused else []


_NONE = type(None)
_KINDS: dict[type[pl.DataType], set[type]] = {
    pl.Float64: {float, int, _NONE},
    pl.Int64: {int, _NONE},
    pl.Datetime: {int, _NONE},
    pl.String: {str, _NONE},
    pl.Enum: {str, _NONE},
}
_LARGEST = 2**62


def _unfit(values: list[Any], dtype: pl.DataType) -> list[int]:
    """Numbers of the values that are not of a dtype."""
    kinds = _KINDS[type(dtype)]
    if isinstance(dtype, pl.Enum):
        known = {*dtype.categories.to_list(), None}
        fits = [type(v) in kinds and v in known for v in values]
    elif int in kinds:
        fits = [type(v) in kinds and (type(v) is not int or abs(v) < _LARGEST) for v in values]
    elif set(map(type, values)) <= kinds:
        return []
    else:
        fits = [type(v) in kinds for v in values]
    return [] if all(fits) else [number for number, fit in enumerate(fits) if not fit]


def _column(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Float64:
        return pl.Series(name, np.array(values, dtype=np.float64), nan_to_null=True)
    return pl.Series(name, values, dtype=pl.Int64 if dtype == pl.Datetime else dtype).cast(dtype)


def _bound(column: Any, side: str, unbounded: float) -> float:
    value = getattr(column, side, None)
    return unbounded if value is None else float(value)


def _quarantine(refused: list[pl.DataFrame], empty: pl.DataFrame) -> pl.DataFrame:
    if not refused:
        return empty
    return pl.concat(
        [
            part.with_columns(
                pl.lit(None, dtype).alias(name)
                for name, dtype in empty.schema.items()
                if name not in part.columns
            ).select(pl.col(name).cast(dtype) for name, dtype in empty.schema.items())
            for part in refused
        ]
    )
