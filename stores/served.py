"""The reads that a server keeps compiled: one a service or list of features, bounded, kept fresh."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from feast import FeatureStore
from feast.feature_server_utils import convert_response_to_dict

from stores.http_json import Asked, feast_body

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

    def close(self) -> None: ...


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
        proto = self.store.get_online_features(
            self.features,
            asked.entities,
            full_feature_names=self.full,
            include_feature_view_version_metadata=asked.versions,
        ).proto
        statuses = [status for vector in proto.results for status in vector.statuses]
        counts = np.bincount(np.array(statuses, np.int64), minlength=5).tolist()
        return Served(feast_body(convert_response_to_dict(proto)), counts)

    def stale(self, store: FeatureStore) -> bool:
        return self.service and self._named(self.features.name) != self.features

    def close(self) -> None:
        """Nothing to close."""


def open_read(store: FeatureStore, features: str | tuple[str, ...], full: bool) -> Read:
    """The fastest read there is of these features. Raises Feast's errors for unknown ones."""
    return FeastRead(store, features, full)


class Reads:
    """At most `size` compiled reads, the least used closed first."""

    def __init__(self, store: FeatureStore, size: int):
        self.store, self.size = store, size
        self._kept: OrderedDict[Key, Read] = OrderedDict()
        self._compiling = asyncio.Lock()

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
                if renewed is not read:
                    if renewed is None:
                        del self._kept[key]
                    else:
                        self._kept[key] = renewed
                    self._close(read)

    def _renewed(self, key: Key, read: Read) -> Read | None:
        try:
            return open_read(self.store, *key) if read.stale(self.store) else read
        except Exception:  # the next request for it says why
            return None

    def _close(self, read: Read) -> None:
        asyncio.get_running_loop().call_later(30.0, read.close)  # after its last request

    def close(self) -> None:
        """Closes all."""
        for read in self._kept.values():
            read.close()
        self._kept.clear()
