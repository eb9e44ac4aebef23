"""What operators ask: the circuit breakers, and the metrics."""

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.breakers import Breakers, State
from serving.problems import Problem, problem_responses
from serving.security import Principal, guard_of, require

log = logging.getLogger("serving.admin")
router = APIRouter(tags=["operation"])
_Admin = Annotated[Principal, Depends(require("admin"))]
_ERRORS = problem_responses(401, 403, 429)


class BreakerReply(BaseModel):
    """How a circuit breaker stands."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)

    name: str = Field(examples=["store"])
    state: State
    failures: int = Field(description="counted since the start")
    successes: int
    refused: int = Field(description="tries that were not made because it was open")
    opened: int = Field(description="times that it opened")


class BreakersReply(BaseModel):
    """All circuit breakers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    breakers: list[BreakerReply]


def breakers_in(request: Request) -> Breakers:
    """Those of the app that a request is for."""
    found: Breakers = request.app.state.breakers
    return found


@router.get("/api/circuit-breakers", responses=_ERRORS)
async def circuit_breakers(request: Request, _: _Admin) -> BreakersReply:
    """Every breaker: store, nef, registry."""
    all_ = breakers_in(request)
    shown = [BreakerReply.model_validate(all_.status(name)) for name in all_.names]
    return BreakersReply(breakers=shown)


@router.post("/api/circuit-breakers/{name}/reset", responses={**_ERRORS, **problem_responses(404)})
async def reset(name: str, request: Request, who: _Admin) -> BreakerReply:
    """Closes a breaker; the next try is made."""
    all_ = breakers_in(request)
    if name not in all_.names:
        raise Problem(404, [("name", f"no such breaker; known: {', '.join(all_.names)}")])
    all_.reset(name)
    log.warning("breaker reset", extra={"breaker": name, "by": who.name})
    return BreakerReply.model_validate(all_.status(name))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problem_responses(401)},
)
async def metrics(request: Request) -> Response:
    """Prometheus's text; counted nowhere."""
    guard = guard_of(request)
    if not guard.may_scrape(request.headers):
        raise Problem(401, [("authorization", "the token of METRICS_AUTH_TOKEN is needed")],
                      headers={"www-authenticate": "Bearer"})  # fmt: skip
    body, media = guard.metrics.text()
    return Response(body, headers={"content-type": media})
