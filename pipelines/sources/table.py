"""Any CSV, Parquet or NDJSON, described by one mapping YAML (docs/bring-your-own-data.md)."""

import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import dataframely as dy
import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.sources.collected import Collected, canonical, empty_tables
from pipelines.sources.lines import Lines, read_lines
from pipelines.sources.times import TimeColumn
from pipelines.sources.units import conversion
from pipelines.sources.values import MISSING, Number, count_nulls, refusal
from schemas.errors import QosError, listed
from schemas.tables import TABLES

MAX_BYTES = 4 << 30


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(_Strict):
    """One measured column: its name in the file, its unit, and values that mean "not measured"."""

    column: str
    unit: str
    sentinels: tuple[float, ...] = ()
    missing: tuple[str, ...] | None = None


Value = Annotated[Quantity | str, Field(union_mode="smart")]


class TableMapping(_Strict):
    """One canonical table: target column -> file column (text), or a Quantity (numbers)."""

    columns: dict[str, Value] = {}
    constants: dict[str, str | int | float] = {}


class Mapping(_Strict):
    """The whole file; `files` is a path or glob beside the mapping."""

    files: str
    format: Literal["csv", "parquet", "ndjson"] = "csv"
    separator: str = Field(default=",", min_length=1, max_length=1)
    missing: tuple[str, ...] = MISSING
    event_time: TimeColumn
    arrival_time: TimeColumn | None = None
    ue: str | None = None
    session: str | None = None
    recorded: bool = False
    tables: dict[str, TableMapping]


def table(path: Path) -> Collected:
    """The user's files as canonical tables; raises `QosError` naming what the mapping got wrong."""
    mapping = read_mapping(path)
    files = sorted(path.parent.glob(mapping.files))
    if not files:
        raise QosError(f"{path}: files: {mapping.files!r} matches no file beside the mapping")
    read = [(file, _read(file, mapping)) for file in files]
    rows = pl.concat((_placed(lines.rows, file) for file, lines in read), how="diagonal")
    ragged = pl.concat(_placed(lines.ragged, file) for file, lines in read)
    _check_columns(path, mapping, rows.columns)
    timed = _timed(path, mapping, rows)
    tables = empty_tables()
    nulls: dict[str, Counter[str]] = {}
    for name, description in mapping.tables.items():
        numbers = _numbers(path, mapping, name, description)
        tables[name] = pl.concat(
            [
                _canonical(name, description, numbers, timed),
                _refused(name, ragged, timed),
            ]
        )
        nulls |= count_nulls(timed, name, numbers)
    return Collected(tables, sum(lines.count for _, lines in read), len(files), nulls)


def read_mapping(path: Path) -> Mapping:
    """The mapping, checked against the canonical tables; one line about the first fault."""
    if not path.is_file():
        raise QosError(
            f"params.yaml: collect.mapping: {str(path)!r} is no file; the `table` source needs one"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        mapping = Mapping.model_validate(content)
    except yaml.YAMLError as error:
        raise QosError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise QosError(f"{path}: {len(faults)} faults; first: {faults[0]}") from None
    for name, description in mapping.tables.items():
        if name not in TABLES:
            raise QosError(f"{path}: tables: unknown table {name!r}; known: {list(TABLES)}")
        known = TABLES[name].column_names()
        for target in (*description.columns, *description.constants):
            if target not in known:
                raise QosError(
                    f"{path}: tables.{name}: unknown column {target!r}; {name} has {known}"
                )
    return mapping


def _read(file: Path, mapping: Mapping) -> Lines:
    if file.stat().st_size > MAX_BYTES:
        raise QosError(f"{file}: {file.stat().st_size} bytes, at most {MAX_BYTES} are read at once")
    data = file.read_bytes()
    if mapping.format == "csv":
        return read_lines(data, str(file), mapping.separator)
    if mapping.format == "ndjson":
        return _read_ndjson(data, file)
    try:
        rows = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise QosError(f"{file}: not Parquet: {str(error).splitlines()[0]}") from None
    return Lines(_numbered(rows), _no_ragged())


def _read_ndjson(data: bytes, file: Path) -> Lines:
    """One JSON object a line; any other line is kept apart with its text."""
    good, bad = [], []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            bad.append((number, line, f"ragged_line: not JSON at character {error.pos}"))
            continue
        if not isinstance(content, dict):
            bad.append((number, line, f"ragged_line: {type(content).__name__}, not an object"))
            continue
        good.append({"source_line": number} | {str(k): _text(v) for k, v in content.items()})
    if not good and not bad:
        raise QosError(f"{file}: empty: no line")
    rows = pl.DataFrame(good, infer_schema_length=None) if good else pl.DataFrame()
    return Lines(
        rows.with_columns(pl.col("source_line").cast(pl.Int64)) if good else _numbered(rows),
        pl.DataFrame(bad, schema=_no_ragged().schema, orient="row"),
    )


def _text(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    renamed = rows.rename({name: name.strip() for name in rows.columns})
    texts = [pl.col(n).cast(pl.String) for n, t in renamed.schema.items() if not t.is_temporal()]
    return renamed.with_columns(texts).with_columns(source_line=pl.int_range(1, pl.len() + 1))


def _no_ragged() -> pl.DataFrame:
    return pl.DataFrame(
        schema={"source_line": pl.Int64, "source_text": pl.String, "refusal": pl.String}
    )


def _placed(rows: pl.DataFrame, file: Path) -> pl.DataFrame:
    return rows.with_columns(source_file=pl.lit(file.name))


def _check_columns(path: Path, mapping: Mapping, have: list[str]) -> None:
    asked = {
        f"tables.{name}.{target}": value.column if isinstance(value, Quantity) else value
        for name, description in mapping.tables.items()
        for target, value in description.columns.items()
    }
    asked |= {"event_time": mapping.event_time.column}
    asked |= {"ue": mapping.ue} if mapping.ue else {}
    asked |= {"session": mapping.session} if mapping.session else {}
    asked |= {"arrival_time": mapping.arrival_time.column} if mapping.arrival_time else {}
    for where, column in asked.items():
        if column not in have:
            columns = [name for name in have if name not in ("source_line", "source_file")]
            raise QosError(
                f"{path}: {where}: the files have no column {column!r}; they have {listed(columns, 12)}"
            )


def _timed(path: Path, mapping: Mapping, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with both times, ue_id and session_id; arrival is the running maximum of the event
    times of a file where the mapping names none."""
    event = mapping.event_time.expression(f"{path}: event_time", rows)
    timed = rows.with_columns(event.alias("event_timestamp"))
    if mapping.arrival_time is None:
        arrival = pl.col("event_timestamp").cum_max().over("source_file")
    else:
        arrival = mapping.arrival_time.expression(f"{path}: arrival_time", rows)
    session = pl.col(mapping.session) if mapping.session else pl.col("source_file")
    ue = pl.col(mapping.ue) if mapping.ue else pl.lit(None, pl.String)
    timed = timed.with_columns(
        arrival.alias("arrival_timestamp"),
        session.cast(pl.String).alias("session_id"),
        (pl.format("{}/{}", ue, session) if mapping.recorded else ue.cast(pl.String)).alias(
            "ue_id"
        ),
    )
    now = datetime.now(UTC)
    future = timed.filter(pl.col("event_timestamp") > now)
    if len(future) > len(timed) / 2:
        first = future.row(0, named=True)
        raise QosError(
            f"{path}: event_time: {len(future)} of {len(timed)} times lie in the future; first "
            f"{first['event_timestamp'].isoformat()} ({first['source_file']}, line "
            f"{first['source_line']}); is the format or the zone another one?"
        )
    return timed


def _numbers(
    path: Path, mapping: Mapping, name: str, description: TableMapping
) -> dict[str, Number]:
    found = {}
    for target, value in description.columns.items():
        column = TABLES[name].columns()[target]
        numeric = isinstance(column, dy.Float64 | dy.Int64)
        where = f"{path}: tables.{name}.{target}"
        if isinstance(value, Quantity):
            if not numeric:
                raise QosError(f"{where}: is text and has no unit; write the column's name alone")
            scale, offset = conversion(value.unit, str((column.metadata or {})["unit"]), where)
            missing = mapping.missing if value.missing is None else value.missing
            found[target] = Number(value.column, scale, offset, missing, value.sentinels)
        elif numeric:
            unit = (column.metadata or {})["unit"]
            if unit not in ("-", "1"):
                raise QosError(f"{where}: needs a unit: {{column: {value}, unit: {unit}}}")
            found[target] = Number(value, missing=mapping.missing)
    return found


def _canonical(
    name: str, description: TableMapping, numbers: dict[str, Number], rows: pl.DataFrame
) -> pl.DataFrame:
    texts = {
        target: pl.when(~pl.col(value).is_in(list(MISSING))).then(pl.col(value))
        for target, value in description.columns.items()
        if isinstance(value, str) and target not in numbers
    }
    enums = [
        pl.when(text.is_not_null() & ~text.is_in(column.categories)).then(
            pl.format("unparseable: {} {}", pl.lit(target), text)
        )
        for target, text in texts.items()
        if isinstance(column := TABLES[name].columns()[target], dy.Enum)
    ]
    known = {
        target: pl.when(text.is_in(column.categories)).then(text)
        for target, text in texts.items()
        if isinstance(column := TABLES[name].columns()[target], dy.Enum)
    }
    time = pl.when(pl.col("event_timestamp").is_null()).then(pl.lit("unparseable: event_timestamp"))
    filled = rows.with_columns(
        **(texts | known | {target: number.expression() for target, number in numbers.items()}),
        **{target: pl.lit(value) for target, value in description.constants.items()},
        refusal=pl.coalesce(time, *enums, refusal(numbers)),
        source_text=pl.lit(None, pl.String),
    )
    return canonical(name, filled)


def _refused(name: str, ragged: pl.DataFrame, timed: pl.DataFrame) -> pl.DataFrame:
    """Ragged lines as rows of the table: only their place, text and reason are known."""
    return canonical(name, ragged)
