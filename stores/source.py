"""Reads and appends to a Parquet `FileSource`: one file, or a folder of files."""

import os
import uuid
from pathlib import Path

import polars as pl
import pyarrow as pa
from feast import FileSource, RepoConfig
from feast.data_source import DataSource

UTC_US = pl.Datetime("us", "UTC")


def utc(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The column as UTC microseconds; a naive time is UTC."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return column.cast(UTC_US)


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
    """All rows of the source, unread."""
    return _scan_path(source_path(config, source))


def _scan_path(path: Path) -> pl.LazyFrame:
    pattern = path / "**" / "*.parquet" if path.is_dir() else path
    return pl.scan_parquet(pattern, hive_partitioning=False)


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
