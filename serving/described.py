"""What every route may answer besides its own: from who asks, how often, how much, and how long."""

from typing import Any

from fastapi import FastAPI

from serving.limits import watched
from serving.problems import MEDIA, ProblemReply, problem_responses

_SECURED = (401, 403, 429)
_BODY = (400, 408, 413, 415)
_FRAMEWORKS = ("HTTPValidationError", "ValidationError")  # which no route answers
_HEADERS = {
    401: ("WWW-Authenticate", "the scheme that is asked for"),
    429: ("Retry-After", "seconds until a call is let in"),
    503: ("Retry-After", "seconds until another try is worth it"),
}


def describe_answers(app: FastAPI) -> None:
    """The OpenAPI names them of each operation: keys, rates, and the bounds of a request."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            shapes = made.setdefault("components", {}).setdefault("schemas", {})
            shape = ProblemReply.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes |= shape.pop("$defs")
            shapes["ProblemReply"] = shape
            for name in _FRAMEWORKS:
                shapes.pop(name, None)
            for path, operations in made["paths"].items():
                for operation in operations.values():
                    _complete(path, operation)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    statuses: tuple[int, ...] = () if watched(path) else (503,)
    if "security" in operation:
        statuses += _SECURED
    if "requestBody" in operation:
        statuses += _BODY
    if "422" in answers:
        statuses += (422,)
    for status, answer in problem_responses(*statuses).items():
        told = answers.setdefault(str(status), answer)
        if "HTTPValidationError" in str(told):
            told = answers["422"] = answer
        told.setdefault("content", {}).setdefault(MEDIA, answer["content"][MEDIA])
    for status, (name, meaning) in _HEADERS.items():
        if str(status) in answers:
            header = {name: {"description": meaning, "schema": {"type": "string"}}}
            answers[str(status)].setdefault("headers", {}).update(header)
