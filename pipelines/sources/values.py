"""Text to numbers with every value that became null counted by its reason."""

from collections import Counter
from dataclasses import dataclass

import polars as pl

MISSING = ("", "-")
# A plain number of ten or more digits is a subscriber's (IMSI, MSISDN), not a measurement, unless
# its unit is so small that the converted value stays below anything that a contract allows.
_ID_FROM, _NO_VALUE_FROM = 1e9, 2e4


@dataclass(frozen=True)
class Number:
    """One number column: where it stands, how its unit converts, which texts and values mean null.

    value = text * scale + offset; missing: texts; sentinels: values before conversion;
    below: smaller values (before conversion) are no measurements, with that reason; whole: only
    integers are numbers. A number as long as a subscriber id is none.
    """

    column: str
    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[str, ...] = MISSING
    sentinels: tuple[float, ...] = ()
    below: tuple[float, str] | None = None
    whole: bool = False

    def parsed(self) -> pl.Expr:
        """The text as a number, null where it is none."""
        raw = pl.col(self.column).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        value = raw * self.scale + self.offset
        fits = (raw.abs() < _ID_FROM) | (value.abs() < _NO_VALUE_FROM) | ~raw.is_finite()
        if self.sentinels:
            fits |= raw.is_in(list(self.sentinels))
        if self.whole:
            fits &= raw.is_finite() & (raw == raw.round(0))
        return pl.when(fits).then(raw)

    def expression(self) -> pl.Expr:
        """The value in the target's unit; null where missing, sentinel or unparseable."""
        raw = self.parsed()
        kept = pl.when(~raw.is_in(list(self.sentinels))).then(raw) if self.sentinels else raw
        if self.below is not None:
            kept = pl.when(raw >= self.below[0]).then(kept)
        if self.scale == 1.0 and self.offset == 0.0:
            return kept
        return kept * self.scale + self.offset

    def reasons(self) -> dict[str, pl.Expr]:
        """Reason to a boolean expression: which rows lost their value to it."""
        text = pl.col(self.column).cast(pl.String).str.strip_chars()
        raw = self.parsed()
        found = {f"missing {marker!r}": text == marker for marker in self.missing}
        found |= {f"sentinel {value:g}": raw == value for value in self.sentinels}
        if self.below is not None:
            found[self.below[1]] = (raw < self.below[0]) & ~raw.is_in(list(self.sentinels))
        return found

    def unparseable(self) -> pl.Expr:
        """Which rows have a text that is neither a number nor a missing marker."""
        text = pl.col(self.column).cast(pl.String).str.strip_chars()
        return text.is_not_null() & ~text.is_in(list(self.missing)) & self.parsed().is_null()


def count_nulls(
    rows: pl.DataFrame, table: str, numbers: dict[str, Number]
) -> dict[str, Counter[str]]:
    """ "table.column" -> reason -> how many values became null, reasons without any left out."""
    if not numbers:
        return {}
    counts = rows.select(
        condition.sum().alias(f"{target}\0{reason}")
        for target, number in numbers.items()
        for reason, condition in number.reasons().items()
    ).row(0, named=True)
    nulls: dict[str, Counter[str]] = {}
    for name, count in counts.items():
        target, reason = name.split("\0")
        if count:
            nulls.setdefault(f"{table}.{target}", Counter())[reason] += count
    return nulls


def refusal(numbers: dict[str, Number]) -> pl.Expr:
    """Why a row cannot be read: its first unparseable number; null where it can."""
    reasons = [
        pl.when(number.unparseable()).then(
            pl.format(
                "unparseable: {} {}",
                pl.lit(target),
                pl.col(number.column).cast(pl.String),
            )
        )
        for target, number in numbers.items()
    ]
    return pl.coalesce(*reasons, pl.lit(None, pl.String)) if reasons else pl.lit(None, pl.String)
