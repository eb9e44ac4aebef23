"""What the routes of the service share, and the narrow shape of each part that others own."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import Request

from serving.decide import Gate
from serving.gate import AdaptiveGate
from serving.pending import Pending

if TYPE_CHECKING:
    from serving.live import Live
    from serving.predict import Decided


class Settings(Protocol):
    """What the core reads of the settings; the full settings class has these and more.

    model: a bundle's folder, or `name@alias` or `name/version` in the registry; profile: of the
    feature store; repo: folder that its relative places start from; most_unknown: share (0..1) of the
    classifier's gain that may rest on unknown features; store_s: seconds that a read may take;
    max_body_bytes: of a request; most_pending: asynchronous requests.
    """

    @property
    def model(self) -> str: ...
    @property
    def registry_uri(self) -> str | None: ...
    @property
    def profile(self) -> str: ...
    @property
    def repo(self) -> Path | None: ...
    @property
    def most_unknown(self) -> float: ...
    @property
    def store_s(self) -> float: ...
    @property
    def max_body_bytes(self) -> int: ...
    @property
    def most_pending(self) -> int: ...


@dataclass(frozen=True)
class CoreSettings:
    """`Settings` with their defaults."""

    model: str = "qos@champion"
    registry_uri: str | None = None
    profile: str = "embedded"
    repo: Path | None = None
    most_unknown: float = 0.5
    store_s: float = 0.03
    max_body_bytes: int = 1_048_576
    most_pending: int = 1000


class Metrics(Protocol):
    """What the core counts; times in seconds."""

    def answered(self, status: str, seconds: float) -> None:
        """A request was answered: status decided, fallback, refused or failed."""
        ...

    def staged(self, stage: str, seconds: float) -> None:
        """A stage (parse, read, score, decide, reply) took so long."""
        ...

    def fell_back(self, reason: str, service: str | None = None) -> None:
        """A decision for a request of this class was left to event A3."""
        ...

    def picked(self, cell: str, confidence: float) -> None:
        """A cell was chosen, with this confidence (0..1)."""
        ...

    def gated(self, reason: str) -> None:
        """A decision was made, for this reason."""
        ...

    def read(self, view: str, status: str, rows: int) -> None:
        """So many rows of a view had this status."""
        ...

    def aged(self, view: str, age_s: float) -> None:
        """The age of the view's freshest row of a read; NaN: there is none."""
        ...

    def dropped(self, what: str) -> None:
        """A record was lost."""
        ...


class Breakers(Protocol):
    """Circuit breakers by name (store, nef, registry)."""

    def is_open(self, name: str) -> bool:
        """Whether to leave it alone for now."""
        ...

    def succeeded(self, name: str) -> None:
        """It answered."""
        ...

    def failed(self, name: str) -> None:
        """It did not."""
        ...


class DecisionLog(Protocol):
    """Where decisions go; never blocks."""

    def append(self, decided: "Decided") -> None:
        """Keeps a decision; raises nothing."""
        ...


class Silent:
    """Metrics and log of a service that has none."""

    def answered(self, status: str, seconds: float) -> None:
        """Nothing."""

    def staged(self, stage: str, seconds: float) -> None:
        """Nothing."""

    def fell_back(self, reason: str, service: str | None = None) -> None:
        """Nothing."""

    def picked(self, cell: str, confidence: float) -> None:
        """Nothing."""

    def gated(self, reason: str) -> None:
        """Nothing."""

    def read(self, view: str, status: str, rows: int) -> None:
        """Nothing."""

    def aged(self, view: str, age_s: float) -> None:
        """Nothing."""

    def dropped(self, what: str) -> None:
        """Nothing."""

    def append(self, decided: "Decided") -> None:
        """Nothing."""


class NoBreakers:
    """Breakers that never open."""

    def is_open(self, name: str) -> bool:
        """False."""
        return False

    def succeeded(self, name: str) -> None:
        """Nothing."""

    def failed(self, name: str) -> None:
        """Nothing."""


@dataclass
class Service:
    """live: the model in use, replaced as a whole by `serving.live.swap`. started, stopped: what other
    parts do at the ends of the service's life."""

    settings: Settings
    live: "Live"
    gate: Gate = field(default_factory=AdaptiveGate)
    metrics: Metrics = field(default_factory=Silent)
    log: DecisionLog = field(default_factory=Silent)
    breakers: Breakers = field(default_factory=NoBreakers)
    started: list[Callable[["Service"], Awaitable[None]]] = field(default_factory=list)
    stopped: list[Callable[["Service"], Awaitable[None]]] = field(default_factory=list)
    pending: Pending = field(default_factory=Pending)
    background: set[Any] = field(default_factory=set)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it in the loop and holds on to it until it ends."""
        import asyncio

        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    found: Service = request.app.state.service
    return found
