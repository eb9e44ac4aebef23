"""Rates such as 10/second;100/minute, and how calls are counted against them; no I/O, no threads."""

import math
import re
from collections import OrderedDict
from dataclasses import dataclass, field

SPANS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"(\d{1,12})/(?:(\d{1,6}) )?(second|minute|hour|day)s?")


@dataclass(frozen=True)
class Rate:
    """At most `most` calls within `span_s` seconds."""

    most: int
    span_s: int

    def __str__(self) -> str:
        return f"{self.most} in {self.span_s} s"


def rates_of(text: str) -> tuple[Rate, ...]:
    """The rates of a text, all of which hold. Raises ValueError for a text that is none."""
    rates = []
    for part in text.split(";"):
        found = _RATE.fullmatch(part.strip())
        if found is None or int(found[1]) < 1 or (found[2] is not None and int(found[2]) < 1):
            raise ValueError(
                "no rate; written as 60/minute or 20/10 seconds, or several as 10/second;100/minute"
            )
        rates.append(Rate(int(found[1]), int(found[2] or 1) * SPANS_S[found[3]]))
    return tuple(rates)


@dataclass
class _Count:
    """Calls in window `window` and in the one before it."""

    window: int
    now: int = 0
    before: int = 0


@dataclass
class Counts:
    """Counts by key in windows as long as the rate's span. Calls in the last window weigh as much as of
    it still lies within a span from now, as if they had come evenly.

    most_keys: past it those that called longest ago are forgotten.
    """

    rate: Rate
    most_keys: int = 100_000
    _counts: "OrderedDict[str, _Count]" = field(default_factory=OrderedDict)

    def wait_s(self, key: str, now_s: float) -> float:
        """0.0 where one more call fits; else seconds until one does, if none comes before."""
        most, span = self.rate.most, self.rate.span_s
        count = self._at(key, now_s)
        part = now_s / span - count.window  # of the window that has passed
        if count.before * (1 - part) + count.now + 1 <= most:
            return 0.0
        if count.now + 1 <= most:
            return (1 - (most - count.now - 1) / count.before - part) * span
        return (1 - part + 1 - (most - 1) / count.now) * span

    def count(self, key: str, now_s: float) -> None:
        """One call more."""
        self._at(key, now_s).now += 1

    def _at(self, key: str, now_s: float) -> _Count:
        window = math.floor(now_s / self.rate.span_s)
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = _Count(window)
            if len(self._counts) > self.most_keys:
                self._counts.popitem(last=False)
            return found
        if found.window < window:
            found.before = found.now if found.window == window - 1 else 0
            found.now, found.window = 0, window
            self._counts.move_to_end(key)
        return found
