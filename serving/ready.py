"""Whether model, registry and store speak of the same features, and how fresh those are."""

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from feature_repo.catalog import catalog_hash
from feature_repo.services import SERVICES
from feature_repo.store import REPO, open_store, quiet
from schemas.errors import QosError
from serving.live import Live, check_registered
from serving.probe import read_sample
from serving.registered import Registered, RegistryAway
from serving.state import Service

_SELDOM_S = 30.0


@dataclass(frozen=True)
class Check:
    """One condition. state: `ok`; `bad`: the service must get no traffic; `unknown`: it could not be
    looked at and does not count against the service."""

    name: str
    state: str
    told: str


@dataclass
class Readiness:
    """The checks, remembered for `kept_s`. fresh_s: age of the newest feature past which the service is
    not ready; 0: not looked at."""

    registered: Registered
    fresh_s: float = 0.0
    kept_s: float = 2.0
    _until: float = 0.0
    _checks: tuple[Check, ...] = ()
    _of: Live | None = None
    _service: tuple[float, Live | None, Check] = (0.0, None, Check("service", "unknown", ""))
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def checks(self, service: Service) -> tuple[Check, ...]:
        """Model, registry, definitions, store, freshness; raises nothing."""
        live = service.live
        async with self._lock:
            if self._of is live and self._until > time.monotonic():
                return self._checks
            store, fresh = await self._store(live)
            made = (
                Check("model", "ok", f"{live.version} is loaded"),
                await self._registry(service, live),
                _catalog(live),
                await self._registered_service(service, live),
                store,
                fresh,
            )
            self._of, self._checks = live, made
            self._until = time.monotonic() + self.kept_s
            return made

    async def _registered_service(self, service: Service, live: Live) -> Check:
        """Looked at seldom: it opens the store anew."""
        until, of, check = self._service
        if of is not live or until < time.monotonic():
            check = await asyncio.to_thread(_definitions, service, live)
            self._service = (time.monotonic() + _SELDOM_S, live, check)
        return check

    async def _registry(self, service: Service, live: Live) -> Check:
        if "/" not in live.version:
            return Check("registry", "unknown", f"{live.version} comes from a folder")
        try:
            served = await self.registered.version(live.version, service.breakers)
            wanted = await self.registered.version(service.settings.model, service.breakers)
        except RegistryAway as error:
            return Check("registry", "unknown", str(error))
        if served is None or served.digest != live.bundle.digest:
            return Check("registry", "bad", f"it has no {live.version} with the bundle in use")
        if wanted is not None and wanted.version != served.version:
            told = f"{service.settings.model} now means version {wanted.version}, {live.version} answers"
            return Check("registry", "bad", told)
        return Check("registry", "ok", f"it has {live.version} with the bundle in use")

    async def _store(self, live: Live) -> tuple[Check, Check]:
        try:
            answer = await read_sample(live)
        except Exception as error:  # whatever it is, the store gave no features
            away = Check("store", "bad", f"it gives no features: {type(error).__name__}")
            return away, Check("freshness", "unknown", "the store gives no features")
        return Check("store", "ok", "it answers"), self._freshness(answer.age_s)

    def _freshness(self, age_s: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Check:
        known = np.isfinite(age_s)
        if not known.any():
            state = "bad" if self.fresh_s else "unknown"
            return Check("freshness", state, "the store has no features of the model's cells")
        newest = float(age_s[known].min())
        told = f"the newest feature is {newest:.1f} s old"
        if not self.fresh_s:
            return Check("freshness", "ok", f"{told}; any age is taken")
        state = "bad" if newest > self.fresh_s else "ok"
        return Check("freshness", state, f"{told}, at most {self.fresh_s:g} s is ready")


def _catalog(live: Live) -> Check:
    name, trained = live.bundle.manifest["service"], live.bundle.manifest["catalog_hash"]
    defined = {service.name: service for service in SERVICES}
    if name not in defined:
        return Check("catalog", "bad", f"the definitions have no service {name!r}")
    now = catalog_hash(defined[name].views)
    if now != trained:
        return Check("catalog", "bad", f"model: {trained}, definitions: {now}")
    return Check("catalog", "ok", f"model and definitions agree: {now}")


def _definitions(service: Service, live: Live) -> Check:
    """What the store's registry says now against what the reader was compiled from."""
    try:
        store = open_store(service.settings.profile, service.settings.repo or REPO)
        with quiet():
            stale = live.reader.stale(store)
        check_registered(store, live.layout)
    except QosError as error:
        return Check("service", "bad", str(error))
    except Exception as error:  # Feast's are many
        return Check("service", "unknown", f"feature registry: {type(error).__name__}")
    if stale:
        return Check(
            "service", "bad", "the feature registry says otherwise than when it was loaded"
        )
    return Check("service", "ok", "the feature registry has the model's service")


def is_ready(checks: tuple[Check, ...]) -> bool:
    """Whether none is bad."""
    return all(check.state != "bad" for check in checks)
