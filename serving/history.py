"""What the online store held at a decision, read from the offline store's history.

The store held the rows that had been materialised by then, not all that had arrived. A record says
which: the event time of each view. So a view's values are those of the row of that key and event time
that had arrived by the decision, the last arrived of several. Where the recorded values are of an
earlier arrival of the same event, the store was behind: then it is that row, and it is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from serving.record import Codes, DecisionRecord, Floats, Ints
from serving.vectors import Layout
from stores.answer import NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT
from stores.source import UTC_US, columns_of, scan, utc

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

_AT, _ARRIVED, _ROW = "_event_us", "_arrived_us", "_row"


@dataclass(frozen=True)
class Past:
    """An online read as it was, with the interface that `Layout.vectors` takes.

    matrix, status, age_s, event_us: rows x stored features in the order of `Layout.refs`; lost: (row,
    view) whose row is not in the history; behind: how many views held an earlier arrival of their event.
    """

    rows: int
    clock_us: int
    matrix: Floats
    status: Codes
    age_s: Floats
    event_us: Ints
    lost: tuple[tuple[int, str], ...]
    behind: int


def past_of(store: "FeatureStore", layout: Layout, records: Sequence[DecisionRecord]) -> list[Past]:
    """The read of each record, in their order; every view is read once for all of them.

    Raises what Feast or the files raise where a source cannot be read, `KeyError` for a record of other
    views than the layout's.
    """
    features = {view: [r.partition(":")[2] for r in layout.refs if r.startswith(f"{view}:")]
               for view in layout.views}  # fmt: skip
    asked = _asked(records)
    made: list[list[_View]] = [[] for _ in records]
    if not records:
        return []
    for view in layout.views:
        place = [layout.place[name] for name in features[view]]
        found = _of_view(store, store.get_feature_view(view), features[view], place, records, asked)
        for parts, one in zip(made, found, strict=True):
            parts.append(one)
    return [
        _joined(record, layout.views, parts) for record, parts in zip(records, made, strict=True)
    ]


@dataclass(frozen=True)
class _View:
    """A view's part: values and codes are rows x its features, event_us, lost and behind a row each."""

    values: Floats
    codes: Codes
    event_us: Ints
    lost: Any
    behind: Any


def _joined(record: DecisionRecord, views: Sequence[str], parts: Sequence[_View]) -> Past:
    assert record.clock_us is not None  # only what was read is asked for
    event = np.hstack([
        np.repeat(one.event_us[:, None], one.values.shape[1], axis=1) for one in parts
    ])  # fmt: skip
    age = (record.clock_us - event) / 1e6
    age[event == 0] = np.nan
    lost = [(row, v) for v, one in zip(views, parts, strict=True)
            for row in np.flatnonzero(one.lost).tolist()]  # fmt: skip
    return Past(
        rows=len(record.cells),
        clock_us=record.clock_us,
        matrix=np.hstack([one.values for one in parts]),
        status=np.hstack([one.codes for one in parts]),
        age_s=age,
        event_us=event,
        lost=tuple(lost),
        behind=sum(int(one.behind.sum()) for one in parts),
    )


def _asked(records: Sequence[DecisionRecord]) -> pl.DataFrame:
    """A row a cell of a record: its keys."""
    return pl.DataFrame(
        {
            "ue_id": [one.ue_id for one in records for _ in one.cells],
            "five_qi": [one.five_qi for one in records for _ in one.cells],
            "cell_id": [cell for one in records for cell in one.cells],
        },
        schema={"ue_id": pl.String, "five_qi": pl.Int64, "cell_id": pl.String},
    )


def _of_view(
    store: "FeatureStore",
    view: "FeatureView",
    features: list[str],
    place: list[int],
    records: Sequence[DecisionRecord],
    asked: pl.DataFrame,
) -> list[_View]:
    event = np.concatenate([one.event_us[:, one.views.index(view.name)] for one in records])
    keys = list(columns_of(view)[0])
    wanted = asked.select(keys).with_columns(
        pl.Series(_AT, event), pl.int_range(pl.len()).alias(_ROW)
    )
    history: dict[int, list[tuple[int, Floats]]] = {}
    for row, arrived, *values in _rows(store, view, features, wanted).iter_rows():
        history.setdefault(row, []).append((arrived, np.array(values, np.float64)))
    ttl = view.ttl if view.ttl else timedelta(0)
    enforced = bool(getattr(store.config.online_store, "enforce_ttl", False)) and bool(ttl)
    found, start = [], 0
    for one in records:
        stop = start + len(one.cells)
        known = [history.get(row, []) for row in range(start, stop)]
        ttl_us = ttl // timedelta(microseconds=1) if enforced else None
        found.append(_chosen(one, place, event[start:stop], known, ttl_us))
        start = stop
    return found


def _chosen(
    record: DecisionRecord,
    place: list[int],
    event: Ints,
    known: list[list[tuple[int, Floats]]],
    ttl_us: int | None,
) -> _View:
    """The view's rows of one record: values by history, codes by event time and ttl."""
    count, width = len(event), len(place)
    values = np.full((count, width), np.nan)
    codes = np.full((count, width), NOT_FOUND, np.uint8)
    lost, behind = np.zeros(count, bool), np.zeros(count, bool)
    assert record.clock_us is not None
    by = None if record.clock_us > record.decided_us else record.decided_us
    for row in range(count):
        if event[row] == 0:
            continue
        arrived = [one for at, one in known[row] if by is None or at <= by]
        lost[row] = not arrived
        codes[row] = PRESENT
        if ttl_us is not None and event[row] < record.clock_us - ttl_us:
            codes[row] = OUTSIDE_MAX_AGE
            continue
        if not arrived:
            continue
        values[row], behind[row] = _held(
            arrived, record.vectors[row, place], record.statuses[row, place]
        )
        absent = (record.statuses[row, place] == NOT_FOUND) & (codes[row] == PRESENT)
        values[row, absent], codes[row, absent] = np.nan, NOT_FOUND
    return _View(values, codes, event, lost, behind)


def _held(arrived: list[Floats], recorded: Floats, statuses: Codes) -> tuple[Floats, bool]:
    """The row that the store held, and whether it was an earlier arrival than the last."""
    as_read = statuses == PRESENT  # neither overridden nor filled in
    for place in range(len(arrived) - 1, -1, -1):
        if np.array_equal(arrived[place][as_read], recorded[as_read], equal_nan=True):
            return arrived[place], place < len(arrived) - 1
    return arrived[-1], False


def _rows(
    store: "FeatureStore", view: "FeatureView", features: list[str], wanted: pl.DataFrame
) -> pl.DataFrame:
    """Of each wanted row (its number, keys and event time) the history's rows, by arrival."""
    keys, columns, time, created = columns_of(view)
    source = view.batch_source
    assert source is not None
    history = scan(store.config, source)
    kinds = history.collect_schema()
    at = utc(pl.col(time), kinds[time])
    arrived = pl.lit(0, pl.Int64) if created is None else utc(pl.col(created), kinds[created])
    asked = wanted.filter(pl.col(_AT) > 0)
    first, last = (pl.lit(us, pl.Int64).cast(UTC_US) for us in (asked[_AT].min(), asked[_AT].max()))
    return (
        history.filter(at.is_between(first, last))
        .select(
            *(pl.col(column).alias(name) for name, column in keys.items()),
            *(pl.col(columns[name]).cast(pl.Float64).alias(name) for name in features),
            at.cast(pl.Int64).alias(_AT),
            arrived.cast(pl.Int64).alias(_ARRIVED),
        )
        .join(asked.lazy(), on=[*keys, _AT])
        .select(_ROW, _ARRIVED, *features)
        .sort(_ROW, _ARRIVED, maintain_order=True)
        .collect()
    )
