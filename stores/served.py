"""The reads that a server keeps compiled: one a service or list of features, bounded, kept fresh."""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from feast import FeatureStore
from feast.errors import FeastError, FeastObjectNotFoundException
from feast.feature_server_utils import convert_response_to_dict
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.utils import _get_cached_request_context

from stores.answer import Answer
from stores.decode import kind_of
from stores.http_json import Asked, Refused, check, feast_body, response
from stores.http_values import present, results, written
from stores.reader import OnlineReader, open_reader
from stores.redis_ask import asking
from stores.redis_server import Limits
from stores.sqlite_read import SqliteTables

AFTER_ITS_LAST_ANSWER_S = 30.0
IN_A_THREAD = 20_000  # values from which an answer is made beside the event loop
log = logging.getLogger("stores.server")
Key = tuple[str | tuple[str, ...], bool]


@dataclass(frozen=True)
class Served:
    """A body, and how many of its values have each of Feast's five statuses."""

    body: bytes
    statuses: list[int]


class Read(Protocol):
    """One compiled read."""

    async def answer(self, asked: Asked) -> Served: ...

    def stale(self, store: FeatureStore) -> bool: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Facts:
    """What an answer says beside the features. join_keys: by the entity's name, which may stand for it.

    echoed: columns of the request that an answer gives back; versions: of the views.
    """

    features: str | tuple[str, ...]
    full_names: bool
    join_keys: dict[str, str]
    echoed: frozenset[str]
    versions: list[dict[str, Any]]


def facts_of(store: FeatureStore, features: str | tuple[str, ...], full: bool) -> Facts:
    """Raises Feast's errors for what is not registered, Refused for what cannot be asked together."""
    asked: Any = (
        store.get_feature_service(features) if isinstance(features, str) else list(features)
    )
    try:
        context = _get_cached_request_context(store.registry, store.project, asked, full)
    except KeyError as why:
        raise Refused(404, str(why.args[0])) from None
    except ValueError as why:
        raise Refused(400, str(why)) from None
    _, _, join_keys, _, keys, grouped, _, _, _ = context
    versions = []
    for view, _ in grouped:
        entry: dict[str, Any] = {"name": view.projection.name_alias or view.projection.name}
        if number := getattr(view, "current_version_number", 0):
            entry["version"] = number
        if entry not in versions:
            versions.append(entry)
    echoed = frozenset(key for key in keys if isinstance(key, str))
    renamed = {name: key for name, key in join_keys.items() if name not in echoed}
    return Facts(features, full, renamed, echoed, versions)


class FeastRead:
    """Feast's own read, in a thread: for the stores and features that no reader compiles."""

    def __init__(self, store: FeatureStore, features: str | tuple[str, ...], full: bool):
        self.store, self.full = store, full
        self.service = isinstance(features, str)
        self.features: Any = self._named(features)

    def _named(self, features: str | tuple[str, ...]) -> Any:
        if isinstance(features, str):
            return self.store.get_feature_service(features, allow_cache=True)
        return list(features)

    async def answer(self, asked: Asked) -> Served:
        return await asyncio.to_thread(self._answer, asked)

    def _answer(self, asked: Asked) -> Served:
        if not asked.entities:
            raise Refused(400, "entities is empty: a column of it says how many rows are wanted")
        try:
            proto = self.store.get_online_features(
                self.features,
                asked.entities,
                full_feature_names=self.full,
                include_feature_view_version_metadata=asked.versions,
            ).proto
        except (KeyError, TypeError, ValueError) as why:
            raise Refused(400, f"Feast cannot answer: {why}") from None
        statuses = [status for vector in proto.results for status in vector.statuses]
        counts = np.bincount(np.array(statuses, np.int64), minlength=5).tolist()
        return Served(feast_body(convert_response_to_dict(proto)), counts)

    def stale(self, store: FeatureStore) -> bool:
        return self.service and self._named(self.features.name) != self.features

    async def close(self) -> None:
        """Nothing to close."""


class CompiledRead:
    """A compiled reader's answers as Feast's JSON."""

    def __init__(self, reader: OnlineReader, facts: Facts):
        self.reader, self.facts = reader, facts
        self.features = written(reader.plan)
        self.request = [(name, kind_of(dtype)) for name, dtype in reader.plan.request]

    async def answer(self, asked: Asked) -> Served:
        entities = {self.facts.join_keys.get(n, n): c for n, c in asked.entities.items()}
        for name, kind in self.request:
            check(name, kind, entities.get(name, []))
        if asked.rows * len(self.reader.names) > IN_A_THREAD:
            return await asyncio.to_thread(
                lambda: self._served(asked, entities, self.reader.read(entities))
            )
        return self._served(asked, entities, await self.reader.read_async(entities))

    def _served(self, asked: Asked, entities: dict[str, list[Any]], answer: Answer) -> Served:
        keys = [name for name in entities if name in self.facts.echoed]
        metadata: dict[str, Any] = {"feature_names": [*keys, *answer.names]}
        if asked.versions:
            metadata["feature_view_metadata"] = self.facts.versions
        found = [present(entities[name]) for name in keys]
        found += results(answer, self.features)
        counts = np.bincount(answer.status.ravel(), minlength=5)
        return Served(response(found, metadata), counts.tolist())

    def stale(self, store: FeatureStore) -> bool:
        asked = self.facts.features, self.facts.full_names
        return self.reader.stale(store) or facts_of(store, *asked) != self.facts

    async def close(self) -> None:
        await self.reader.close_async()


def open_read(store: FeatureStore, features: str | tuple[str, ...], full: bool) -> Read:
    """The fastest read there is of these features. Raises Feast's errors for unknown ones."""
    facts = facts_of(store, features, full)
    try:
        reader = open_reader(store, features, full)
    except FeastError:
        raise
    except (TypeError, ValueError) as why:
        log.warning("%s: read by Feast itself: %s", features, why)
        return FeastRead(store, features, full)
    return CompiledRead(reader, facts)


async def ping(store: FeatureStore) -> None:
    """Asks the online store for something small. Raises OnlineStoreAway, OnlineStoreRefuses."""
    config = store.config.online_store
    online = store._get_provider().online_store
    if isinstance(online, RedisOnlineStore):
        redis = asking(config, Limits(attempts=1, budget_s=1.5))
        try:
            await redis.fetch_async([], f"newest_row:{store.project}".encode())
        finally:
            await redis.close_async()
    elif isinstance(online, SqliteOnlineStore):
        await asyncio.to_thread(_open_tables, SqliteOnlineStore._get_db_path(store.config))


def _open_tables(path: str) -> None:
    tables = SqliteTables(path)
    tables.fetch([], None)
    tables.close()


class Reads:
    """At most `size` compiled reads, the least used closed first."""

    def __init__(self, store: FeatureStore, size: int):
        self.store, self.size = store, size
        self._kept: OrderedDict[Key, Read] = OrderedDict()
        self._compiling = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def of(self, asked: Asked) -> Read:
        """The read of this request, compiled where it is new. Raises Feast's errors."""
        key = (asked.features, asked.full_feature_names)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        async with self._compiling:
            if key not in self._kept:
                self._kept[key] = await asyncio.to_thread(open_read, self.store, *key)
                if len(self._kept) > self.size:
                    self._close(self._kept.popitem(last=False)[1])
            return self._kept[key]

    async def refresh(self) -> None:
        """Reads the registry again and compiles anew what changed; the others stay.

        What is no longer registered is dropped, so that it is answered as unknown.
        """
        async with self._compiling:
            await asyncio.to_thread(self.store.refresh_registry)
            for key, read in list(self._kept.items()):
                renewed = await asyncio.to_thread(self._renewed, key, read)
                if renewed is not read and self._kept.get(key) is read:
                    if renewed is None:
                        del self._kept[key]
                    else:
                        self._kept[key] = renewed
                    self._close(read)

    def _renewed(self, key: Key, read: Read) -> Read | None:
        try:
            return open_read(self.store, *key) if read.stale(self.store) else read
        except (FeastObjectNotFoundException, KeyError, Refused):
            return None

    def _close(self, read: Read) -> None:
        closing = asyncio.create_task(self._close_later(read))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close_later(self, read: Read) -> None:
        try:
            await asyncio.sleep(AFTER_ITS_LAST_ANSWER_S)
        finally:
            await read.close()

    async def close(self) -> None:
        """Closes all."""
        for closing in list(self._closing):
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        while self._kept:
            await self._kept.popitem()[1].close()
