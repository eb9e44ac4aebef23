"""Who may ask what: API keys and tokens with roles, the login, and the dependency that routes name."""

import asyncio
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.models import APIKey
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict, Field

from serving.keys import owner_of, password_is_right
from serving.metrics import Metrics
from serving.problems import Problem, problem_responses
from serving.rate_limits import Group, RateLimits
from serving.settings import ROLES, Role, ServingSettings
from serving.tokens import ExpiredToken, Tokens, WrongToken

KEY_HEADER = "x-api-key"
ANYONE = "anyone"
_HASHINGS = 2  # at once: scrypt takes a core and 16 MiB
_GROUP: dict[Role, Group] = {
    "predict": "predict", "train": "train", "data": "collect", "feedback": "feedback",
    "admin": "default",
}  # fmt: skip
_KEY = APIKey.model_validate(
    {"in": "header", "name": "X-API-Key", "description": "a key, or a token of /api/login"}
)


@dataclass(frozen=True)
class Principal:
    """Who asks. who: what calls are counted by; a name from the settings, or an address."""

    name: str
    roles: frozenset[Role]
    who: str

    def may(self, role: Role) -> bool:
        """Whether it has the role; `admin` has all."""
        return role in self.roles or "admin" in self.roles


class Guard:
    """Knows the keys, users and rates of a service."""

    def __init__(self, settings: ServingSettings, metrics: Metrics) -> None:
        """From the settings."""
        self.settings, self.metrics = settings, metrics
        self.rates = RateLimits(settings, metrics)
        secret = settings.jwt_secret
        self.tokens = None
        if secret is not None:
            self.tokens = Tokens(secret.get_secret_value(), settings.token_s, settings.refresh_s)
        self._hashing = asyncio.Semaphore(_HASHINGS)

    def known(self, headers: Mapping[str, str], address: str) -> Principal:
        """Who asks with these headers from this address; raises a problem, 401."""
        if not self.settings.secured:
            return Principal(ANYONE, frozenset(ROLES), f"address:{address}")
        key, authorization = headers.get(KEY_HEADER), headers.get("authorization")
        if key is not None:
            name = owner_of(key, self.settings.api_keys)
            if name is None:
                raise self._denied("wrong", "x-api-key", "no such key")
            return Principal(name, frozenset(self.settings.api_keys[name].roles), f"key:{name}")
        if authorization is None:
            raise self._denied("missing", "authorization", "a key (X-API-Key) or a token is needed")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or self.tokens is None:
            raise self._denied("wrong", "authorization", "no token of ours")
        try:
            name = self.tokens.owner_of(token.strip())
        except ExpiredToken:
            raise self._denied("expired", "authorization", "the token is over") from None
        except WrongToken:
            raise self._denied("wrong", "authorization", "no token of ours") from None
        user = self.settings.users.get(name)
        if user is None:
            raise self._denied("wrong", "authorization", "no token of ours")
        return Principal(name, frozenset(user.roles), f"user:{name}")

    def admit(self, request: Request, role: Role, group: Group | None = None) -> Principal:
        """Who asks, if it may and not too often; raises a problem: 401, 403 or 429."""
        principal = self.known(request.headers, address_of(request))
        if not principal.may(role):
            self.metrics.denied.labels("role").inc()
            raise Problem(403, [("role", f"{role!r} is needed")])
        self.rates.check(group or _GROUP[role], principal.who)
        return principal

    def may_scrape(self, headers: Mapping[str, str]) -> bool:
        """Whether /metrics is open, or its token is given."""
        token = self.settings.metrics_token
        if token is None:
            return True
        wanted = f"Bearer {token.get_secret_value()}".encode()
        return hmac.compare_digest(wanted, headers.get("authorization", "").encode("utf-8"))

    async def log_in(self, name: str, password: str) -> None:
        """Raises a problem, 401, for a wrong name or password alike."""
        async with self._hashing:
            right = await asyncio.to_thread(password_is_right, name, password, self.settings.users)
        if not right or self.tokens is None:
            raise self._denied("login", "password", "wrong name or password")

    def _denied(self, reason: str, place: str, told: str) -> Problem:
        self.metrics.denied.labels(reason).inc()
        return Problem(401, [(place, told)], headers={"www-authenticate": "Bearer"})


def address_of(request: Request) -> str:
    """The client's address; of IPv6 its /64, for one client has all of it."""
    return _client(request.client.host) if request.client else "unknown"


@lru_cache(maxsize=10_000)
def _client(host: str) -> str:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if found.version == 4:
        return host
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))


def guard_of(request: Request) -> Guard:
    """The guard of the app that a request is for."""
    found: Guard = request.app.state.guard
    return found


class Required(SecurityBase):
    """A dependency that lets only a role pass. It looks at the request itself and asks for nothing
    else: each dependency of a dependency costs every request."""

    def __init__(self, role: Role, group: Group | None = None) -> None:
        """group: whose rate the calls count in, else the role's."""
        self.role, self.group = role, group
        self.model, self.scheme_name = _KEY, "key"

    async def __call__(self, request: Request) -> Principal:
        """Who asks; raises a problem: 401, 403 or 429."""
        return guard_of(request).admit(request, self.role, self.group)


def require(role: Role, group: Group | None = None) -> Required:
    """For `Depends`: lets only this role pass; group: whose rate the calls count in, else the role's."""
    return Required(role, group)


def describe_security(app: FastAPI) -> None:
    """The OpenAPI says of every route that asks for a key that a token does as well."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            schemes = made.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["token"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            operations = (one for path in made["paths"].values() for one in path.values())
            for operation in operations:
                if {"key": []} in operation.get("security", ()):
                    operation["security"] = [{"key": []}, {"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Login(_Message):
    """Who logs in."""

    username: str = Field(min_length=1, max_length=64, examples=["ana"])
    password: str = Field(min_length=1, max_length=1024, examples=["correct horse battery"])


class Refresh(_Message):
    """The refresh token; it is good once."""

    refresh_token: str = Field(min_length=1, max_length=4096)


class TokenReply(_Message):
    """A token for the header `Authorization: Bearer …`, and the one that renews it."""

    access_token: str
    refresh_token: str
    token_type: str = Field(examples=["bearer"])
    expires_in: int = Field(description="life of the access token [s]", examples=[1800])
    roles: list[Role]


router = APIRouter(tags=["login"], responses=problem_responses(401, 404, 413, 415, 422, 429))


def _reply(guard: Guard, name: str, response: Response) -> TokenReply:
    tokens = guard.tokens
    assert tokens is not None
    response.headers["cache-control"] = "no-store"  # RFC 6749, 5.1
    return TokenReply(
        access_token=tokens.give(name, "access"), refresh_token=tokens.give(name, "refresh"),
        token_type="bearer", expires_in=tokens.access_s, roles=list(guard.settings.users[name].roles),
    )  # fmt: skip


@router.post("/api/login")
async def login(body: Login, request: Request, response: Response) -> TokenReply:
    """Tokens for a name and password; 404 where nobody can log in."""
    guard = guard_of(request)
    guard.rates.check("login", address_of(request))
    _tokens(guard)
    await guard.log_in(body.username, body.password)
    return _reply(guard, body.username, response)


@router.post("/api/refresh")
async def refresh(body: Refresh, request: Request, response: Response) -> TokenReply:
    """New tokens for a refresh token, which is over by that."""
    guard = guard_of(request)
    guard.rates.check("refresh", address_of(request))
    try:
        name = _tokens(guard).owner_of(body.refresh_token, "refresh")
    except WrongToken:
        name = ""
    if name not in guard.settings.users:
        raise guard._denied("login", "refresh_token", "no refresh token of ours, or used before")
    return _reply(guard, name, response)


def _tokens(guard: Guard) -> Tokens:
    if guard.tokens is None:
        raise Problem(404, [("path", "there are no users here: ask with a key")])
    return guard.tokens
