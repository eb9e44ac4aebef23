"""OAuth2 by password and refresh token (RFC 6749, 4.3 and 6); tokens are random."""

import asyncio
import re
import time
from collections import deque
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer

from nef.server import database
from nef.server.problems import Problem
from nef.server.settings import USERNAME
from nef.server.state import Nef

WINDOW_S = 60.0
FAILURES = {"user": 20, "address": 60}  # logins that may fail in WINDOW_S
MOST_WATCHED = 10_000
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


async def user(request: Request, token: Annotated[str | None, Depends(bearer)]) -> str:
    """Who asks; 401 without a good token."""
    nef = nef_of(request)
    name = None
    if token and len(token) <= MAX_TOKEN:
        name = await nef.database.ask(database.owner_of, token, "access")
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
    who = [("address", request.client.host if request.client else "")]
    if grant == "password":
        who.append(("user", form.get("username", "")[:65]))
    if any(_too_many(failures, one) for one in who):
        return _refused("temporarily_unavailable", "too many failed logins", 429)
    name: str | None
    if grant == "password":
        name, password = form.get("username", ""), form.get("password", "")
        if not 0 < len(name) <= 64 or not 0 < len(password) <= 1024:
            return _refused("invalid_request", "username and password are needed")
        kept = None
        if re.match(USERNAME, name):
            kept = await nef.database.ask(database.kept_password, name)
        async with request.app.state.hashing:
            right = await asyncio.to_thread(database.password_is_right, kept, password)
        name = name if right else None
    else:
        refresh = form.get("refresh_token", "")[: MAX_TOKEN + 1]
        name = await nef.database.ask(database.owner_of, refresh, "refresh", take=True)
    if name is None:
        for one in who:
            _failed(failures, one)
        return _refused("invalid_grant", "wrong name, password or token")
    settings = nef.settings
    answer: dict[str, Any] = {
        "access_token": await nef.database.ask(
            database.give_token, name, "access", settings.token_s
        ),
        "token_type": "bearer",
        "expires_in": settings.token_s,
        "refresh_token": await nef.database.ask(
            database.give_token, name, "refresh", settings.refresh_s
        ),
    }
    return JSONResponse(answer, headers={"cache-control": "no-store"})


Failures = dict[tuple[str, str], deque[float]]


def _too_many(failures: Failures, who: tuple[str, str]) -> bool:
    times = failures.get(who, deque())
    while times and times[0] < time.monotonic() - WINDOW_S:
        times.popleft()
    return len(times) >= FAILURES[who[0]]


def _failed(failures: Failures, who: tuple[str, str]) -> None:
    """Notes it; the longest watched is forgotten where too many are watched."""
    times = failures.pop(who, None) or deque(maxlen=FAILURES[who[0]])
    times.append(time.monotonic())
    failures[who] = times
    if len(failures) > MOST_WATCHED:
        del failures[next(iter(failures))]
