"""The whole service: decisions, guard, log of decisions, outcomes, models and training put together."""

import asyncio
import logging
from collections.abc import Callable

from fastapi import Depends, FastAPI

from models.gate import GateParams, Observation
from serving.app import create_app
from serving.breakers import breakers_of
from serving.decision_log import DecisionLog
from serving.explain_api import explain_routes
from serving.feedback_api import feedback_routes
from serving.gate import AdaptiveGate
from serving.guard import guarded
from serving.job_files import Job
from serving.logs import Logs
from serving.metrics import Metrics
from serving.models_part import ModelsPart, PartSettings
from serving.replay import registered
from serving.security import require
from serving.settings import ServingSettings, unknown_variables
from serving.state import Service
from serving.swap_api import swap_routes
from serving.tracing import tracing_of
from stores.counting import count_in_memory

log = logging.getLogger("serving")
_SEEN: dict[str, Observation] = {"ok": "met", "failed": "missed"}
_ANSWER_SHARE = 0.8  # of the time for an answer that a training run may be waited for


class Outcomes:
    """Counts outcomes, and lets the gate learn from them in the loop that uses it."""

    def __init__(self, metrics: Metrics) -> None:
        """The gate comes with the service."""
        self._metrics = metrics
        self._learn: Callable[[str, str], None] = lambda service_type, outcome: None

    def attach(self, service: Service, gate: AdaptiveGate) -> None:
        """From the service's start on."""

        async def begin(_: Service) -> None:
            loop = asyncio.get_running_loop()

            def learn(service_type: str, outcome: str) -> None:
                seen = _SEEN.get(outcome, "unknown")
                loop.call_soon_threadsafe(gate.outcome, service_type, seen)

            self._learn = learn

        service.started.append(begin)

    def feedback(self, state: str) -> None:
        """An outcome was told, and this became of it."""
        self._metrics.feedback.labels(state).inc()

    def complied(self, service_type: str, outcome: str) -> None:
        """A decision turned out ok, failed or unknown."""
        self._metrics.compliance.labels(service_type, outcome).inc()
        self._learn(service_type, outcome)

    def violated(self, service_type: str, metric: str) -> None:
        """A threshold was not kept."""
        self._metrics.violation.labels(service_type, metric).inc()


def service_app(settings: ServingSettings) -> FastAPI:
    """The application of `python -m serving`. Raises `QosError` where it cannot start."""
    count_in_memory()
    metrics = Metrics()
    outcomes = Outcomes(metrics)
    breakers = breakers_of(settings, metrics)
    tracing = tracing_of(settings)
    part = ModelsPart(_part(settings), guard=require, heard=_heard(metrics))

    def attach(service: Service) -> None:
        decisions = DecisionLog(settings.data, dropped=_dropped(metrics))
        gate = AdaptiveGate(
            GateParams(
                floor=settings.confidence_floor,
                min_interval_s=settings.interval_s,
                per_minute=settings.handovers_a_minute,
                return_s=settings.return_s,
            )
        )
        service.metrics, service.breakers, service.log, service.gate = (
            metrics, breakers, decisions, gate,
        )  # fmt: skip
        metrics.uses(service.live.version, service.live.bundle.manifest["catalog_hash"])
        logs = Logs(settings.log_level, lost=lambda: metrics.dropped("log"))

        async def begin(_: Service) -> None:
            logs.begin()
            for told in unknown_variables():
                log.warning(told)

        async def end(_: Service) -> None:
            await asyncio.to_thread(decisions.close)
            if tracing is not None:
                await asyncio.to_thread(tracing.end)
            logs.end()

        service.started.append(begin)
        service.stopped.append(end)
        outcomes.attach(service, gate)
        part.attach(service)

    explain = explain_routes(lambda version: registered(version, settings.registry_uri))
    try:
        app = create_app(
            settings, parts=attach, decides=[Depends(require("predict"))],
            routers=[swap_routes(settings), *part.routers],
        )  # fmt: skip
    except BaseException:
        part.jobs.close()
        raise
    app.include_router(feedback_routes(outcomes), dependencies=[Depends(require("feedback"))])
    app.include_router(explain, dependencies=[Depends(require("data"))])
    return guarded(app, settings, metrics, breakers, tracing)


def _part(settings: ServingSettings) -> PartSettings:
    return PartSettings(
        data=settings.data,
        workers=settings.workers,
        queue=settings.queue,
        job_s=settings.training_s,
        fresh_s=settings.fresh_s,
        registry_uri=settings.registry_uri,
        max_samples_bytes=settings.max_samples_bytes,
        wait_s=settings.answer_s * _ANSWER_SHARE,
        duration_s=settings.collect_s,
        interval_s=settings.collect_every_s,
    )


def _dropped(metrics: Metrics) -> Callable[[str, int], None]:
    def dropped(what: str, count: int) -> None:
        for _ in range(count):
            metrics.dropped(what)

    return dropped


def _heard(metrics: Metrics) -> Callable[[Job], None]:
    def heard(job: Job) -> None:
        if job.kind == "train" and job.started_at is not None and job.finished_at is not None:
            metrics.training.observe((job.finished_at - job.started_at).total_seconds())

    return heard
