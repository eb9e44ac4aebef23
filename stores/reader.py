"""The fast read of online features: a FeatureService compiled once, values as arrays.

    reader = open_reader(store, "qos_v1")
    answer = reader.read({"ue_id": ["a", "b"], "cell_id": [7, 7]})
    answer.matrix, answer.status, answer.age_s

Answers are those of Feast's `get_online_features` on the stores of this package.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore

from stores.answer import NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT, Answer, Block, Bools, Ints
from stores.compiled import ViewPlan, compile_features
from stores.decode import Cell, UnreadableValue
from stores.fetched import Fetch, Keys, Raw, unique
from stores.keys import BadRequest
from stores.on_demand import computed
from stores.redis_ask import asking
from stores.redis_read import RedisFetch
from stores.redis_server import Limits, OnlineStoreAway, OnlineStoreRefuses
from stores.sqlite_read import SqliteFetch, SqliteTables

__all__ = [
    "Answer",
    "BadRequest",
    "Limits",
    "OnlineReader",
    "OnlineStoreAway",
    "OnlineStoreRefuses",
    "UnreadableValue",
    "open_reader",
]

_ENDLESS = 2**62  # microseconds


class OnlineReader:
    """Reads one compiled service. Safe to share between threads and event loops."""

    def __init__(
        self, store: FeatureStore, features: str | Sequence[str], full: bool, limits: Limits
    ):
        self.plan = compile_features(store, features, full)
        self._asked_for = (features, full)
        config = store.config.online_store
        self._enforce = getattr(config, "enforce_ttl", False)
        self._newest = getattr(config, "age_from", "now") == "newest"
        online = store._get_provider().online_store
        if isinstance(online, RedisOnlineStore):
            self._fetch: Fetch = RedisFetch(self.plan, asking(config, limits), self._newest)
        elif isinstance(online, SqliteOnlineStore):
            path = SqliteOnlineStore._get_db_path(store.config)
            self._fetch = SqliteFetch(self.plan, SqliteTables(path), self._newest)
        else:
            raise TypeError(f"{type(online).__name__}: the reader reads Redis and SQLite stores")

        self._ttls = [
            np.array([_ENDLESS if v.ttl_us is None else v.ttl_us for v in views], np.int64)
            for views in self.plan.views_of
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The features in the order of the service."""
        return self.plan.names

    def read(self, entities: Mapping[str, Sequence[Any]]) -> Answer:
        """The features of each row; columns that no feature needs are left unread.

        Without any column a service of views without entities answers one row.

        Raises BadRequest (a missing column, a null or a key of another type), OnlineStoreAway,
        OnlineStoreRefuses, UnreadableValue.
        """
        rows, keys = self._keys(entities)
        return self._answer(entities, rows, *self._fetch.ask(keys))

    async def read_async(self, entities: Mapping[str, Sequence[Any]]) -> Answer:
        """As `read`, in an event loop."""
        rows, keys = self._keys(entities)
        return self._answer(entities, rows, *await self._fetch.ask_async(keys))

    def stale(self, store: FeatureStore) -> bool:
        """Whether the store's registry, as it has it cached, says something else than was compiled."""
        try:
            now = compile_features(store, *self._asked_for)
        except (FeastObjectNotFoundException, KeyError, ValueError):
            return True
        return now.fingerprint != self.plan.fingerprint

    def close(self) -> None:
        """Closes the idle connections of threads."""
        self._fetch.close()

    async def close_async(self) -> None:
        """Closes the idle connections of threads and of the running event loop."""
        await self._fetch.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keys(self, entities: Mapping[str, Sequence[Any]]) -> tuple[int, list[Keys]]:
        missing = [name for name in self.plan.asked if name not in entities]
        if missing:
            raise BadRequest(
                f"missing {', '.join(missing)}; needed: {', '.join(self.plan.asked)}; "
                f"given: {', '.join(entities) or 'nothing'}"
            )
        lengths = {name: len(entities[name]) for name in self.plan.asked or entities}
        if len(set(lengths.values())) > 1:
            raise BadRequest(f"columns of different lengths: {lengths}")
        rows = next(iter(lengths.values()), 1)
        return rows, [unique(plan.encode(entities, rows)) for plan in self.plan.keys]

    def _answer(
        self, entities: Mapping[str, Sequence[Any]], rows: int, raws: list[Raw], clock: int | None
    ) -> Answer:
        clock_us = time.time_ns() // 1000 if clock is None else clock
        plan = self.plan
        blocks, statuses, times, absent = [], [], [], []
        for raw, views, columns, ttls in zip(
            raws, plan.views_of, plan.columns_of, self._ttls, strict=True
        ):
            status = np.where(raw.found, np.uint8(PRESENT), np.uint8(NOT_FOUND))
            if self._enforce:
                aged = raw.found & (raw.time_us < clock_us - ttls)
                if aged.any():
                    status[aged] = OUTSIDE_MAX_AGE
                    _blank(raw.cells, aged, views)
            place = raw.keys.place
            blocks.append(Block(columns, raw.keys.unique, raw.cells, place))
            statuses.append(spread(status, place))
            times.append(spread(raw.time_us, place))
            if raw.absent is not None:
                absent.append(spread(raw.absent & ~_aged_cells(status, views), place))
        computed_features = computed(plan, entities, rows, blocks) if plan.transforms else {}
        if plan.transforms:
            statuses.append(np.full((rows, 1), PRESENT, np.uint8))
            times.append(np.zeros((rows, 1), np.int64))
        return Answer(
            plan=plan,
            rows=rows,
            clock_us=clock_us,
            blocks=blocks,
            computed=computed_features,
            view_status=joined(statuses),
            view_us=joined(times),
            absent=joined(absent) if absent else None,
        )


def open_reader(
    store: FeatureStore,
    features: str | Sequence[str],
    full_feature_names: bool = False,
    limits: Limits | None = None,
) -> OnlineReader:
    """A reader of a FeatureService by name, or of a list of `view:feature` refs.

    Raises Feast's errors for what is not registered, TypeError for a store that is neither Redis
    nor SQLite. Opens no connection yet.
    """
    return OnlineReader(store, features, full_feature_names, limits or Limits())


def spread(values: Any, place: Ints | None) -> Any:
    """The rows of unique keys, one an asked row."""
    return values if place is None else values[place]


def joined(parts: Sequence[Any]) -> Any:
    """Columns side by side."""
    return parts[0] if len(parts) == 1 else np.hstack(parts)


def _blank(cells: list[list[Cell]], aged: Bools, views: Sequence[ViewPlan]) -> None:
    starts = np.cumsum([0, *(len(view.columns) for view in views)]).tolist()
    for row, view in np.argwhere(aged).tolist():
        start, stop = starts[view], starts[view + 1]
        cells[row][start:stop] = [None] * (stop - start)


def _aged_cells(status: Any, views: Sequence[ViewPlan]) -> Any:
    widths = [len(view.columns) for view in views]
    return np.repeat(status == OUTSIDE_MAX_AGE, widths, axis=1)
