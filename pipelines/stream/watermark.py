"""How far the stream is known: the least promise of the producers that still send.

Hangs on nothing but the entries, so that a replay of them finds the same watermarks.
"""

from dataclasses import astuple, dataclass, field
from typing import Any

from nef.stream.entries import Entry
from pipelines.stream.times import NEVER

_REMEMBERED_MS = 86_400_000


@dataclass
class _Promise:
    through: int
    number: int  # of its newest entry
    time_ms: int
    closed: bool = False


@dataclass
class Watermark:
    """idle_ms: a producer without an entry for that long, by the server's time, is not waited for."""

    idle_ms: int = 30_000
    value: int = NEVER
    lost: int = 0  # entries that a producer numbered and the stream never gave
    _promises: dict[str, _Promise] = field(default_factory=dict)

    def take(self, entry: Entry) -> bool:
        """Counts an entry in; False where its producer's number was there before: sent twice."""
        known = self._promises.get(entry.producer)
        if known is not None and entry.number <= known.number:
            return False
        self.lost += entry.number - (known.number + 1 if known else 0)
        through = max(
            NEVER if entry.through is None else min(entry.through, entry.latest_us),
            known.through if known else NEVER,
        )
        promise = _Promise(through, entry.number, entry.time_ms, entry.last)
        self._promises[entry.producer] = promise
        oldest = entry.time_ms - self.idle_ms
        live = [p.through for p in self._promises.values() if p.time_ms >= oldest and not p.closed]
        self.value = max(self.value, min(live, default=through))
        return True

    def forget(self, time_ms: int) -> None:
        """Lets go of producers that were silent for a day."""
        oldest = time_ms - _REMEMBERED_MS
        self._promises = {n: p for n, p in self._promises.items() if p.time_ms >= oldest}

    def saved(self) -> dict[str, Any]:
        """JSON-able, for `restore`."""
        promises = {name: astuple(promise) for name, promise in self._promises.items()}
        return {"value": self.value, "lost": self.lost, "promises": promises}

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes on from what `saved` gave."""
        self.value, self.lost = saved["value"], saved["lost"]
        self._promises = {name: _Promise(*parts) for name, parts in saved["promises"].items()}
