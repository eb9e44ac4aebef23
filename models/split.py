"""Cuts sessions into train, dev and test by time, so that no session and no day's conditions leak.

The rule. Two cuts in time part the data into three windows. A session belongs to the window that
holds most of its decisions; decisions of it that lie outside that window, or whose label was only
known after its end, are left out and counted. So no session is in two parts, sessions that overlap
in time never face each other across a cut, and every test decision is later than the moment the
last train label was known.

Where. The cuts are midnights (UTC) when there are enough days to come near the wanted shares, as
recordings of one day share weather, route and load; else they are starts of sessions. Among the
candidates the pair is taken that comes nearest to the shares and leaves out the fewest rows.
"""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from schemas.errors import QosError

Unit = Literal["day", "session"]

MOST_CANDIDATES = 120
LEAST_OF_SHARE = 0.5  # a cut by days is refused when a part gets less than half of its share
MOST_LEFT_OUT = 0.05  # ... or when more than this share of the rows falls between the parts


class SplitError(QosError):
    """The sessions cannot be parted into train, dev and test."""


@dataclass(frozen=True)
class Split:
    """Session ids of each part, ordered by start, and the two cuts (UTC).

    `unit`: what the cuts are aligned to. `left_out`: rows that are in no part.
    """

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    dev_from: datetime
    test_from: datetime
    unit: Unit
    left_out: int


def split_sessions(rows: pl.DataFrame, shares: tuple[float, ...]) -> Split:
    """The split of decisions (`session_id`, `event_timestamp`, `label_until`) by the rule above.

    shares: the wanted shares of the rows in train, dev and test; positive, summing to 1.
    Raises `SplitError` where fewer than three groups of sessions follow one another in time.
    """
    _check_shares(shares)
    sessions = (
        rows.group_by("session_id")
        .agg(start=pl.col("event_timestamp").min(), rows=pl.len())
        .sort("start", "session_id")
    )
    units: tuple[Unit, ...] = ("day", "session")
    for unit in units:
        candidates = _candidates(sessions, unit)
        found = _best_pair(rows, sessions, candidates, shares, strict=unit == "day")
        if found is not None:
            return _assign(rows, sessions, *found, unit=unit)
    raise SplitError(
        f"split: {sessions.height} sessions of {rows.height} rows leave a part empty, because they "
        f"overlap in time or are too few; train, dev and test need at least one session each, one "
        f"after the other"
    )


def part_of_rows(rows: pl.DataFrame, split: Split) -> pl.Series:
    """ "train", "dev", "test" or null (left out) for every decision row, in the rows' order."""
    decided, known = pl.col("event_timestamp"), pl.col("label_until")
    session = pl.col("session_id")
    return rows.select(
        part=pl.when(session.is_in(split.train) & (known <= split.dev_from))
        .then(pl.lit("train"))
        .when(session.is_in(split.dev) & (decided >= split.dev_from) & (known <= split.test_from))
        .then(pl.lit("dev"))
        .when(session.is_in(split.test) & (decided >= split.test_from))
        .then(pl.lit("test"))
    )["part"]


def _check_shares(shares: tuple[float, ...]) -> None:
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise SplitError(
            f"split: shares are {list(shares)}; three positive numbers for train, dev and test "
            f"are needed that sum to 1"
        )


def _candidates(sessions: pl.DataFrame, unit: Unit) -> pl.Series:
    """Times at which a cut may lie, ascending: at most `MOST_CANDIDATES`, evenly thinned."""
    start = sessions["start"]
    times: pl.Series = (start.dt.truncate("1d") if unit == "day" else start).unique().sort()[1:]
    if len(times) <= MOST_CANDIDATES:
        return times
    return times.gather(np.linspace(0, len(times) - 1, MOST_CANDIDATES).round().astype(int))


def _best_pair(
    rows: pl.DataFrame,
    sessions: pl.DataFrame,
    candidates: pl.Series,
    shares: tuple[float, ...],
    *,
    strict: bool,
) -> tuple[datetime, datetime] | None:
    """The two cuts of least cost, or None if no pair gives every part its due."""
    if len(candidates) < 2:
        return None
    before = _rows_before(rows, sessions, candidates)  # sessions x candidates
    total = sessions["rows"].to_numpy()[:, None]
    best: tuple[float, int, int] | None = None
    for first in range(len(candidates) - 1):
        early = before[:, [first]]
        late = before[:, first + 1 :]
        windows = np.stack([np.broadcast_to(early, late.shape), late - early, total - late])
        home = windows.argmax(axis=0)
        kept = np.stack([(windows[part] * (home == part)).sum(axis=0) for part in range(3)])
        share = kept / rows.height
        left_out = 1 - share.sum(axis=0)
        cost = np.abs(share - np.array(shares)[:, None]).sum(axis=0) + left_out
        bad = (share <= 0).any(axis=0)
        if strict:
            bad |= (share < LEAST_OF_SHARE * np.array(shares)[:, None]).any(axis=0)
            bad |= left_out > MOST_LEFT_OUT
        cost = np.where(bad, np.inf, cost)
        second = int(cost.argmin())
        if np.isfinite(cost[second]) and (best is None or cost[second] < best[0] - 1e-12):
            best = (float(cost[second]), first, first + 1 + second)
    return None if best is None else (candidates[best[1]], candidates[best[2]])


def _rows_before(
    rows: pl.DataFrame, sessions: pl.DataFrame, candidates: pl.Series
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """How many decisions of each session lie before each candidate cut."""
    number = {name: place for place, name in enumerate(sessions["session_id"])}
    session = rows["session_id"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
    times = rows["event_timestamp"].dt.timestamp("us").to_numpy()
    cuts = candidates.dt.timestamp("us").to_numpy()
    window = np.searchsorted(cuts, times, side="right")  # 0: before the first cut
    counts = np.zeros((sessions.height, len(cuts) + 1), dtype=np.int64)
    np.add.at(counts, (session, window), 1)
    return counts.cumsum(axis=1)[:, :-1]


def _assign(
    rows: pl.DataFrame,
    sessions: pl.DataFrame,
    dev_from: datetime,
    test_from: datetime,
    unit: Unit,
) -> Split:
    """The split at two given cuts."""
    cuts = pl.Series([dev_from, test_from]).cast(rows["event_timestamp"].dtype)
    before = _rows_before(rows, sessions, cuts)
    total = sessions["rows"].to_numpy()
    home = np.stack([before[:, 0], before[:, 1] - before[:, 0], total - before[:, 1]]).argmax(
        axis=0
    )
    names = sessions["session_id"].to_numpy()
    train, dev, test = (tuple(str(name) for name in names[home == part]) for part in range(3))
    split = Split(train, dev, test, dev_from, test_from, unit, left_out=0)
    return dataclasses.replace(split, left_out=int(part_of_rows(rows, split).null_count()))
