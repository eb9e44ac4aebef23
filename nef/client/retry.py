"""Bounded retries with jitter, and a circuit breaker; neither sleeps nor does I/O."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.errors import QosError


@dataclass(frozen=True)
class Backoff:
    """attempts: in all, the first one too; a wait is drawn from 0 to base_s doubled each time, at most
    cap_s (full jitter, so that clients do not return in step)."""

    attempts: int = 4
    base_s: float = 0.2
    cap_s: float = 10.0

    def wait_s(self, attempt: int, draw: random.Random, asked_s: float | None = None) -> float:
        """Seconds before attempt `attempt` + 1; a server's Retry-After is kept, up to the cap."""
        drawn = draw.uniform(0, min(self.cap_s, self.base_s * 2 ** min(attempt, 32)))
        return min(self.cap_s, max(drawn, asked_s or 0.0))


class CircuitOpen(QosError):
    """The server failed too often; it is left alone for a while."""


@dataclass
class CircuitBreaker:
    """Opens after `failures` in a row, lets one try pass after `open_s`, closes when that succeeds."""

    what: str
    failures: int = 5
    open_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _row: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)
    _probing: bool = field(default=False, init=False)

    @property
    def is_open(self) -> bool:
        """Whether the next try would be refused."""
        return self._row >= self.failures and (self._probing or self.clock() < self._until)

    def enter(self) -> None:
        """Before a try; raises `CircuitOpen` where it must not be made."""
        if self.is_open:
            left = max(0.0, self._until - self.clock())
            raise CircuitOpen(
                f"{self.what}: {self._row} failures in a row; the next try is in {left:.1f} s"
            )
        self._probing = self._row >= self.failures

    def succeed(self) -> None:
        """After a try that the server answered."""
        self._row, self._probing = 0, False

    def fail(self) -> None:
        """After a try that it did not."""
        self._row += 1
        self._probing = False
        if self._row >= self.failures:
            self._until = self.clock() + self.open_s

    def abandon(self) -> None:
        """After a try that was broken off on our side: it says nothing of the server."""
        self._probing = False
