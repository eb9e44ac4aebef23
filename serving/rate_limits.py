"""How often one key may call each group of routes; counted in this process."""

import math
import time
from collections.abc import Callable
from typing import Literal, get_args

from serving.metrics import Metrics
from serving.problems import Problem
from serving.rates import Counts, rates_of
from serving.settings import ServingSettings

Group = Literal[
    "login", "refresh", "predict", "train", "train_async", "collect", "feedback", "default"
]
GROUPS: tuple[Group, ...] = get_args(Group)


class RateLimits:
    """The counts of each group; used by one event loop."""

    def __init__(
        self, settings: ServingSettings, metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """The rates of the settings; nothing counted yet."""
        self._counts = {
            group: tuple(Counts(rate) for rate in rates_of(getattr(settings, f"rate_{group}")))
            for group in GROUPS
        }
        self._on, self._metrics, self._clock = settings.rates_on, metrics, clock

    def wait_s(self, group: Group, who: str) -> int | None:
        """Counts a call; seconds to wait where it is one too many (it is not counted), else None."""
        if not self._on:
            return None
        now = self._clock()
        wait = 0.0
        for one in self._counts[group]:
            wait = max(wait, one.wait_s(who, now))
        if wait > 0.0:
            return max(1, math.ceil(wait + 1e-6))
        for one in self._counts[group]:
            one.count(who, now)
        return None

    def check(self, group: Group, who: str) -> None:
        """Raises a problem, 429 with Retry-After, for a call too many."""
        wait = self.wait_s(group, who)
        if wait is not None:
            self._metrics.limited.labels(group).inc()
            rates = ", ".join(str(one.rate) for one in self._counts[group])
            raise Problem(
                429, [("request", f"more calls of this kind than {rates}; again in {wait} s")],
                headers={"retry-after": str(wait)},
            )  # fmt: skip
