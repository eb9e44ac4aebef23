"""Errors as application/problem+json, request bodies, and what the OpenAPI says of both."""

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from nef.client.read_json import NotJson, read_json
from schemas.nef.common import ProblemDetails, problem
from schemas.nef.wire import faults_of

T = TypeVar("T", bound=BaseModel)
MEDIA = "application/problem+json"
MERGE_PATCH = "application/merge-patch+json"
_MOST_FAULTS = 20


class Problem(Exception):
    """An answer of 400 or more with its body."""

    def __init__(
        self, status: int, faults: Sequence[tuple[str, str]] = (), cause: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """The title is the status's own phrase."""
        super().__init__(status)
        title = HTTPStatus(status).phrase
        self.status, self.headers = status, headers or {}
        self.details = problem(status, title, list(faults)[:_MOST_FAULTS], cause)

    def response(self) -> Response:
        """The answer."""
        body = self.details.model_dump_json(exclude_none=True)
        return Response(body, self.status, self.headers, media_type=MEDIA)


def unknown(place: str, told: str) -> Problem:
    """404."""
    return Problem(404, [(place, told)])


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    content = {MEDIA: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def json_body(content: bytes) -> Any:
    """Parsed; raises 400 for what is no JSON."""
    try:
        return read_json(content)
    except NotJson as error:
        raise Problem(400, [("body", str(error))]) from None


def checked(kind: type[T], content: object) -> T:
    """A message; raises 422 with every fault."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise Problem(422, faults_of(error)) from None


async def any_body(request: Request, *media: str) -> Any:
    """The request's JSON; 415 for another media type."""
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    allowed = media or ("application/json",)
    if given not in allowed:
        raise Problem(415, [("content-type", f"must be {' or '.join(allowed)}")])
    return json_body(await request.body())


def body_of(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads a request's body as this message."""

    async def read(request: Request) -> T:
        return checked(kind, await any_body(request))

    return read


def takes(kind: type[BaseModel], *media: str) -> dict[str, Any]:
    """For a route's `openapi_extra`: what its body is."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {
        "requestBody": {
            "required": True,
            "content": {one: {"schema": schema} for one in media or ("application/json",)},
        }
    }


def gives(kind: type[BaseModel], status: int = 200, many: bool = False) -> dict[int | str, Any]:
    """For a route's `responses`: what a success bears."""
    one: dict[str, Any] = {"$ref": f"#/components/schemas/{kind.__name__}"}
    schema = {"type": "array", "items": one} if many else one
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": schema}},
        }
    }


def _methods(app: FastAPI, path: str) -> list[str]:
    """Those of all routes of a path."""
    found: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path):
            found |= {name.upper() for name in operations}
    return sorted(found)


def install(app: FastAPI, kinds: Sequence[type[BaseModel]]) -> None:
    """Every error of an app becomes a problem; these messages come into its OpenAPI."""

    async def own(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers = {"allow": ", ".join(_methods(app, request.url.path))}
        told = (
            f"{request.method} is not served here" if error.status_code == 405 else "nothing here"
        )
        return Problem(error.status_code, [("path", told)], headers=headers).response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [(".".join(str(p) for p in one["loc"]), one["msg"]) for one in error.errors()]
        return Problem(422, faults).response()

    async def database(_: Request, error: Exception) -> Response:
        print(f"NEF: the database: {type(error).__name__}", file=sys.stderr)
        return Problem(
            503, [("database", "cannot be reached; this may not outlive a restart")]
        ).response()

    app.add_exception_handler(SQLAlchemyError, database)
    app.add_exception_handler(Problem, own)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            parts = made.setdefault("components", {}).setdefault("schemas", {})
            shown: list[type[BaseModel]] = [*kinds, ProblemDetails]
            for kind in shown:
                schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
                parts.update(schema.pop("$defs", {}))
                parts[kind.__name__] = schema
            app.openapi_schema = made
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
