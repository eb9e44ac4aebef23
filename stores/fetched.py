"""What a store hands the reader of one read: each view's stored bytes, a row a unique key."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

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
    """A view as the store gave it. absent: bool, unique keys x features, cells never written."""

    keys: Keys
    cells: Sequence[Sequence[Cell]]
    time_us: Ints
    found: Bools
    absent: Bools | None = None


class Fetch:
    """Asks a store for the views of a plan: (one Raw a view, the clock or None for now)."""

    def ask(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        raise NotImplementedError

    async def ask_async(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        return await asyncio.to_thread(self.ask, keys)

    def close(self) -> None:
        raise NotImplementedError


def unique(keys: list[bytes]) -> Keys:
    """Each key once, and where each row's key stands."""
    order = {key: None for key in keys}
    if len(order) == len(keys):
        return Keys(keys, None)
    places = {key: place for place, key in enumerate(order)}
    return Keys(list(order), np.array([places[key] for key in keys], np.int64))
