"""What a plan asks a Redis for, and what its answers are.

One HMGET a key with the fields of all views that share it, then their times, and the clock's value, all
in one round trip. A small hash is a list to Redis: each field is looked for from its start. So where at
least half of what the registry keeps under a key is asked for, the key is read whole, which is several
times less work for the server.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from stores import decode, numbers
from stores.answer import Ints, read_cell
from stores.compiled import Plan
from stores.decode import Cell, UnreadableValue
from stores.encode import field_hash
from stores.fetched import Fetch, Keys, Raw
from stores.redis_ask import Asking
from stores.redis_server import Group, resp_tail

_TOO_FULL = 4  # times the fields asked for


class RedisFetch(Fetch):
    """See the module's docstring. newest: ages count to the newest row written."""

    def __init__(self, plan: Plan, asking: Asking, newest: bool):
        self.plan, self.asking = plan, asking
        self.suffix = plan.project.encode()
        self.clock = f"newest_row:{plan.project}".encode() if newest else None
        self.fields = [tuple(_fields(plan, entity)) for entity in range(len(plan.keys))]
        self.tails = [resp_tail(fields) for fields in self.fields]
        self.hashes = [
            WholeHashes(fields, asking.reads_whole and 2 * len(fields) >= held)
            for fields, held in zip(self.fields, plan.held, strict=True)
        ]

    def ask(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        groups = self._groups(keys)
        return self._raw(keys, groups, *self.asking.fetch(groups, self.clock))

    async def ask_async(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        groups = self._groups(keys)
        return self._raw(keys, groups, *await self.asking.fetch_async(groups, self.clock))

    def close(self) -> None:
        self.asking.close()

    async def close_async(self) -> None:
        await self.asking.close_async()

    def _groups(self, keys: list[Keys]) -> list[Group]:
        suffix = self.suffix
        return [
            Group([key + suffix for key in some.unique], fields, tail, hashes.worth)
            for some, fields, tail, hashes in zip(
                keys, self.fields, self.tails, self.hashes, strict=True
            )
        ]

    def _raw(
        self, keys: list[Keys], groups: list[Group], rows: list[Any], clock: Any
    ) -> tuple[list[Raw], int | None]:
        raws = []
        for entity, (some, group, answers) in enumerate(zip(keys, groups, rows, strict=True)):
            if group.whole:
                answers = self.hashes[entity].rows(answers)
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


class WholeHashes:
    """Picks fields out of whole hashes. worth: whether to ask for the whole; not of one full of others.

    Hashes that were written alike have their fields in one order, so that places learnt of one row do
    for the next.
    """

    def __init__(self, fields: tuple[bytes, ...], worth: bool):
        self.fields, self.worth = fields, worth
        self._learnt: tuple[list[bytes], Callable[[Any], Any]] = ([], tuple)

    def rows(self, answers: Sequence[list[bytes]]) -> list[list[Cell]]:
        """The cells of the fields, None where a hash has none, of field, value, field, value …"""
        names, pick = self._learnt
        rows: list[list[Cell]] = []
        for answer in answers:
            if not answer:
                rows.append([None] * len(self.fields))
            elif answer[::2] == names:
                rows.append(list(pick(answer)))
            else:
                found = dict(zip(answer[::2], answer[1::2], strict=True))
                rows.append([found.get(field) for field in self.fields])
                if len(found) > _TOO_FULL * len(self.fields):
                    self.worth = False
                elif all(field in found for field in self.fields):
                    names = answer[::2]
                    pick = itemgetter(*(2 * names.index(field) + 1 for field in self.fields))
                    self._learnt = (names, pick)
        return rows


def _fields(plan: Plan, entity: int) -> list[bytes]:
    views = plan.views_of[entity]
    features = [field_hash(view.stored_name, c.feature) for view in views for c in view.columns]
    return features + [f"_ts:{view.stored_name}".encode() for view in views]
