"""Reads delimited text into strings, line by line accounted for: ragged lines are kept apart."""

import csv
import re
from dataclasses import dataclass

import polars as pl

from schemas.errors import QosError

_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also ends lines at form feeds and U+2028


@dataclass(frozen=True)
class Lines:
    """rows: one string column a header name (stripped), and source_line; ragged: source_line, the
    text and why it could not be read."""

    rows: pl.DataFrame
    ragged: pl.DataFrame

    @property
    def count(self) -> int:
        """Lines read, the header not counted."""
        return len(self.rows) + len(self.ragged)


def read_lines(data: bytes, name: str, separator: str = ",") -> Lines:
    """The lines of one file; raises `QosError` where there is no header or no line below it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QosError(f"{name}: not UTF-8: byte {data[error.start]:#x} at {error.start}") from None
    lines = [(n, line) for n, line in enumerate(_LINE_END.split(text), start=1) if line.strip()]
    if len(lines) < 2:
        raise QosError(f"{name}: empty: {len(lines)} lines, a header and rows are needed")
    header = _header(lines[0], name, separator)
    quoted = '"' in text
    whole, ragged = [], []
    for number, line in lines[1:]:
        if quoted:
            fields = _fields(line, separator)
            count, fault = (0, fields) if isinstance(fields, str) else (len(fields), "")
        else:
            fields, fault = line, ""
            count = line.count(separator) + 1
        if count == len(header):
            whole.append((number, fields))
        else:
            fault = fault or f"{count} fields, the header has {len(header)}"
            ragged.append((number, line, f"ragged_line: {fault}"))
    rows = pl.DataFrame({"source_line": [n for n, _ in whole]}, schema={"source_line": pl.Int64})
    parsed = _columns([fields for _, fields in whole], header, separator)
    rows = pl.concat([rows, parsed.select(pl.all().str.strip_chars())], how="horizontal")
    refused = pl.DataFrame(
        ragged,
        schema={
            "source_line": pl.Int64,
            "source_text": pl.String,
            "refusal": pl.String,
        },
        orient="row",
    )
    return Lines(rows, refused)


def _header(first: tuple[int, str], name: str, separator: str) -> list[str]:
    number, line = first
    fields = _fields(line, separator)
    if isinstance(fields, str):
        raise QosError(f"{name}: line {number}: the header cannot be read: {fields}")
    header = [column.strip() for column in fields]
    if doubles := sorted({column for column in header if header.count(column) > 1}):
        raise QosError(f"{name}: line {number}: columns named twice: {doubles}")
    if "source_line" in header:
        raise QosError(f"{name}: line {number}: 'source_line' is a name of the platform's own")
    return header


def _fields(line: str, separator: str) -> list[str] | str:
    """The fields of a line, or why it has none that can be told apart."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error as error:
        return str(error)


def _columns(lines: list[str | list[str]], header: list[str], separator: str) -> pl.DataFrame:
    """A column of text each header name; lines of text hold no quotes, split ones may."""
    plain = [line for line in lines if isinstance(line, str)]
    if plain and separator.isascii():
        return pl.read_csv(
            "\n".join(plain).encode(),
            has_header=False,
            new_columns=header,
            separator=separator,
            infer_schema=False,
            empty_string_is_null=False,
            quote_char=None,
        )
    split = [line.split(separator) if isinstance(line, str) else line for line in lines]
    return pl.DataFrame(split, schema=dict.fromkeys(header, pl.String), orient="row")
