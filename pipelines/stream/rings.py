"""Rows of many keys in matrices, one ring a key: what the windows of a view still need."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.stream.times import NEVER

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WIDTH, _KEYS = 8, 64


class Rings:
    """event, arrival: (keys, width) int64 microseconds, `NEVER` where free; value: (columns, keys,
    width) float64, NaN where null; newest: (keys,), the greatest end of a key's emissions."""

    def __init__(self, columns: int) -> None:
        self.slots: dict[Hashable, int] = {}
        self.free: list[int] = []
        self.event = np.full((_KEYS, _WIDTH), NEVER, dtype=np.int64)
        self.arrival = np.full((_KEYS, _WIDTH), NEVER, dtype=np.int64)
        self.value = np.full((columns, _KEYS, _WIDTH), np.nan)
        self.head = np.zeros(_KEYS, dtype=np.int64)
        self.newest = np.full(_KEYS, NEVER, dtype=np.int64)
        self.names: list[Hashable] = [None] * _KEYS

    def places(self, keys: Sequence[Hashable]) -> Ints:
        """The slot of each key, a new one for a new key."""
        slots, found = self.slots, np.empty(len(keys), dtype=np.int64)
        for number, key in enumerate(keys):
            slot = slots.get(key)
            if slot is None:
                slot = slots[key] = self._new_slot(key)
            found[number] = slot
        return found

    def _new_slot(self, key: Hashable) -> int:
        slot = self.free.pop() if self.free else len(self.slots)
        if slot >= len(self.head):
            more = len(self.head)
            self.event = _taller(self.event, more, NEVER)
            self.arrival = _taller(self.arrival, more, NEVER)
            self.value = np.pad(self.value, ((0, 0), (0, more), (0, 0)), constant_values=np.nan)
            self.head = np.pad(self.head, (0, more))
            self.newest = np.pad(self.newest, (0, more), constant_values=NEVER)
            self.names += [None] * more
        self.names[slot] = key
        return slot

    def insert(self, slot: Ints, event: Ints, arrival: Ints, value: Floats, dead: Ints) -> None:
        """Adds rows; value: (columns, rows). dead: (keys,), rows of events up to it make room."""
        needed = event > dead[slot]
        if not needed.all():
            slot, event, arrival = slot[needed], event[needed], arrival[needed]
            value = value[:, needed]
        if not len(slot):
            return
        order = np.argsort(slot, kind="stable")
        grouped = slot[order]
        starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
        counts = np.diff(np.r_[starts, len(grouped)])
        rank = np.arange(len(grouped)) - np.repeat(starts, counts)
        self._make_room(grouped[starts], counts, dead)
        place = (self.head[grouped] + rank) % self.event.shape[1]
        self.event[grouped, place] = event[order]
        self.arrival[grouped, place] = arrival[order]
        self.value[:, grouped, place] = value[:, order]
        self.head[grouped[starts]] = (self.head[grouped[starts]] + counts) % self.event.shape[1]

    def _make_room(self, slot: Ints, counts: Ints, dead: Ints) -> None:
        """Free places at the head of each slot; a ring keeps twice as many places as rows."""
        width = self.event.shape[1]
        ahead = np.arange(min(int(counts.max()), width))
        next_places = (self.head[slot][:, None] + ahead) % width
        taken = self.event[slot[:, None], next_places] > dead[slot][:, None]
        full = (taken & (ahead < counts[:, None])).any(axis=1) | (counts > width)
        if not full.any():
            return
        slot, counts = slot[full], counts[full]
        live = (self.event[slot] > dead[slot][:, None]).sum(axis=1)
        needed = int((2 * live + counts).max())
        if needed > width:
            self._widen(1 << (needed - 1).bit_length())
        self._pack(slot)

    def _widen(self, width: int) -> None:
        more = width - self.event.shape[1]
        self.event = np.pad(self.event, ((0, 0), (0, more)), constant_values=NEVER)
        self.arrival = np.pad(self.arrival, ((0, 0), (0, more)), constant_values=NEVER)
        self.value = np.pad(self.value, ((0, 0), (0, 0), (0, more)), constant_values=np.nan)
        self._pack(np.arange(len(self.head)))

    def _pack(self, slot: Ints) -> None:
        """Orders rings by event: the dead and the free come first, where the head then stands."""
        order = np.argsort(self.event[slot], axis=1, kind="stable")
        rows = slot[:, None]
        self.event[rows, np.arange(order.shape[1])] = self.event[rows, order]
        self.arrival[rows, np.arange(order.shape[1])] = self.arrival[rows, order]
        for column in self.value:
            column[rows, np.arange(order.shape[1])] = column[rows, order]
        self.head[slot] = 0

    def forget(self, dead: Ints, before: int, asked: Ints) -> None:
        """Frees the slots without a needed row whose newest end is at or before a time.

        asked: slots that stay.
        """
        idle = (self.newest <= before) & (self.event <= dead[:, None]).all(axis=1)
        idle[asked] = False
        for slot in np.flatnonzero(idle).tolist():
            key = self.names[slot]
            if key is not None:
                del self.slots[key]
                self.names[slot] = None
                self.free.append(slot)
                self.event[slot], self.newest[slot] = NEVER, NEVER

    @property
    def rows(self) -> int:
        """Places that hold a row."""
        return int((self.event > NEVER).sum())


def _taller(matrix: Ints, more: int, fill: int) -> Ints:
    return np.pad(matrix, ((0, more), (0, 0)), constant_values=fill)
