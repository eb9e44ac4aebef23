"""What a plan asks a Redis for, and what its answers are.

One HMGET a key with the fields of all views that share it, then their times, and the clock's value, all
in one round trip.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from stores import decode, numbers
from stores.answer import Ints, read_cell
from stores.compiled import Plan, field_hash
from stores.decode import Cell, UnreadableValue
from stores.fetched import Fetch, Keys, Raw
from stores.redis_ask import Asking
from stores.redis_server import Group, resp_tail


class RedisFetch(Fetch):
    """See the module's docstring. newest: ages count to the newest row written."""

    def __init__(self, plan: Plan, asking: Asking, newest: bool):
        self.plan, self.asking = plan, asking
        self.suffix = plan.project.encode()
        self.clock = f"newest_row:{plan.project}".encode() if newest else None
        self.fields = [tuple(_fields(plan, entity)) for entity in range(len(plan.keys))]
        self.tails = [resp_tail(fields) for fields in self.fields]

    def ask(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        return self._raw(keys, *self.asking.fetch(self._groups(keys), self.clock))

    async def ask_async(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        return self._raw(keys, *await self.asking.fetch_async(self._groups(keys), self.clock))

    def close(self) -> None:
        self.asking.close()

    async def close_async(self) -> None:
        await self.asking.close_async()

    def _groups(self, keys: list[Keys]) -> list[Group]:
        suffix = self.suffix
        return [
            Group([key + suffix for key in some.unique], fields, tail)
            for some, fields, tail in zip(keys, self.fields, self.tails, strict=True)
        ]

    def _raw(self, keys: list[Keys], rows: list[Any], clock: Any) -> tuple[list[Raw], int | None]:
        raws = []
        for entity, (some, answers) in enumerate(zip(keys, rows, strict=True)):
            width, views = self.plan.widths[entity], len(self.plan.views_of[entity])
            stamps = list(chain.from_iterable(row[width:] for row in answers))
            found = np.array([stamp is not None for stamp in stamps], bool)
            for row in answers:
                del row[width:]
            time_us = self._times(entity, stamps, some.unique)
            raws.append(Raw(some, answers, time_us.reshape(-1, views), found.reshape(-1, views)))
        return raws, None if clock is None else int(clock)

    def _times(self, entity: int, stamps: list[Cell], keys: Sequence[bytes]) -> Ints:
        try:
            return numbers.times(stamps)
        except UnreadableValue:
            views = self.plan.views_of[entity]
            for place, stamp in enumerate(stamps):
                row, view = divmod(place, len(views))
                read_cell(decode.event_us, stamp, views[view].name, "_ts", keys[row])
            raise


def _fields(plan: Plan, entity: int) -> list[bytes]:
    views = plan.views_of[entity]
    features = [field_hash(view.stored_name, c.feature) for view in views for c in view.columns]
    return features + [f"_ts:{view.stored_name}".encode() for view in views]
