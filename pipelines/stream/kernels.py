"""The operations of `feature_repo.kernels` over many windows at once, each a row of a matrix.

A window's values stand anywhere in their row; `ok` marks those that count. NaN in a result is null.
Equal to the batch kernels but for the rounding of sums, which are added in another order.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.stream.times import NEVER

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Windows:
    """The windows of n emissions over one column.

    value: (n, m) float64, NaN where null; event: (n, m) and end: (n,) microseconds; ok: (n, m), the
    value is not null and inside. orders: (n, m) each, what tells rows of one event apart, the weightiest
    first.
    """

    value: Floats
    event: Ints
    end: Ints
    ok: Marks
    orders: tuple[NDArray[np.float64] | Ints, ...] = ()

    @property
    def count(self) -> Ints:
        """Values in each window."""
        count: Ints = self.ok.sum(axis=1)
        return count

    def sums(self, value: Floats) -> Floats:
        """Sum of what counts of a matrix."""
        total: Floats = np.where(self.ok, value, 0.0).sum(axis=1)
        return total

    def mean(self, value: Floats) -> Floats:
        """Mean of what counts of a matrix; NaN for an empty window."""
        count = self.count
        return np.where(count > 0, self.sums(value) / np.maximum(count, 1), np.nan)


def _least(w: Windows) -> Floats:
    least = np.where(w.ok, w.value, np.inf).min(axis=1)
    return np.where(np.isinf(least), np.nan, least)


def _greatest(w: Windows) -> Floats:
    greatest = np.where(w.ok, w.value, -np.inf).max(axis=1)
    return np.where(np.isinf(greatest), np.nan, greatest)


def _std(w: Windows) -> Floats:
    off = np.where(w.ok, w.value, 0.0) - w.mean(w.value)[:, None]
    return np.where(w.count >= 2, np.sqrt(w.mean(off * off)), np.nan)


def _slope(w: Windows) -> Floats:
    seconds = (w.event - w.end[:, None]) / 1e6
    centred = np.where(w.ok, seconds - w.mean(seconds)[:, None], 0.0)
    off = np.where(w.ok, w.value, 0.0) - w.mean(w.value)[:, None]
    first = np.where(w.ok, w.event, -NEVER).min(axis=1)
    instants = np.where(w.ok, w.event, NEVER).max(axis=1) > first
    spread = np.where(instants, w.sums(centred * centred), 1.0)
    return np.where(instants, w.sums(centred * off) / spread, np.nan)


def _count(w: Windows) -> Floats:
    return w.count.astype(np.float64)


def _since(w: Windows) -> Floats:
    newest = np.where(w.ok, w.event, NEVER).max(axis=1)
    return np.where(newest > NEVER, (w.end - newest) / 1e6, np.nan)


def _last(w: Windows) -> Floats:
    """The value of the newest event; of several rows of it, of the last in their order."""
    left = w.ok
    for order in (w.event, *w.orders, w.value):
        if (left.sum(axis=1) <= 1).all():
            break
        low = NEVER if order.dtype.kind == "i" else -np.inf
        known = (
            order if order.dtype.kind == "i" else np.nan_to_num(order, nan=-np.inf, neginf=-np.inf)
        )
        best = np.where(left, known, low).max(axis=1)
        left = left & (known == best[:, None])
    place = left.argmax(axis=1)
    value = np.take_along_axis(w.value, place[:, None], axis=1)[:, 0]
    return np.where(left.any(axis=1), value, np.nan)


def _quantile(share: float) -> Callable[[Windows], Floats]:
    def quantile(w: Windows) -> Floats:
        ordered = np.sort(np.where(w.ok, w.value, np.inf), axis=1)
        count = w.count
        place = share * np.maximum(count - 1, 0)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        below = np.take_along_axis(ordered, low[:, None], axis=1)[:, 0]
        above = np.take_along_axis(ordered, high[:, None], axis=1)[:, 0]
        known = count > 0
        below, above = np.where(known, below, 0.0), np.where(known, above, 0.0)
        return np.where(known, below + (place - low) * (above - below), np.nan)

    return quantile


def _share_below(threshold: float) -> Callable[[Windows], Floats]:
    return lambda w: w.mean((w.value < threshold).astype(np.float64))


_PLAIN: dict[str, Callable[[Windows], Floats]] = {
    "last": _last,
    "mean": lambda w: w.mean(w.value),
    "min": _least,
    "max": _greatest,
    "std": _std,
    "slope": _slope,
    "count": _count,
    "since_s": _since,
}
_QUANTILE = re.compile(r"p(\d{1,2})")
_SHARE_BELOW = re.compile(r"share_below_(minus_)?(\d+)")


def matrix_kernel(op: str) -> Callable[[Windows], Floats]:
    """The operation `op` of `feature_repo.kernels` over a matrix. Raises KeyError for an unknown one."""
    if op in _PLAIN:
        return _PLAIN[op]
    if match := _QUANTILE.fullmatch(op):
        return _quantile(int(match[1]) / 100)
    if match := _SHARE_BELOW.fullmatch(op):
        return _share_below(float(match[2]) * (-1 if match[1] else 1))
    raise KeyError(
        f"no operation {op!r} over a matrix; known: {[*_PLAIN, 'p<percent>', 'share_below_…']}"
    )
