"""Puts the guard around an app: who may ask, how often, how much, and what is told of it."""

from fastapi import FastAPI

from serving import admin_api, security
from serving.breakers import Breakers
from serving.described import describe_answers
from serving.limits import Limits, bounds_of
from serving.metrics import Metrics
from serving.problems import install
from serving.request_log import RequestLog
from serving.security import Guard
from serving.settings import ServingSettings
from serving.tracing import Traced, Tracing


def guarded(
    app: FastAPI, settings: ServingSettings, metrics: Metrics, breakers: Breakers,
    tracing: Tracing | None = None,
) -> FastAPI:  # fmt: skip
    """The app with its login, admin routes and /metrics; before it is served.

    Its other routes say who may ask them by `Depends(require(role))`.
    """
    app.state.guard = Guard(settings, metrics)
    app.state.breakers = breakers
    install(app)
    security.describe_security(app)
    describe_answers(app)
    app.include_router(security.router)
    app.include_router(admin_api.router)
    app.add_middleware(Limits, bounds=bounds_of(settings))
    if tracing is not None:
        app.add_middleware(Traced, tracing=tracing)
    app.add_middleware(
        RequestLog, metrics=metrics, every=settings.access_log, slow_s=settings.slow_s
    )
    return app
