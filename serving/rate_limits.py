"""How often one key may call each group of routes; counted in this process."""

import math
import time
from typing import Literal, get_args

import limits
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from serving.metrics import Metrics
from serving.problems import Problem
from serving.settings import ServingSettings

Group = Literal[
    "login", "refresh", "predict", "train", "train_async", "collect", "feedback", "default"
]
GROUPS: tuple[Group, ...] = get_args(Group)


class RateLimits:
    """Counts over sliding windows: what was over at the last window's end weighs less by and by."""

    def __init__(self, settings: ServingSettings, metrics: Metrics) -> None:
        """The rates of the settings."""
        self._rates = {
            group: limits.parse_many(getattr(settings, f"rate_{group}")) for group in GROUPS
        }
        self._on, self._metrics = settings.rates_on, metrics
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def wait_s(self, group: Group, who: str) -> int | None:
        """Counts a call; seconds to wait where it is one too many (it is not counted), else None."""
        if not self._on:
            return None
        rates = self._rates[group]
        full = [rate for rate in rates if not self._limiter.test(rate, group, who)]
        if not full:
            for rate in rates:
                self._limiter.hit(rate, group, who)
            return None
        resets = [self._limiter.get_window_stats(rate, group, who).reset_time for rate in full]
        return max(1, math.ceil(max(resets) - time.time()))

    def check(self, group: Group, who: str) -> None:
        """Raises a problem, 429 with Retry-After, for a call too many."""
        wait = self.wait_s(group, who)
        if wait is not None:
            self._metrics.limited.labels(group).inc()
            rate = ", ".join(str(one) for one in self._rates[group])
            raise Problem(
                429, [("request", f"more calls of this kind than {rate}; again in {wait} s")],
                headers={"retry-after": str(wait)},
            )  # fmt: skip
