"""Reads delimited text into strings, line by line accounted for: ragged lines are kept apart."""

import csv
import io
from dataclasses import dataclass

import polars as pl

from schemas.errors import QosError


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
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if len(lines) < 2:
        raise QosError(f"{name}: empty: {len(lines)} lines, a header and rows are needed")
    quoted = '"' in text
    header = [column.strip() for column in _fields(lines[0][1], separator, quoted)]
    if doubles := sorted({column for column in header if header.count(column) > 1}):
        raise QosError(f"{name}: line 1: columns named twice: {doubles}")
    whole, ragged = [], []
    for number, line in lines[1:]:
        fields = len(_fields(line, separator, quoted)) if quoted else line.count(separator) + 1
        if fields == len(header):
            whole.append((number, line))
        else:
            ragged.append(
                (
                    number,
                    line,
                    f"ragged_line: {fields} fields, the header has {len(header)}",
                )
            )
    rows = pl.DataFrame({"source_line": [n for n, _ in whole]}, schema={"source_line": pl.Int64})
    if whole:
        body = "\n".join(line for _, line in whole).encode()
        parsed = pl.read_csv(
            body,
            has_header=False,
            new_columns=header,
            separator=separator,
            infer_schema=False,
            empty_string_is_null=False,
            quote_char='"' if quoted else None,
        )
        rows = pl.concat([rows, parsed.select(pl.all().str.strip_chars())], how="horizontal")
    else:
        rows = rows.with_columns(pl.lit(None, pl.String).alias(column) for column in header)
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


def _fields(line: str, separator: str, quoted: bool) -> list[str]:
    if not quoted:
        return line.split(separator)
    return next(csv.reader(io.StringIO(line), delimiter=separator))
