"""The model registry as the routes see it: asked in a thread, remembered for seconds, guarded."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lifecycle.registry import Registry, RegistryError, open_registry, tracking_uri
from lifecycle.versions import Version, get_version, list_versions, read_evidence
from models.bundle import Bundle
from serving.state import Breakers

T = TypeVar("T")
BREAKER = "registry"


class RegistryAway(Exception):
    """The registry does not answer, or is left alone for now."""


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
            if breakers.is_open(BREAKER):
                raise RegistryAway("the registry is left alone after too many failures")
            try:
                found = await asyncio.to_thread(self._with_registry, ask)
            except Exception as error:  # MLflow's and SQLAlchemy's are many
                breakers.failed(BREAKER)
                self._opened = None
                raise RegistryAway(
                    f"the registry does not answer: {type(error).__name__}"
                ) from None
            breakers.succeeded(BREAKER)
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
