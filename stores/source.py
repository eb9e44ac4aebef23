"""Reads and appends to a Parquet `FileSource`: one file, or a folder of files.

Files of a folder may lack columns of others (null there) and hold narrower numbers.
"""

import os
import uuid
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
from feast import FeatureView, FileSource, RepoConfig
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID

Unit = Literal["us", "ns"]
UTC_US = pl.Datetime("us", "UTC")
_INTEGERS: list[pl.DataType] = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64()]
_FLOATS: list[pl.DataType] = [pl.Float32(), pl.Float64()]
_TEXTS = (pl.String, pl.Categorical)
_WIDER = pl.ScanCastOptions(
    integer_cast="upcast", float_cast="upcast", categorical_to_string="allow"
)


def utc(column: pl.Expr, dtype: pl.DataType, unit: Unit = "us") -> pl.Expr:
    """The column as UTC times of a unit; a naive time is UTC, a date its midnight.

    Raises `ValueError` for a column that is neither.
    """
    if not isinstance(dtype, pl.Datetime | pl.Date):
        raise ValueError(f"{column.meta.output_name()}: {dtype}, where a time is expected")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return column.cast(pl.Datetime(unit, dtype.time_zone)).dt.convert_time_zone("UTC")
    return column.cast(pl.Datetime(unit)).dt.replace_time_zone("UTC")


def exact_utc(times: pl.Series) -> pl.Series:
    """UTC times: microseconds, or nanoseconds where some time needs them. Texts are read as ISO 8601.

    Raises `ValueError` for a column that holds no times.
    """
    if times.dtype == pl.String:
        read = times.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        if (bad := times.filter(read.is_null() & times.is_not_null())).len():
            raise ValueError(f"{times.name}: {bad.len()} texts are no time, the first {bad[0]!r}")
        return read
    unit = finest(times.dtype)
    utc_times = times.to_frame().select(utc(pl.col(times.name), times.dtype, unit)).to_series()
    if unit == "ns" and not (utc_times.to_physical() % 1_000 != 0).any():
        return utc_times.cast(UTC_US)
    return utc_times


def in_unit(column: pl.Expr, unit: Unit) -> pl.Expr:
    """UTC times in a unit."""
    return column.cast(pl.Datetime(unit, "UTC"))


def finest(*dtypes: pl.DataType) -> Unit:
    """ns where one of the times has it, else us: no time is cut."""
    return "ns" if any(isinstance(d, pl.Datetime) and d.time_unit == "ns" for d in dtypes) else "us"


def columns_of(view: FeatureView) -> tuple[dict[str, str], dict[str, str], str, str | None]:
    """Keys and features as {name: source column}, the time column and the created one, if any."""
    source = view.batch_source
    assert source is not None
    backwards = {name: column for column, name in (source.field_mapping or {}).items()}
    keys = [c.name for c in view.entity_columns if c.name != DUMMY_ENTITY_ID]
    created = source.created_timestamp_column
    return (
        {name: backwards.get(name, name) for name in keys},
        {f.name: backwards.get(f.name, f.name) for f in view.features},
        backwards.get(source.timestamp_field, source.timestamp_field),
        backwards.get(created, created) if created else None,
    )


def source_path(config: RepoConfig, source: DataSource) -> Path:
    """The file or folder, relative to the repository; raises `FileNotFoundError`."""
    assert isinstance(source, FileSource)
    path = Path(source.path)
    if not path.is_absolute() and config.repo_path is not None:
        path = Path(config.repo_path) / path
    if not path.exists():
        raise FileNotFoundError(f"{source.name}: {path} does not exist")
    return path


def scan(config: RepoConfig, source: DataSource) -> pl.LazyFrame:
    """All rows of the source, unread; raises `ValueError` for what is no Parquet."""
    path = source_path(config, source)
    try:
        rows = _scan_path(path)
        rows.collect_schema()
    except pl.exceptions.ComputeError as error:
        raise ValueError(f"{source.name}: {path} cannot be read as Parquet: {error}") from error
    return rows


def _scan_path(path: Path) -> pl.LazyFrame:
    if not path.is_dir():
        return pl.scan_parquet(path, hive_partitioning=False)
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"{path}: the folder holds no .parquet file")
    schema = _united(files)
    if schema is None:
        return pl.scan_parquet(files, hive_partitioning=False)
    return pl.scan_parquet(
        files, hive_partitioning=False, schema=schema, missing_columns="insert",
        extra_columns="ignore", cast_options=_WIDER,
    )  # fmt: skip


def _united(files: list[Path]) -> pl.Schema | None:
    """The columns that some file has, in the widest of their types; None where all files agree.

    Raises `ValueError` for a column whose types have no wider one.
    """
    united: dict[str, pl.DataType] = {}
    first = pl.read_parquet_schema(files[0])
    differ = False
    for file in files:
        schema = pl.read_parquet_schema(file)
        differ = differ or schema != first
        for name, dtype in schema.items() if differ or file == files[0] else ():
            united[name] = _wider(united.get(name, dtype), dtype, f"{file}: {name}")
    return pl.Schema(united) if differ else None


def _wider(one: pl.DataType, other: pl.DataType, where: str) -> pl.DataType:
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    for kinds in (_INTEGERS, _FLOATS):
        if one in kinds and other in kinds:
            return kinds[max(kinds.index(one), kinds.index(other))]
    if isinstance(one, _TEXTS) and isinstance(other, _TEXTS):
        return pl.String()
    raise ValueError(f"{where} is {other}, in an earlier file {one}")


def schema_of(path: Path) -> pl.Schema:
    """Columns and dtypes of a file or folder."""
    return _scan_path(path).collect_schema()


def append_rows(path: Path, rows: pa.Table) -> None:
    """Adds rows to a Parquet file, or a file to a folder; readers see all of them or none.

    A file is written anew beside and renamed; a folder gets one file more, whatever its size.
    """
    table = pl.from_arrow(rows)
    assert isinstance(table, pl.DataFrame)
    target = path / f"part-{uuid.uuid4().hex}.parquet" if path.is_dir() else path
    if target.exists():
        stored = pl.read_parquet(target)
        fitted = table.select(pl.col(n).cast(d) for n, d in stored.schema.items())
        table = pl.concat([stored, fitted])
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        table.write_parquet(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
