"""Circuit breakers around what the service depends on: the store, the NEF and the registry."""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

from nef.client.retry import CircuitBreaker, CircuitOpen
from serving.metrics import Metrics
from serving.settings import ServingSettings

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class Status:
    """How a breaker stands. failures: counted in all; refused: tries not made; opened: how often."""

    name: str
    state: State
    failures: int
    successes: int
    refused: int
    opened: int


@dataclass
class _One:
    breaker: CircuitBreaker
    failures: int = 0
    successes: int = 0
    refused: int = 0
    opened: int = 0
    open: bool = False
    probe_until: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Breakers:
    """By name; usable from the event loop and from threads, for no call waits.

    A try that is let through while a breaker is half open and never says how it ended counts as
    broken off once `open_s` has passed.
    """

    def __init__(
        self, bounds: dict[str, tuple[int, float]], metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic, probed: Collection[str] = (),
    ) -> None:  # fmt: skip
        """bounds: failures in a row that open it, and seconds that it stays open; all are closed.

        probed: those whose probes are made apart (see `probe_due`), so that no request has to wait for
        one.
        """
        self._metrics, self._clock, self._probed = metrics, clock, frozenset(probed)
        self._all = {
            name: _One(CircuitBreaker(name, failures, open_s, clock))
            for name, (failures, open_s) in bounds.items()
        }
        for name in self._all:
            self._show(name, False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all breakers."""
        return tuple(self._all)

    def is_open(self, name: str) -> bool:
        """Whether to leave it alone now; where not, say `succeeded` or `failed` afterwards."""
        one = self._all[name]
        if name in self._probed and one.open:
            one.refused += 1
            return True
        return not self._entered(name)

    def probe_due(self, name: str) -> bool:
        """Whether it is open and a probe must be made now; say afterwards how that ended."""
        return self._all[name].open and self._entered(name)

    def _entered(self, name: str) -> bool:
        try:
            self.enter(name)
        except CircuitOpen:
            return False
        return True

    def enter(self, name: str) -> None:
        """Before a try; raises `CircuitOpen` where it must not be made."""
        one = self._all[name]
        with one.lock:
            if one.probe_until is not None and self._clock() >= one.probe_until:
                one.breaker.abandon()
                one.probe_until = None
            try:
                one.breaker.enter()
            except CircuitOpen:
                one.refused += 1
                raise
            if one.open:
                one.probe_until = self._clock() + one.breaker.open_s

    def succeeded(self, name: str) -> None:
        """It answered."""
        one = self._all[name]
        with one.lock:
            one.successes += 1
            self._close(name, one)

    def failed(self, name: str) -> None:
        """It did not."""
        one = self._all[name]
        with one.lock:
            one.failures += 1
            one.probe_until = None
            one.breaker.fail()
            if one.breaker.is_open and not one.open:
                one.open, one.opened = True, one.opened + 1
                self._show(name, True)

    def abandoned(self, name: str) -> None:
        """A try was broken off on our side: it says nothing of the other."""
        one = self._all[name]
        with one.lock:
            one.probe_until = None
            one.breaker.abandon()

    @contextlib.contextmanager
    def guarding(self, name: str, *faults: type[Exception]) -> Iterator[None]:
        """Around a try; these exceptions are failures, others say nothing. Raises `CircuitOpen`."""
        self.enter(name)
        try:
            yield
        except faults:
            self.failed(name)
            raise
        except BaseException:
            self.abandoned(name)
            raise
        self.succeeded(name)

    def reset(self, name: str) -> None:
        """Closes it, whatever was."""
        one = self._all[name]
        with one.lock:
            self._close(name, one)

    def status(self, name: str) -> Status:
        """How it stands. Raises KeyError for a name that there is none of."""
        one = self._all[name]
        with one.lock:
            state: State = "closed"
            if one.open:
                state = "open" if one.breaker.is_open else "half_open"
            return Status(name, state, one.failures, one.successes, one.refused, one.opened)

    def _close(self, name: str, one: _One) -> None:
        one.breaker.succeed()
        one.probe_until = None
        if one.open:
            one.open = False
            self._show(name, False)

    def _show(self, name: str, is_open: bool) -> None:
        if self._metrics is not None:
            self._metrics.breaker_open.labels(name).set(is_open)
            if is_open or self._all[name].opened:
                to = "open" if is_open else "closed"
                self._metrics.breaker_changes.labels(name, to).inc()


def breakers_of(settings: ServingSettings, metrics: Metrics | None = None) -> Breakers:
    """Those of the service: store, nef, registry."""
    s = settings
    bounds = {
        "store": (s.store_failures, s.store_open_s),
        "nef": (s.nef_failures, s.nef_open_s),
        "registry": (s.registry_failures, s.registry_open_s),
    }
    return Breakers(bounds, metrics, probed=("store",))
