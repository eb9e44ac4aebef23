"""The whole service: decisions, guard, log of decisions, outcomes, models and training put together."""

import asyncio
import logging
from collections.abc import Callable

from fastapi import Depends, FastAPI

from models.gate import GateParams
from serving.app import create_app
from serving.breakers import breakers_of
from serving.decision_log import DecisionLog
from serving.explain_api import explain_routes
from serving.feedback_api import feedback_routes
from serving.gate import AdaptiveGate
from serving.guard import guarded
from serving.in_loop import here, in_loop
from serving.logs import Logs
from serving.metrics import Metrics
from serving.models_part import ModelsPart, PartSettings
from serving.probe import watch_store
from serving.processes import LEAST
from serving.registered import ask_registry
from serving.replay import registered
from serving.security import require
from serving.settings import ServingSettings, unknown_variables
from serving.state import Service
from serving.swap_api import swap_routes
from serving.tracing import tracing_of
from serving.watch import Watch
from stores.counting import count_in_memory

log = logging.getLogger("serving")
_ANSWER_SHARE = 0.8  # of the time for an answer that a training run may be waited for


def service_app(settings: ServingSettings) -> FastAPI:
    """The application of `python -m serving`. Raises `QosError` where it cannot start."""
    count_in_memory()
    metrics = Metrics()
    breakers = breakers_of(settings, metrics)
    tracing = tracing_of(settings)
    watch = Watch(metrics)
    part = ModelsPart(_part(settings), guard=require, heard=watch.heard, seen=watch)

    def attach(service: Service) -> None:
        decisions = DecisionLog(
            settings.data,
            dropped=_dropped(metrics),
            appended=watch.decided,
            recorded=watch.recorded,
        )
        params = GateParams(
            floor=settings.confidence_floor,
            min_interval_s=settings.interval_s,
            per_minute=settings.handovers_a_minute,
            return_s=settings.return_s,
        )
        gate = AdaptiveGate(params, moved_again=metrics.interval.observe)
        service.metrics, service.breakers, service.log, service.gate = (
            metrics, breakers, decisions, gate,
        )  # fmt: skip
        logs = Logs(settings.log_level, lost=lambda: metrics.dropped("log"))

        async def begin(_: Service) -> None:
            logs.begin()
            decisions.work(in_loop(asyncio.get_running_loop()))
            service.in_background(watch_store(service, breakers))
            for told in unknown_variables():
                log.warning(told)

        async def end(_: Service) -> None:
            decisions.work(here)
            await asyncio.to_thread(decisions.close)
            if tracing is not None:
                await asyncio.to_thread(tracing.end)
            logs.end()

        service.started.append(begin)
        service.stopped.append(end)
        watch.attach(service, gate, part.jobs, part.readiness)
        part.attach(service)

    explain = explain_routes(
        lambda version: ask_registry(breakers, lambda: registered(version, settings.registry_uri))
    )
    try:
        app = create_app(
            settings, parts=attach, decides=[require("predict")],
            routers=[swap_routes(settings), *part.routers],
        )  # fmt: skip
    except BaseException:
        part.jobs.close()
        raise
    app.include_router(feedback_routes(watch), dependencies=[Depends(require("feedback"))])
    app.include_router(explain, dependencies=[Depends(require("data"))])
    return guarded(app, settings, metrics, breakers, tracing)


def _part(settings: ServingSettings) -> PartSettings:
    return PartSettings(
        data=settings.data,
        workers=settings.workers,
        queue=settings.queue,
        job_s=settings.training_s,
        niceness=LEAST,
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
