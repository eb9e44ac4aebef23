"""What is known of the models, and whether the service is well."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from lifecycle.versions import Version
from models.bundle import Bundle
from serving.messages.models import (
    AliveReply,
    CheckReply,
    HealthReply,
    Importance,
    ImportanceReply,
    LiveModel,
    ModelEntry,
    ModelHealthReply,
    ModelReply,
    ModelsReply,
    ReadyReply,
)
from serving.problems import Problem, problem_responses
from serving.ready import Readiness, is_ready
from serving.registered import Registered, RegistryAway, name_and_version
from serving.seen import Seen, breakers_of, drift_of, outcomes_of
from serving.state import Service, service_of

Guard = Callable[..., Callable[..., Any]]  # role and, where it differs, group of rates
SKILL = (
    "rows", "auc", "auc_low", "auc_high", "auc_persistence", "gain", "gain_low", "gain_high", "brier",
    "ece", "band_coverage", "pinball", "verdict",
)  # fmt: skip


def models_router(
    registered: Registered,
    readiness: Readiness,
    guard: Guard | None = None,
    seen: Seen | None = None,
) -> APIRouter:
    """The routes; guard: a role to a FastAPI dependency that asks for it, None: nobody is asked; seen:
    None: nobody watches. The two /health routes of probes ask for no role."""
    router = APIRouter(tags=["models"])
    asks: Sequence[Any] = [] if guard is None else [Depends(guard("predict", "default"))]
    away = problem_responses(503)
    started = time.monotonic()

    @router.get(
        "/api/models", summary="Every registered version", response_model=ModelsReply,
        responses=away, dependencies=asks,
    )  # fmt: skip
    async def models(request: Request) -> Response:
        """503 while the registry does not answer."""
        service = service_of(request)
        name = name_and_version(service.live.version, service.live.bundle)[0]
        found = await registered.versions(name, service.breakers)
        live = service.live.bundle.digest
        return _json(
            ModelsReply(live=_live(service), versions=[_entry(one, live) for one in found])
        )

    @router.get(
        "/api/models/{version}", summary="One version and its evidence",
        response_model=ModelReply, responses=away | problem_responses(404), dependencies=asks,
    )  # fmt: skip
    async def model(request: Request, version: str) -> Response:
        """version: a number, an alias (champion, challenger) or `live`; 404 for an unknown one."""
        service = service_of(request)
        return _json(await _model(service, registered, version))

    @router.get(
        "/api/feature-importance", summary="What the live model looks at",
        response_model=ImportanceReply, responses=problem_responses(404, 422), dependencies=asks,
    )  # fmt: skip
    async def feature_importance(
        request: Request,
        task: str = Query("qos_met", max_length=64, description="task of the live model"),
        top: int = Query(20, ge=1, le=10_000, description="features at most"),
    ) -> Response:
        """Shares of the gain that the trees of a task's classifier made."""
        live = service_of(request).live
        if task not in live.bundle.tasks:
            raise Problem(404, [("task", f"the model has {', '.join(sorted(live.bundle.tasks))}")])
        return _json(
            ImportanceReply(
                version=live.version, task=task, features=importance(live.bundle, task)[:top]
            )
        )

    @router.get(
        "/api/model-health", summary="Whether the live model is proven",
        response_model=ModelHealthReply, dependencies=asks,
    )  # fmt: skip
    async def model_health(request: Request) -> Response:
        """By the evidence of its registration; and what the running service has seen of it."""
        return _json(await _model_health(service_of(request), registered, seen))

    @router.get(
        "/api/health", summary="How the service is", response_model=HealthReply, dependencies=asks
    )
    async def health(request: Request) -> Response:
        """200 also where it is degraded: the reply says so."""
        service = service_of(request)
        checks = await readiness.checks(service)
        breakers = breakers_of(service)
        well = is_ready(checks) and all(one.state == "closed" for one in breakers)
        return _json(
            HealthReply(
                status="ok" if well else "degraded",
                version=service.live.version,
                uptime_s=round(time.monotonic() - started, 3),
                checks=[CheckReply(**vars(check)) for check in checks],
                breakers=breakers,
            )
        )

    @router.get("/health/live", summary="Whether the process answers", response_model=AliveReply)
    async def alive() -> Response:
        """For a liveness probe: looks at nothing."""
        return _json(AliveReply())

    @router.get(
        "/health/ready", summary="Whether it should get traffic", response_model=ReadyReply,
        responses={503: {"model": ReadyReply, "description": "Not ready"}},
    )  # fmt: skip
    async def ready(request: Request) -> Response:
        """200 only while model, registry, definitions and store agree and the features are fresh."""
        checks = await readiness.checks(service_of(request))
        reply = ReadyReply(
            ready=is_ready(checks), checks=[CheckReply(**vars(check)) for check in checks]
        )
        return _json(reply, 200 if reply.ready else 503)

    return router


def importance(bundle: Bundle, task: str) -> list[Importance]:
    """Every feature of a task's classifier, the most gain first, equal ones by name."""
    booster = bundle.forecasts[task].classifier
    gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    splits = booster.feature_importance("split")
    total = float(gain.sum()) or 1.0
    found = [
        Importance(feature=name, gain=float(amount) / total, splits=int(count))
        for name, amount, count in zip(bundle.features, gain, splits, strict=True)
    ]
    return sorted(found, key=lambda one: (-one.gain, one.feature))


async def _model(service: Service, registered: Registered, version: str) -> ModelReply:
    live = service.live
    name, number = name_and_version(live.version, live.bundle)
    asked = number if version == "live" else version
    of_folder = "/" not in live.version
    if of_folder and asked == number:
        return _reply(live.bundle.manifest, name, number, None, {})
    wanted = f"{name}/{asked}" if asked.isdigit() else f"{name}@{asked}"
    found = await registered.version(wanted, service.breakers)
    if found is None:
        raise Problem(404, [("version", f"no version or alias {asked[:64]!r} of {name!r}")])
    manifest, metrics = await registered.evidence(found, service.breakers)
    entry = _entry(found, live.bundle.digest)
    return _reply(manifest, found.name, str(found.version), entry, metrics)


async def _model_health(
    service: Service, registered: Registered, seen: Seen | None
) -> ModelHealthReply:
    live = service.live
    found: Version | None = None
    metrics: dict[str, Any] = {}
    reasons: list[str] = []
    if "/" not in live.version:
        reasons.append("the model comes from a folder, without evidence")
    else:
        try:
            found = await registered.version(live.version, service.breakers)
            if found is None:
                reasons.append(f"the registry has no {live.version}")
            else:
                metrics = (await registered.evidence(found, service.breakers))[1]
        except RegistryAway as error:
            reasons.append(str(error))
    unproven = [] if reasons else _unproven(live.bundle, metrics)
    status = "unknown" if reasons else "unproven" if unproven else "proven"
    at = None if found is None else found.registered_at
    return ModelHealthReply(
        status=status,
        model=_live(service),
        reasons=reasons + unproven,
        metrics=_skills(metrics),
        registered_at=at,
        age_s=None if at is None else max(0.0, (datetime.now(UTC) - at).total_seconds()),
        drift=None if seen is None else drift_of(seen.drift(live)),
        outcomes=None if seen is None else outcomes_of(seen, live),
    )


def _unproven(bundle: Bundle, metrics: dict[str, Any]) -> list[str]:
    found = []
    for task in sorted(bundle.tasks):
        low = metrics.get(task, {}).get("gain_low")
        if low is None:
            found.append(f"{task}: no interval of the gain over persistence")
        elif low <= 0:
            found.append(f"{task}: the gain's interval begins at {low:+.4f}, not above zero")
    return found


def _reply(
    manifest: dict[str, Any],
    name: str,
    version: str,
    entry: ModelEntry | None,
    metrics: dict[str, Any],
) -> ModelReply:
    return ModelReply(
        model=_described(manifest, name, version),
        entry=entry,
        parameters=manifest.get("parameters", {}),
        data_hash=manifest.get("data_hash"),
        features=manifest["features"],
        parts={task: about.get("parts", {}) for task, about in manifest["tasks"].items()},
        metrics=_skills(metrics),
    )


def _skills(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        task: {name: found[name] for name in SKILL if name in found}
        for task, found in metrics.items()
    }


def _live(service: Service) -> LiveModel:
    live = service.live
    return _described(live.bundle.manifest, *name_and_version(live.version, live.bundle))


def _described(manifest: dict[str, Any], name: str, version: str) -> LiveModel:
    return LiveModel(
        name=name,
        version=version,
        digest=manifest["digest"],
        service=manifest["service"],
        catalog_hash=manifest["catalog_hash"],
        tasks=sorted(manifest["tasks"]),
    )


def _entry(version: Version, live_digest: str) -> ModelEntry:
    return ModelEntry(
        name=version.name,
        version=version.version,
        aliases=list(version.aliases),
        digest=version.digest,
        registered_at=version.registered_at,
        live=version.digest == live_digest,
    )


def _json(content: BaseModel, status: int = 200) -> Response:
    body = orjson.dumps(content.model_dump(mode="json"))
    return Response(body, status, media_type="application/json")
