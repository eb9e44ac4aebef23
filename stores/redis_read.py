"""What a plan asks a Redis for, and what its answers are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stores import decode
from stores.answer import Ints, read_cell
from stores.compiled import Column, Plan, field_hash
from stores.decode import Cell, UnreadableValue
from stores.fetched import Fetch, Keys, Raw
from stores.redis_lines import Asking, Group, resp_tail


class RedisFetch(Fetch):
    """One HMGET a key with the fields of all views that share it, and the clock, in one round trip."""

    def __init__(self, plan: Plan, asking: Asking, newest: bool):
        self.plan, self.asking = plan, asking
        self.suffix = plan.project.encode()
        self.clock = f"newest_row:{plan.project}".encode() if newest else None
        self.fields: list[tuple[tuple[bytes, ...], bytes]] = []
        self.slots: dict[int, slice] = {}
        for key in range(len(plan.keys)):
            fields: list[bytes] = []
            for index, view in enumerate(plan.views):
                if view.key == key:
                    start = len(fields)
                    fields += [field_hash(view.stored_name, c.feature) for c in view.columns]
                    self.slots[index] = slice(start, len(fields))
                    fields.append(f"_ts:{view.stored_name}".encode())
            self.fields.append((tuple(fields), resp_tail(fields)))

    def ask(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        return self._raw(keys, *self.asking.fetch(self._groups(keys), self.clock))

    async def ask_async(self, keys: list[Keys]) -> tuple[list[Raw], int | None]:
        return self._raw(keys, *await self.asking.fetch_async(self._groups(keys), self.clock))

    def close(self) -> None:
        self.asking.close()

    def _groups(self, keys: list[Keys]) -> list[Group]:
        suffix = self.suffix
        return [
            Group([key + suffix for key in some.unique], *fields)
            for some, fields in zip(keys, self.fields, strict=True)
        ]

    def _raw(self, keys: list[Keys], rows: list[Any], clock: Any) -> tuple[list[Raw], int | None]:
        raws = []
        for index, view in enumerate(self.plan.views):
            slot, some = self.slots[index], keys[view.key]
            answers = rows[view.key]
            stamps = [row[slot.stop] for row in answers]
            cells = [row[slot] for row in answers]
            time_us = self._times(stamps, view.columns[0], some.unique)
            found = np.array([stamp is not None for stamp in stamps], bool)
            raws.append(Raw(some, cells, time_us, found))
        return raws, None if clock is None else int(clock)

    def _times(self, stamps: list[Cell], column: Column, keys: Sequence[bytes]) -> Ints:
        try:
            known = {stamp: decode.event_us(stamp) for stamp in set(stamps)}
        except UnreadableValue:
            for stamp, key in zip(stamps, keys, strict=True):
                read_cell(decode.event_us, stamp, column.view, "_ts", key)
            raise
        return np.array([known[stamp] for stamp in stamps], np.int64)
