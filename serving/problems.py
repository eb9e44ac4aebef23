"""Errors as application/problem+json (RFC 9457), and the reading of bodies that can raise them."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from schemas.nef.wire import faults_of

MEDIA = "application/problem+json"
T = TypeVar("T", bound=BaseModel)
_MOST_FAULTS = 20
_MOST_TEXT = 300


class Fault(BaseModel):
    """What is wrong in one place."""

    place: str
    reason: str


class ProblemReply(BaseModel):
    """An error; errors: the first 20 faults of the request."""

    type: str
    title: str
    status: int
    detail: str | None
    errors: list[Fault]


class Problem(Exception):
    """An answer of 400 or more; faults as (place, reason)."""

    def __init__(
        self,
        status: int,
        faults: Sequence[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        """The title is the status's own phrase."""
        super().__init__(status)
        self.status, self.headers = status, headers
        self.faults = [(place, reason[:_MOST_TEXT]) for place, reason in faults[:_MOST_FAULTS]]

    def response(self) -> Response:
        """The answer."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": "; ".join(f"{place}: {reason}" for place, reason in self.faults) or None,
            "errors": [{"place": place, "reason": reason} for place, reason in self.faults],
        }
        return Response(orjson.dumps(body), self.status, self.headers, media_type=MEDIA)


async def read_body(request: Request, most: int) -> bytes:
    """The JSON body. Raises Problem: 415 for another media type, 413 past `most` bytes."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != "application/json":
        raise Problem(415, [("content-type", "must be application/json")])
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise Problem(413, [("body", f"at most {most} bytes are taken")])
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Problem(413, [("body", f"at most {most} bytes are taken")])
        parts.append(part)
    return b"".join(parts)


def checked(kind: type[T], body: bytes) -> T:
    """The message. Raises Problem: 400 for what is no JSON, 422 with every fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = faults_of(error)
        broken = error.errors(include_input=False)[0]["type"] == "json_invalid"
        raise Problem(400 if broken else 422, found) from None


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    schema = {"$ref": "#/components/schemas/ProblemReply"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Every error of the app becomes a problem."""

    async def own(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = f"{request.method} is not served here" if error.status_code == 405 else error.detail
        headers = dict(error.headers) if error.headers else None
        return Problem(error.status_code, [("request", str(told))], headers).response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        told = error.errors()
        if any(one["type"] == "json_invalid" for one in told):
            return Problem(400, [("body", "Invalid JSON")]).response()
        return Problem(
            422, [(".".join(str(part) for part in one["loc"]), one["msg"]) for one in told]
        ).response()

    app.add_exception_handler(Problem, own)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
