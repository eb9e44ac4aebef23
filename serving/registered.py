"""The model registry as the routes see it: asked in a thread, remembered for seconds, guarded."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lifecycle.registry import (
    Registry,
    RegistryError,
    RegistryUnavailable,
    open_registry,
    tracking_uri,
)
from lifecycle.versions import Version, get_version, list_versions, read_evidence
from models.bundle import Bundle
from schemas.errors import QosError
from serving.problems import Problem
from serving.state import Breakers

T = TypeVar("T")
log = logging.getLogger(__name__)
BREAKER = "registry"
RETRY_S = "5"


class RegistryAway(Problem):
    """The registry does not answer, or is left alone for now: a 503 of the route that asked it."""

    def __init__(self, told: str) -> None:
        """told: why."""
        super().__init__(503, [("registry", told)], {"Retry-After": RETRY_S})
        self._told = told

    def __str__(self) -> str:
        """Why."""
        return self._told


def ask_registry(breakers: Breakers, ask: Callable[[], T]) -> T:
    """What a call of the registry gives; blocks.

    Raises `RegistryAway` where it does not answer or is left alone; another `QosError` is an answer:
    it has not what was asked for, or has it broken.
    """
    if breakers.is_open(BREAKER):
        raise RegistryAway("the registry is left alone after too many failures")
    try:
        found = ask()
    except Exception as error:  # MLflow's and SQLAlchemy's are many
        if isinstance(error, QosError) and not isinstance(error, RegistryUnavailable):
            breakers.succeeded(BREAKER)
            raise
        breakers.failed(BREAKER)
        log.warning("the registry does not answer", exc_info=True)
        raise RegistryAway(f"the registry does not answer: {type(error).__name__}") from None
    breakers.succeeded(BREAKER)
    return found


@dataclass
class Registered:
    """uri: of the registry, None: the project's own; kept_s: how long an answer is remembered."""

    uri: str | None = None
    kept_s: float = 5.0
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _opened: Registry | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def versions(self, name: str, breakers: Breakers) -> list[Version]:
        """The newest first; raises `RegistryAway`."""
        return await self._ask(f"{name}:", lambda r: list_versions(r, name), breakers)

    async def version(self, model: str, breakers: Breakers) -> Version | None:
        """That `name@alias` or `name/version` means, None if there is none; raises `RegistryAway`."""

        def find(registry: Registry) -> Version | None:
            try:
                return get_version(registry, model)
            except RegistryUnavailable:
                raise
            except RegistryError:
                return None

        return await self._ask(model, find, breakers)

    async def evidence(
        self, version: Version, breakers: Breakers
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Manifest and metrics; raises `RegistryAway`."""
        key = f"{version.name}/{version.version}:evidence"
        return await self._ask(key, lambda registry: read_evidence(registry, version), breakers)

    async def _ask(self, key: str, ask: Callable[[Registry], T], breakers: Breakers) -> T:
        async with self._lock:  # the waiting ones find the answer of the first
            until, kept = self._kept.get(key, (0.0, None))
            if until > time.monotonic():
                return kept  # type: ignore[no-any-return]
            try:
                found = await asyncio.to_thread(
                    ask_registry, breakers, lambda: self._with_registry(ask)
                )
            except RegistryAway:
                self._opened = None
                raise
            if len(self._kept) > 100:
                self._kept.clear()
            self._kept[key] = (time.monotonic() + self.kept_s, found)
            return found

    def _with_registry(self, ask: Callable[[Registry], T]) -> T:
        if self._opened is None:
            self._opened = open_registry(self.uri or tracking_uri())
        return ask(self._opened)


def name_and_version(version: str, bundle: Bundle) -> tuple[str, str]:
    """Of a live model: `qos/3` is ("qos", "3"); a folder's version is the start of its digest."""
    name, _, number = version.partition("/")
    return name, number or bundle.digest[:12]
