"""Errors of the decision service as application/problem+json (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

MEDIA = "application/problem+json"
MOST_FAULTS = 20


class Fault(BaseModel):
    """One thing that is wrong."""

    model_config = ConfigDict(extra="forbid")

    place: str = Field(description="field, header or path", examples=["candidates.0.rsrp_dbm"])
    detail: str = Field(description="what is wrong and what is allowed")


class ProblemReply(BaseModel):
    """The body of every answer of 400 and more."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(examples=["about:blank"])
    title: str = Field(description="the status's phrase", examples=["Too Many Requests"])
    status: int = Field(examples=[429])
    detail: str = Field(description="all faults in one line")
    errors: list[Fault]


class Problem(Exception):
    """An answer of 400 or more with its body."""

    def __init__(
        self, status: int, faults: Sequence[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """faults: (place, what is wrong); the first MOST_FAULTS are told."""
        super().__init__(status)
        self.status, self.headers, self.faults = status, headers or {}, list(faults)[:MOST_FAULTS]

    def body(self) -> bytes:
        """The JSON."""
        told = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": "; ".join(f"{place}: {detail}" for place, detail in self.faults),
            "errors": [{"place": place, "detail": detail} for place, detail in self.faults],
        }
        return orjson.dumps(told)

    def response(self) -> Response:
        """The answer; nobody may keep it."""
        headers = {"cache-control": "no-store", **self.headers}
        return Response(self.body(), self.status, headers, media_type=MEDIA)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    content = {MEDIA: {"schema": {"$ref": "#/components/schemas/ProblemReply"}}}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": content,
            "model": ProblemReply,
        }
        for status in statuses
    }


def install_problems(app: FastAPI) -> None:
    """Every error that a route or the routing raises becomes a problem; no input is repeated in it."""

    async def own(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = {404: "nothing here", 405: f"{request.method} is not served here"}
        place = "path" if error.status_code in told else "request"
        detail = told.get(error.status_code, HTTPStatus(error.status_code).phrase)
        return Problem(
            error.status_code, [(place, detail)], headers=dict(error.headers or {})
        ).response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [(".".join(str(p) for p in one["loc"]), one["msg"]) for one in error.errors()]
        return Problem(422, faults).response()

    app.add_exception_handler(Problem, own)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
