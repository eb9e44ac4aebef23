"""The routes that decide: one request, many, or later."""

import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from serving.gathered import gathered_of
from serving.messages.decisions import BatchReply, DecisionReply, PendingReply, PlainReply
from serving.pending import Pending
from serving.predict import Decided, decide_all
from serving.problems import Problem, checked, problem_responses, read_body
from serving.replies import plain_of, reply_of
from serving.requests import BatchRequest, PredictRequest
from serving.state import Service, service_of
from serving.vectors import BadOverride

MESSAGES: tuple[type[BaseModel], ...] = (
    PredictRequest, BatchRequest, DecisionReply, BatchReply, PlainReply, PendingReply,
)  # fmt: skip
router = APIRouter(tags=["decisions"])
_ERRORS = problem_responses(400, 413, 415, 422)
_MOST_BATCH_BYTES = 16  # times what a single request may have


def _counted(route: Callable[[Request], Awaitable[Response]]) -> Any:
    """Counts the requests that come to no decision: refused ones, and those that fail or are given up."""

    @functools.wraps(route)
    async def counted(request: Request) -> Response:
        began = time.perf_counter()
        try:
            return await route(request)
        except Problem:
            service_of(request).metrics.answered("refused", time.perf_counter() - began)
            raise
        except BaseException:
            service_of(request).metrics.answered("failed", time.perf_counter() - began)
            raise

    return counted


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _gives(kind: type[BaseModel], status: int = 200) -> dict[int | str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {
        status: {"description": kind.__doc__, "content": {"application/json": {"schema": schema}}}
    }


@router.post(
    "/api/predict-with-qos", summary="A decision with all that it rests on",
    openapi_extra=_takes(PredictRequest), responses=_gives(DecisionReply) | _ERRORS,
)  # fmt: skip
@_counted
async def predict_with_qos(request: Request) -> Response:
    """Which cell, how sure, whether that is enough, and why."""
    return await _one(request, reply_of)


@router.post(
    "/api/predict", summary="A decision in short",
    openapi_extra=_takes(PredictRequest), responses=_gives(PlainReply) | _ERRORS,
)  # fmt: skip
@_counted
async def predict(request: Request) -> Response:
    """The same decision without its details."""
    return await _one(request, plain_of)


@router.post(
    "/api/predict/batch", summary="Many decisions at once",
    openapi_extra=_takes(BatchRequest), responses=_gives(BatchReply) | _ERRORS,
)  # fmt: skip
@_counted
async def predict_batch(request: Request) -> Response:
    """Up to 500 requests with one read of the store and one scoring."""
    service, began = service_of(request), time.perf_counter()
    body = await read_body(request, _MOST_BATCH_BYTES * service.settings.max_body_bytes)
    asked = checked(BatchRequest, body)
    service.metrics.staged("parse", time.perf_counter() - began)
    try:
        decided = await decide_all(service, asked.requests)
    except BadOverride as error:
        raise Problem(422, [("features", str(error))]) from None
    return _told(service, decided, began, lambda: {"decisions": [reply_of(o) for o in decided]})


@router.post(
    "/api/predict-async", summary="A decision later", status_code=202,
    openapi_extra=_takes(PredictRequest),
    responses=_gives(PendingReply, 202) | _ERRORS | problem_responses(429),
)  # fmt: skip
@_counted
async def predict_async(request: Request) -> Response:
    """Answers with a job id at once; `GET /api/predict-async/{job_id}` gives the decision."""
    service = service_of(request)
    asked = checked(PredictRequest, await read_body(request, service.settings.max_body_bytes))
    if asked.features:
        _check(service, asked)
    pending: Pending = service.pending
    job = pending.open(service.settings.most_pending)
    if job is None:
        raise Problem(429, [("request", "too many pending requests")], {"Retry-After": "1"})

    async def later() -> None:
        began = time.perf_counter()
        try:
            decided = await decide_all(service, [asked])
            _answered(service, decided, began)
            pending.done(job, reply_of(decided[0]))
        except Exception:
            pending.failed(job)
            service.metrics.answered("failed", time.perf_counter() - began)
            raise

    service.in_background(later())
    return _json({"job_id": job, "status": "pending", "result": None}, 202)


@router.get(
    "/api/predict-async/{job_id}", summary="A decision asked for before",
    responses=_gives(PendingReply) | problem_responses(404),
)  # fmt: skip
async def predicted(request: Request, job_id: str) -> Response:
    """Kept for ten minutes."""
    found = service_of(request).pending.look(job_id)
    if found is None:
        raise Problem(404, [("job_id", "no such request, or answered over ten minutes ago")])
    return _json({"job_id": job_id, "status": found.status, "result": found.result})


async def _one(request: Request, shape: Callable[[Decided], dict[str, Any]]) -> Response:
    service, began = service_of(request), time.perf_counter()
    asked = checked(PredictRequest, await read_body(request, service.settings.max_body_bytes))
    service.metrics.staged("parse", time.perf_counter() - began)
    try:
        decided = await gathered_of(request).decide(asked)
    except BadOverride as error:
        raise Problem(422, [("features", str(error))]) from None
    return _told(service, [decided], began, lambda: shape(decided))


def _check(service: Service, asked: PredictRequest) -> None:
    try:
        service.live.layout.check(asked)
    except BadOverride as error:
        raise Problem(422, [("features", str(error))]) from None


def _told(
    service: Service, decided: list[Decided], began: float, shape: Callable[[], dict[str, Any]]
) -> Response:
    ready = time.perf_counter()
    response = _json(shape())
    service.metrics.staged("reply", time.perf_counter() - ready)
    _answered(service, decided, began)
    return response


def _answered(service: Service, decided: list[Decided], began: float) -> None:
    took = time.perf_counter() - began
    for one in decided:
        service.metrics.answered("decided" if one.assessed is not None else "fallback", took)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
