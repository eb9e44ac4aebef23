"""OAuth2 by password and refresh token (RFC 6749, 4.3 and 6); tokens are random."""

import asyncio
import time
from collections import deque
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer

from nef.server import database
from nef.server.problems import Problem
from nef.server.state import Nef

LOGINS_A_MINUTE = 60  # that fail, from everywhere
MAX_TOKEN = 256
router = APIRouter(tags=["login"])
bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/login/access-token", auto_error=False)
_FORM = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
        "username": {"type": "string"}, "password": {"type": "string"},
        "refresh_token": {"type": "string"},
    },
}  # fmt: skip
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/x-www-form-urlencoded": {"schema": _FORM}},
    }
}


def nef_of(request: Request) -> Nef:
    """The running server."""
    found: Nef = request.app.state.nef
    return found


def user(request: Request, token: Annotated[str | None, Depends(bearer)]) -> str:
    """Who asks; 401 without a good token."""
    nef = nef_of(request)
    name = None
    if token and len(token) <= MAX_TOKEN:
        name = database.owner_of(nef.engine, token, "access")
    if name is None:
        raise Problem(401, [("authorization", "no valid token")],
                      headers={"www-authenticate": "Bearer"})  # fmt: skip
    return name


def _refused(error: str, told: str, status: int = 400) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": told}, status)


_ERROR = {
    "type": "object", "required": ["error"],
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
}  # fmt: skip
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": told, "content": {"application/json": {"schema": _ERROR}}}
    for status, told in ((400, "Refused (RFC 6749, 5.2)"), (429, "Too many failed logins"))
}


@router.post("/api/v1/login/access-token", openapi_extra=_BODY, responses=_ERRORS)
async def access_token(request: Request) -> JSONResponse:
    """A token for a password or a refresh token, and a new refresh token; 400 for a wrong one."""
    nef, failures = nef_of(request), request.app.state.failures
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given != "application/x-www-form-urlencoded":
        return _refused("invalid_request", "a form is asked for")
    try:
        form = dict(parse_qsl((await request.body()).decode(), max_num_fields=20))
    except ValueError:
        return _refused("invalid_request", "the form cannot be read")
    grant = form.get("grant_type", "password")
    if grant not in ("password", "refresh_token"):
        return _refused("unsupported_grant_type", "password or refresh_token")
    if _too_many(failures):
        return _refused("temporarily_unavailable", "too many failed logins", 429)
    name: str | None
    if grant == "password":
        name, password = form.get("username", ""), form.get("password", "")
        if not 0 < len(name) <= 64 or not 0 < len(password) <= 1024:
            return _refused("invalid_request", "username and password are needed")
        async with request.app.state.hashing:
            right = await asyncio.to_thread(database.password_is_right, nef.engine, name, password)
        name = name if right else None
    else:
        refresh = form.get("refresh_token", "")[: MAX_TOKEN + 1]
        name = database.owner_of(nef.engine, refresh, "refresh", take=True) if refresh else None
    if name is None:
        failures.append(time.monotonic())
        return _refused("invalid_grant", "wrong name, password or token")
    settings = nef.settings
    answer: dict[str, Any] = {
        "access_token": database.give_token(nef.engine, name, "access", settings.token_s),
        "token_type": "bearer",
        "expires_in": settings.token_s,
        "refresh_token": database.give_token(nef.engine, name, "refresh", settings.refresh_s),
    }
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def _too_many(failures: deque[float]) -> bool:
    while failures and failures[0] < time.monotonic() - 60.0:
        failures.popleft()
    return len(failures) >= LOGINS_A_MINUTE
