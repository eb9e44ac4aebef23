"""What a store hands the reader of one read: the stored bytes of each entity's views."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stores.answer import Bools, Ints
from stores.decode import Cell


@dataclass(frozen=True)
class Keys:
    """unique: each key once; place: where each row's key stands, None: row by row."""

    unique: Sequence[bytes]
    place: Ints | None


@dataclass(frozen=True)
class Raw:
    """The views of one entity, a row a unique key.

    cells: columns in the entity's order; time_us, found: keys x views;
    absent: keys x columns, cells never written beside others that were, None: not told.
    """

    keys: Keys
    cells: list[list[Cell]]
    time_us: Ints
    found: Bools
    absent: Bools | None = None


class Fetch:
    """Asks a store for the entities of a plan: (one Raw an entity, the clock or None for now)."""

    def ask(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        """Blocks until the answer."""
        raise NotImplementedError

    async def ask_async(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        """As `ask`, in an event loop."""
        return await asyncio.to_thread(self.ask, keys)

    def close(self) -> None:
        """Closes what connections it can."""

    async def close_async(self) -> None:
        """Closes the running loop's connections too."""
        self.close()


def unique(keys: list[bytes]) -> Keys:
    """Each key once, and where each row's key stands."""
    places: dict[Any, int] = {}
    for key in keys:
        places.setdefault(key, len(places))
    if len(places) == len(keys):
        return Keys(keys, None)
    return Keys(list(places), np.array([places[key] for key in keys], np.int64))
