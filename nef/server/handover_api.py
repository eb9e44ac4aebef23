"""Handover by a decision service, with event A3 for when it is away, slow, invalid or not confident."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from nef.server import decision
from nef.server.inventory import Supi
from nef.server.login import nef_of, user
from nef.server.problems import Problem, problem_responses, unknown

router = APIRouter(
    prefix="/api/v1/ml", tags=["handover"], dependencies=[Depends(user)],
    responses=problem_responses(401, 404, 409, 422),
)  # fmt: skip


@router.post("/handover")
async def handover(request: Request, ue_id: Annotated[Supi, Query()]) -> JSONResponse:
    """Decides to which cell a UE goes and sends it there at the next second; 409 without coverage.

    by: who decided; reason: why it was not the decision service.
    """
    nef = nef_of(request)
    if ue_id not in nef.world.index:
        raise unknown("ue_id", "no such UE")
    sample = nef.world.samples.get(ue_id)
    if sample is None or sample.cell_id is None:
        raise Problem(409, [("ue_id", "the UE has no coverage; it returns by itself")])
    found = await decision.decide(nef, ue_id, request.app.state.decisions)
    return JSONResponse(found)


@router.get("/mode")
async def mode(request: Request) -> JSONResponse:
    """Whether the decision service is asked."""
    nef = nef_of(request)
    reason = decision.not_asked(nef)
    found: dict[str, Any] = {"setting": nef.settings.ml_handover, "asks": reason is None}
    return JSONResponse(found | {"reason": reason})
