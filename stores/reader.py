"""The fast read of online features: a FeatureService compiled once, values as arrays.

    reader = open_reader(store, "qos_v1")
    answer = reader.read({"ue_id": ["a", "b"], "cell_id": [7, 7]})
    answer.matrix, answer.status, answer.age_s

Answers are those of Feast's `get_online_features` on the stores of this package.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from feast import FeatureStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore

from stores.answer import Answer, Block, Computed, Source, spread
from stores.compiled import BadRequest, compile_features
from stores.decode import UnreadableValue
from stores.fetched import Fetch, Keys, Raw, unique
from stores.on_demand import computed
from stores.redis_lines import Limits, OnlineStoreAway, OnlineStoreRefuses, asking
from stores.redis_read import RedisFetch
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

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 3, 4  # Feast's FieldStatus
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Statuses = np.ndarray[Any, np.dtype[np.uint8]]


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
            self._fetch: Fetch = RedisFetch(self.plan, asking(online, config, limits), self._newest)
        elif isinstance(online, SqliteOnlineStore):
            path = SqliteOnlineStore._get_db_path(store.config)
            self._fetch = SqliteFetch(self.plan, SqliteTables(path), self._newest)
        else:
            raise TypeError(f"{type(online).__name__}: the reader reads Redis and SQLite stores")

    @property
    def names(self) -> tuple[str, ...]:
        """The features in the order of the service."""
        return self.plan.names

    def read(self, entities: Mapping[str, Sequence[Any]]) -> Answer:
        """The features of each row; columns that no feature needs are left unread.

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
        """Whether the store's registry now says something else than what was compiled."""
        return compile_features(store, *self._asked_for).fingerprint != self.plan.fingerprint

    def close(self) -> None:
        """Closes the connections."""
        self._fetch.close()

    def _keys(self, entities: Mapping[str, Sequence[Any]]) -> tuple[int, list[Keys]]:
        missing = [name for name in self.plan.asked if name not in entities]
        if missing:
            raise BadRequest(
                f"missing {', '.join(missing)}; needed: {', '.join(self.plan.asked)}; "
                f"given: {', '.join(entities) or 'nothing'}"
            )
        lengths = {name: len(entities[name]) for name in self.plan.asked}
        if len(set(lengths.values())) > 1:
            raise BadRequest(f"columns of different lengths: {lengths}")
        rows = next(iter(lengths.values()), 1)
        return rows, [unique(plan.encode(entities, rows)) for plan in self.plan.keys]

    def _answer(
        self, entities: Mapping[str, Sequence[Any]], rows: int, blocks: list[Raw], clock: Any
    ) -> Answer:
        clock_us = time.time_ns() // 1000 if clock is None else int(clock)
        done = [self._block(index, raw, clock_us) for index, raw in enumerate(blocks)]
        sources: dict[str, Source] = {
            column.name: (block, place)
            for block in done
            for place, column in enumerate(block.columns)
        }
        if self.plan.transforms:
            sources |= computed(self.plan, entities, rows, sources)
        chosen = [sources[name] for name in self.plan.names]
        status = np.empty((rows, len(chosen)), np.uint8)
        event_us = np.empty((rows, len(chosen)), np.int64)
        for place, source in enumerate(chosen):
            if isinstance(source, Computed):
                status[:, place], event_us[:, place] = PRESENT, 0
            else:
                block, column = source
                status[:, place] = spread(block.status[:, column], block.place)
                event_us[:, place] = spread(block.time_us, block.place)
        return Answer(self.plan.names, rows, clock_us, status, event_us, chosen)

    def _block(self, index: int, raw: Raw, clock_us: int) -> Block:
        view = self.plan.views[index]
        time_us = raw.time_us
        status = np.full((len(time_us), len(view.columns)), PRESENT, np.uint8)
        cells = raw.cells
        if raw.absent is not None:
            status[raw.absent] = NOT_FOUND
        status[~raw.found] = NOT_FOUND
        if self._enforce and view.ttl_us is not None:
            aged = raw.found & (time_us < clock_us - view.ttl_us)
            if aged.any():
                status[aged] = OUTSIDE_MAX_AGE
                blank = [None] * len(view.columns)
                cells = [
                    blank if old else row for old, row in zip(aged.tolist(), cells, strict=True)
                ]
        return Block(view.columns, raw.keys.unique, cells, time_us, status, raw.keys.place)


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
