"""Which model answers: replaced while the service runs, by whoever may."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import QosError
from serving.live import swap
from serving.problems import Problem, problem_responses
from serving.security import Principal, require
from serving.settings import ServingSettings
from serving.state import service_of

_Admin = Annotated[Principal, Depends(require("admin"))]


class SwapRequest(BaseModel):
    """The model that shall answer from now on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Annotated[
        str | None,
        Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_.-]+[@/][A-Za-z0-9_.-]+$",
              description="name@alias or name/version; null: what the settings name, looked up anew",
              examples=["qos@champion"]),
    ] = None  # fmt: skip


class SwapReply(BaseModel):
    """The model that answers now, and the one before."""

    version: str
    digest: str
    before: str


def swap_routes(settings: ServingSettings) -> APIRouter:
    """The route that replaces the model."""
    router = APIRouter(tags=["models"])

    @router.post(
        "/api/models/live", summary="Let another model answer",
        responses=problem_responses(400, 401, 403, 409, 413, 415, 422, 429, 503),
    )  # fmt: skip
    async def replace(request: Request, asked: SwapRequest, _: _Admin) -> SwapReply:
        """Loaded beside the one that answers; where it does not load, that one stays (409; 503 while the
        registry does not answer)."""
        service = service_of(request)
        before = service.live.version
        wanted = settings.model_copy(update={"model": asked.model or settings.model})
        try:
            live = await swap(service, wanted)
        except QosError as error:
            raise Problem(409, [("model", str(error))]) from None
        return SwapReply(version=live.version, digest=live.bundle.digest, before=before)

    return router
