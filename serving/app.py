"""The decision service's application: its routes, its start and its end."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

from nef.server.docs_page import local_docs
from serving import decision_api
from serving.direct import Check, Direct
from serving.gathered import Gathered
from serving.live import load_live
from serving.problems import ProblemReply, install
from serving.requests import MOST_IN_BATCH
from serving.state import Service, Settings
from serving.tracing import OWN_TRACES_ONLY

TITLE = "Decision service of the 5G QoS feature platform"
ABOUT = f"""
Will a request for quality of service be met, in which cell, and how sure is that?

- Ask: `POST /api/predict-with-qos`, or up to {MOST_IN_BATCH} at once: `POST /api/predict/batch`.
- What rests on too little is left to event A3 and says why; it is no error.
- Tell what came of a decision by its `decision_id`: `POST /api/qos-feedback`.
- With keys in use, send one as `X-API-Key`, or a token of `POST /api/login`.
- What is refused is said as RFC 9457 has it, with what was allowed.
"""
_REF = "#/components/schemas/{model}"


def create_app(
    settings: Settings,
    parts: Callable[[Service], None] | None = None,
    routers: Sequence[APIRouter] = (),
    decides: Sequence[Check] = (),
) -> FastAPI:
    """The application; its model is loaded here, so a fault in it is seen before a port is bound.

    parts: puts the other parts (metrics, log, breakers, gate) into the service; routers: theirs;
    decides: what looks at a request before a route that decides.
    Raises `QosError` as `load_live`.
    """
    service = Service(settings, load_live(settings))
    if parts is not None:
        parts(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for start in service.started:
            await start(service)
        gc.collect()
        gc.freeze()  # what was loaded stays: later collections need not look at it
        before = gc.get_threshold()
        # what a request leaves is found without a look at all that is kept
        gc.set_threshold(700, 10, 1000)
        try:
            yield
        finally:
            for task in (tasks := list(service.background)):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stop in reversed(service.stopped):
                await stop(service)
            await service.live.close()
            gc.unfreeze()
            gc.set_threshold(*before)

    app = FastAPI(
        title=TITLE, version="1", description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None,
        telemetry=OWN_TRACES_ONLY,
    )  # fmt: skip
    app.state.service, app.state.gathered = service, Gathered(service)
    install(app)
    app.include_router(decision_api.router, dependencies=[Depends(one) for one in decides])
    app.add_middleware(Direct, router=decision_api.router, checks=decides)
    for router in routers:
        app.include_router(router)
    local_docs(app, unfolded=True)
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    """Brings the messages of raw routes into the OpenAPI."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            shapes = made.setdefault("components", {}).setdefault("schemas", {})
            shown: list[type[BaseModel]] = [*decision_api.MESSAGES, ProblemReply]
            for kind in shown:
                mode: Any = "validation" if kind.__name__.endswith("Request") else "serialization"
                shape = kind.model_json_schema(ref_template=_REF, mode=mode)
                shapes.update(shape.pop("$defs", {}))
                shapes[kind.__name__] = shape
            app.openapi_schema = made
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
