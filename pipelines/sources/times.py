"""Time columns of a mapping: their format and zone, never guessed."""

import re
import zoneinfo

import polars as pl
from pydantic import BaseModel, ConfigDict

from schemas.errors import QosError

_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
_EPOCH_US = {"epoch_s": 1e6, "epoch_ms": 1e3, "epoch_us": 1.0}
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_000_000  # the years 1 to 9999


class TimeColumn(BaseModel):
    """column: its name; format: strptime, `iso`, `epoch_s`, `epoch_ms` or `epoch_us`; zone: `UTC`, an
    offset such as `+08:00` or a name such as `Asia/Taipei`, needed where the text bears none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    format: str = "iso"
    zone: str | None = None

    def expression(self, where: str, rows: pl.DataFrame) -> pl.Expr:
        """UTC microseconds, null where the text is no such time; raises `QosError` for a naive time
        without a zone and for an unknown zone."""
        column = pl.col(self.column)
        dtype = rows.schema[self.column]
        if isinstance(dtype, pl.Datetime):
            if dtype.time_zone is not None:
                return column.cast(pl.Datetime("us", dtype.time_zone)).dt.convert_time_zone("UTC")
            return self._placed(column.cast(pl.Datetime("us")), where)
        if self.format in _EPOCH_US:
            micros = (column.cast(pl.Float64, strict=False) * _EPOCH_US[self.format]).round(0)
            known = pl.when(micros.is_between(_FIRST_US, _LAST_US)).then(micros)
            return known.cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
        if self.format == "iso":
            return self._iso(column, where, rows)
        zoned = "%z" in self.format or "%:z" in self.format
        parsed = column.str.to_datetime(
            self.format,
            time_unit="us",
            strict=False,
            time_zone="UTC" if zoned else None,
        )
        return parsed if zoned else self._placed(parsed, where)

    def _iso(self, column: pl.Expr, where: str, rows: pl.DataFrame) -> pl.Expr:
        text = column.str.replace(" ", "T", literal=True)
        zoned = text.str.contains(r"(Z|[+-]\d{2}:?\d{2})$")
        naive = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        bare = rows.select((~zoned & naive.is_not_null()).sum()).item()
        if bare and self.zone is None:
            raise QosError(
                f"{where}: {bare} of {len(rows)} times in {self.column!r} bear no zone and the mapping "
                "names none; add `zone: UTC`, an offset or a zone name"
            )
        with_zone = text.str.replace("Z$", "+00:00").str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False, time_zone="UTC"
        )
        if not bare:
            return with_zone
        return pl.coalesce(with_zone, self._placed(naive, where))

    def _placed(self, naive: pl.Expr, where: str) -> pl.Expr:
        if self.zone is None:
            raise QosError(
                f"{where}: times in {self.column!r} bear no zone and the mapping names none; "
                "add `zone: UTC`, an offset or a zone name"
            )
        if offset := _OFFSET.fullmatch(self.zone):
            minutes = (int(offset[2]) * 60 + int(offset[3])) * (1 if offset[1] == "+" else -1)
            return (naive - pl.duration(minutes=minutes)).dt.replace_time_zone("UTC")
        if self.zone not in zoneinfo.available_timezones():
            raise QosError(f"{where}: unknown zone {self.zone!r}; e.g. UTC, +08:00, Asia/Taipei")
        placed = naive.dt.replace_time_zone(self.zone, ambiguous="null", non_existent="null")
        return placed.dt.convert_time_zone("UTC")
