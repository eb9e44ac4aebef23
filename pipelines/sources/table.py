"""Any CSV, JSON, Parquet or NDJSON, described by one mapping YAML (docs/bring-your-own-data.md)."""

import io
import json
import os
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
_TIMES = {"event_timestamp": "event_time", "arrival_timestamp": "arrival_time"}
# What the platform knows of a row, under names that no column of a file has.
_EVENT, _ARRIVAL, _UE, _SESSION = "\0event", "\0arrival", "\0ue", "\0session"


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
    format: Literal["csv", "parquet", "ndjson", "json"] = "csv"
    separator: str = Field(default=",", pattern=r'^[^\r\n"]$')
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
    files = _files(path, mapping)
    read = [(file, _read(file, mapping)) for file in files]
    rows = _one_table(path, [_placed(lines.rows, file, path) for file, lines in read])
    ragged = pl.concat(_placed(lines.ragged, file, path) for file, lines in read)
    _check_columns(path, mapping, rows.columns)
    timed = _timed(path, mapping, rows)
    tables = empty_tables()
    nulls: dict[str, Counter[str]] = {}
    for name, description in mapping.tables.items():
        numbers = _numbers(path, mapping, name, description)
        tables[name] = pl.concat(
            [
                _canonical(name, mapping, numbers, timed),
                canonical(name, ragged),  # only their place, text and reason are known
            ]
        )
        nulls |= count_nulls(timed, name, numbers)
        nulls |= _count_texts(timed, name, mapping, numbers)
    return Collected(tables, sum(lines.count for _, lines in read), len(files), nulls)


def _files(path: Path, mapping: Mapping) -> list[Path]:
    if not mapping.files or Path(mapping.files).is_absolute():
        raise QosError(
            f"{path}: files: {mapping.files!r}, must be a path or glob beside the mapping"
        )
    files = sorted(file for file in path.parent.glob(mapping.files) if file.is_file())
    if not files:
        raise QosError(f"{path}: files: {mapping.files!r} matches no file beside the mapping")
    return files


def _one_table(path: Path, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all files, a column that a file lacks null there."""
    try:
        return pl.concat(parts, how="diagonal")
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]
        raise QosError(f"{path}: files: a column has not one type in all files: {why}") from None


def read_mapping(path: Path) -> Mapping:
    """The mapping, checked against the canonical tables; one line about the first fault."""
    if not path.is_file():
        raise QosError(
            f"params.yaml: collect.mapping: {str(path)!r} is no file; the `table` source needs one"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        mapping = Mapping.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
            if target in _TIMES:
                raise QosError(
                    f"{path}: tables.{name}.{target}: times are named at the top: {_TIMES}"
                )
        for target, value in description.constants.items():
            _check_constant(f"{path}: tables.{name}.constants.{target}", name, target, value)
    return mapping


def _check_constant(where: str, name: str, target: str, value: str | int | float) -> None:
    column = TABLES[name].columns()[target]
    if isinstance(column, dy.Enum) and value not in column.categories:
        raise QosError(f"{where}: {value!r}; allowed: {list(column.categories)}")
    kinds: tuple[type, ...] = (str,)
    if isinstance(column, dy.Float64 | dy.Int64):
        kinds = (int,) if isinstance(column, dy.Int64) else (int, float)
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise QosError(f"{where}: {value!r} ({type(value).__name__}); it takes {names}")


def _read(file: Path, mapping: Mapping) -> Lines:
    if file.stat().st_size > MAX_BYTES:
        raise QosError(f"{file}: {file.stat().st_size} bytes, at most {MAX_BYTES} are read at once")
    data = file.read_bytes()
    if mapping.format == "csv":
        return read_lines(data, str(file), mapping.separator)
    if mapping.format == "ndjson":
        return _read_ndjson(data, file)
    if mapping.format == "json":
        return _read_ndjson(_as_ndjson(data, file), file)
    try:
        rows = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise QosError(f"{file}: not Parquet: {str(error).splitlines()[0]}") from None
    if rows.is_empty():
        raise QosError(f"{file}: empty: no row")
    return Lines(_numbered(rows, file), _no_ragged())


def _as_ndjson(data: bytes, file: Path) -> bytes:
    """One JSON array of objects as a line each; an object's line number is its place in the array."""
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise QosError(f"{file}: not JSON: {str(error)[:100]}") from None
    if not isinstance(content, list):
        raise QosError(f"{file}: {type(content).__name__}, not an array of objects")
    return "\n".join(json.dumps(row) for row in content).encode()


def _read_ndjson(data: bytes, file: Path) -> Lines:
    """One JSON object a line; any other line is kept apart with its text."""
    good, bad = [], []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), start=1):
        if not line.strip():
            continue
        content = _object(line)
        if isinstance(content, str):
            bad.append((number, line, f"ragged_line: {content}"))
        else:
            good.append(content | {"source_line": str(number)})
    if not good and not bad:
        raise QosError(f"{file}: empty: no line")
    names = dict.fromkeys(name for row in good for name in row)
    rows = pl.DataFrame(good, schema=dict.fromkeys(names, pl.String) or {"source_line": pl.String})
    return Lines(
        rows.with_columns(pl.col("source_line").cast(pl.Int64)),
        pl.DataFrame(bad, schema=_no_ragged().schema, orient="row"),
    )


def _object(line: str) -> dict[str, str | None] | str:
    """The object's values as text, or why the line is none."""
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            return f"{type(content).__name__}, not an object"
        texts = {str(name): _text(value) for name, value in content.items()}
        "".join([*texts, *(text or "" for text in texts.values())]).encode()  # lone surrogates
    except json.JSONDecodeError as error:
        return f"not JSON at character {error.pos}"
    except (ValueError, RecursionError) as error:
        return f"not JSON that can be read: {type(error).__name__}"
    return texts


def _text(value: object) -> str | None:
    return None if value is None else value.strip() if isinstance(value, str) else json.dumps(value)


def _numbered(rows: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Every column as text, but times; raises `QosError` for names that stripping makes one."""
    names = [name.strip() for name in rows.columns]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise QosError(f"{file}: columns named twice: {doubles}")
    texts = [_as_text(rows[old]).alias(new) for old, new in zip(rows.columns, names, strict=True)]
    return pl.DataFrame(texts).with_columns(source_line=pl.int_range(1, pl.len() + 1))


def _as_text(values: pl.Series) -> pl.Series:
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        return values.cast(pl.Datetime("us", dtype.time_zone))
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return pl.Series(values.name, [None if v is None else str(v) for v in values], pl.String)
    return values.cast(pl.String).str.strip_chars()


def _no_ragged() -> pl.DataFrame:
    return pl.DataFrame(
        schema={"source_line": pl.Int64, "source_text": pl.String, "refusal": pl.String}
    )


def _placed(rows: pl.DataFrame, file: Path, mapping: Path) -> pl.DataFrame:
    place = Path(os.path.relpath(file, mapping.parent)).as_posix()
    return rows.with_columns(source_file=pl.lit(place))


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
    columns = [name for name in have if name not in ("source_line", "source_file")]
    for where, column in asked.items():
        if column not in columns:
            raise QosError(
                f"{path}: {where}: the files have no column {column!r}; they have {listed(columns, 12)}"
            )


def _timed(path: Path, mapping: Mapping, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with both times, ue_id and session_id; arrival is the running maximum of the event
    times of a file where the mapping names none."""
    event = mapping.event_time.expression(f"{path}: event_time", rows)
    session = pl.col(mapping.session) if mapping.session else pl.col("source_file")
    ue = pl.col(mapping.ue) if mapping.ue else pl.lit(None, pl.String)
    timed = rows.with_columns(
        event.alias(_EVENT),
        session.cast(pl.String).alias(_SESSION),
        (pl.format("{}/{}", ue, session) if mapping.recorded else ue.cast(pl.String)).alias(_UE),
    )
    now = datetime.now(UTC)
    if mapping.arrival_time is None:  # a time in the future delays no row but its own
        past = pl.when(pl.col(_EVENT) <= now).then(_EVENT).cum_max().over("source_file")
        arrival = pl.when(pl.col(_EVENT) <= now).then(past).otherwise(_EVENT)
    else:
        arrival = mapping.arrival_time.expression(f"{path}: arrival_time", rows)
    timed = timed.with_columns(arrival.alias(_ARRIVAL))
    future = timed.filter(pl.col(_EVENT) > now)
    if len(future) > len(timed) / 2:
        first = future.with_columns(pl.col(_EVENT).dt.to_string("iso")).row(0, named=True)
        raise QosError(
            f"{path}: event_time: {len(future)} of {len(timed)} times lie in the future; first "
            f"{first[_EVENT]} ({first['source_file']}, line "
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
            whole = isinstance(column, dy.Int64)
            found[target] = Number(
                value.column, scale, offset, missing, value.sentinels, whole=whole
            )
        elif numeric:
            unit = (column.metadata or {})["unit"]
            if unit not in ("-", "1"):
                raise QosError(f"{where}: needs a unit: {{column: {value}, unit: {unit}}}")
            found[target] = Number(
                value, missing=mapping.missing, whole=isinstance(column, dy.Int64)
            )
    return found


def _texts(name: str, mapping: Mapping, numbers: dict[str, Number]) -> dict[str, str]:
    """Target to column of the table's text columns."""
    return {
        target: value
        for target, value in mapping.tables[name].columns.items()
        if isinstance(value, str) and target not in numbers
    }


def _count_texts(
    rows: pl.DataFrame, name: str, mapping: Mapping, numbers: dict[str, Number]
) -> dict[str, Counter[str]]:
    nulls: dict[str, Counter[str]] = {}
    for target, column in _texts(name, mapping, numbers).items():
        for marker in mapping.missing:
            if count := int((rows[column].cast(pl.String) == marker).sum()):
                nulls.setdefault(f"{name}.{target}", Counter())[f"missing {marker!r}"] = count
    return nulls


def _canonical(
    name: str, mapping: Mapping, numbers: dict[str, Number], rows: pl.DataFrame
) -> pl.DataFrame:
    """The table's rows: what the mapping names and nothing else of the file."""
    texts = {}
    for target, column in _texts(name, mapping, numbers).items():
        text = pl.col(column).cast(pl.String)
        texts[target] = pl.when(~text.is_in(list(mapping.missing))).then(text)
    refusals = [pl.when(pl.col(_EVENT).is_null()).then(pl.lit("unparseable: event_timestamp"))]
    for target, text in texts.items():
        if isinstance(kind := TABLES[name].columns()[target], dy.Enum):
            unknown = text.is_not_null() & ~text.is_in(kind.categories)
            words = pl.format("unparseable: {} {}", pl.lit(target), text)
            refusals.append(pl.when(unknown).then(words))
            texts[target] = pl.when(~unknown).then(text)
    found: dict[str, pl.Expr] = {
        "ue_id": pl.col(_UE),
        "session_id": pl.col(_SESSION),
        "event_timestamp": pl.col(_EVENT),
        "arrival_timestamp": pl.col(_ARRIVAL),
        "source_file": pl.col("source_file"),
        "source_line": pl.col("source_line"),
    }
    found |= texts | {target: number.expression() for target, number in numbers.items()}
    constants = mapping.tables[name].constants
    found |= {target: pl.lit(value) for target, value in constants.items()}
    return canonical(name, rows.select(refusal=pl.coalesce(*refusals, refusal(numbers)), **found))
