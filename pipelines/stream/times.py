"""Times of rows as the stream counts them: microseconds since 1970, UTC."""

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_repo.compute import ARRIVAL, EVENT

__all__ = ["ARRIVAL", "EVENT", "NEVER", "UTC_US", "micros", "microseconds", "time"]

UTC_US = pl.Datetime("us", "UTC")
NEVER = int(np.iinfo(np.int64).min // 2)  # before every time


def micros(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // timedelta(microseconds=1)


def microseconds(rows: pl.DataFrame, column: str) -> NDArray[np.int64]:
    """A column of times as integers."""
    times: NDArray[np.int64] = rows[column].to_physical().to_numpy()
    return times


def time(at: int) -> pl.Expr:
    """A time as a literal."""
    return pl.lit(at).cast(UTC_US)
