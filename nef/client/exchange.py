"""HTTP exchanges with a NEF as generators that do no I/O: they yield what to send or how long to wait.

`run` and `run_async` do the I/O, so that both clients share every rule: login, one renewal at a 401,
bounded retries with jitter, the circuit breaker, deadlines and size limits.
"""

import asyncio
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from nef.client.read_json import NotJson, read_json
from nef.client.retry import Backoff, CircuitBreaker
from nef.client.settings import NefSettings
from schemas.errors import QosError
from schemas.nef.common import ProblemDetails

T = TypeVar("T")
RENEW_BEFORE_S = 30.0
_LOOK_AGAIN_S = 0.01
_RETRIED = (429, 500, 502, 503, 504)


class NefError(QosError):
    """The NEF cannot be reached or answers with an error; status: None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """One line."""
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class Send:
    """A request. told: what messages call it, for a path may name a subscriber; repeatable: sending it
    twice is as good as once."""

    told: str
    method: str
    path: str
    json: Any = None
    form: Mapping[str, str] | None = None
    repeatable: bool = True


@dataclass(frozen=True)
class Prepared:
    """A request with its headers, for the drivers."""

    send: Send
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Wait:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """The server's answer, its body whole."""

    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True)
class Failure:
    """No answer. arrived: whether the server may have got the request."""

    reason: str
    arrived: bool


Flow = Generator[Prepared | Wait, Reply | Failure | None, T]


@dataclass
class Session:
    """What exchanges share: the token and how the server fares."""

    settings: NefSettings
    backoff: Backoff = field(default_factory=Backoff)
    draw: random.Random = field(default_factory=random.Random)
    token: str | None = None
    refresh_token: str | None = None
    expires_at: float = float("inf")
    renewing: bool = False

    def __post_init__(self) -> None:
        """The breakers: three failed logins or five failed requests in a row open them."""
        self.login_breaker = CircuitBreaker("NEF login", failures=3, open_s=30.0)
        self.breaker = CircuitBreaker("NEF", failures=5, open_s=60.0)


def log_in(session: Session) -> Flow[None]:
    """Gets a token by password; raises `NefError`."""
    settings = session.settings
    if settings.username is None or settings.password is None:
        raise NefError("the NEF asks for a login: set NEF_USERNAME and NEF_PASSWORD", 401)
    form = {
        "grant_type": "password",
        "username": settings.username,
        "password": settings.password.get_secret_value(),
    }
    yield from _take_token(session, form)


def renew(session: Session) -> Flow[None]:
    """A new token by the refresh token where there is one and it is good, else by password."""
    old, session.refresh_token = session.refresh_token, None
    if old is not None:
        try:
            form = {"grant_type": "refresh_token", "refresh_token": old}
            yield from _take_token(session, form)
            return
        except NefError as error:
            if error.status is None or error.status >= 500:
                raise
    yield from log_in(session)


def _take_token(session: Session, form: dict[str, str]) -> Flow[None]:
    send = Send("NEF login", "POST", session.settings.token_path, form=form)
    reply = yield from _attempts(session, send, session.login_breaker)
    if reply.status != 200:
        raise NefError(_told(send, reply), reply.status)
    content = parsed(send, reply)
    token = content.get("access_token") if isinstance(content, dict) else None
    if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
        raise NefError(f"{send.told}: no access_token in the answer", reply.status)
    refresh, seconds = content.get("refresh_token"), content.get("expires_in")
    session.token = token
    session.refresh_token = refresh if isinstance(refresh, str) and refresh else None
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0
    session.expires_at = time.monotonic() + seconds if known else float("inf")


def _other_token(session: Session, used: str | None) -> Flow[None]:
    """A token that is not `used`; requests under way at once share one renewal."""
    while session.renewing:
        yield Wait(_LOOK_AGAIN_S)
    if session.token != used:
        return
    session.renewing = True
    try:
        yield from renew(session)
    finally:
        session.renewing = False


def call(session: Session, send: Send) -> Flow[Reply]:
    """The answer to a request with a token; renews it before it ends and once at a 401.

    Raises `NefError` for an answer of 400 or more and where there is none, `CircuitOpen` while the
    server is left alone.
    """
    logs_in = session.settings.username is not None
    ends = session.expires_at - RENEW_BEFORE_S
    if logs_in and (session.token is None or time.monotonic() > ends):
        yield from _other_token(session, session.token)
    used = session.token
    reply = yield from _attempts(session, send, session.breaker)
    if reply.status == 401 and logs_in:
        yield from _other_token(session, used)
        reply = yield from _attempts(session, send, session.breaker)
    if reply.status >= 400:
        raise NefError(_told(send, reply), reply.status)
    return reply


def _attempts(session: Session, send: Send, breaker: CircuitBreaker) -> Flow[Reply]:
    for attempt in range(session.backoff.attempts):
        breaker.enter()
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if session.token is not None and send.form is None:
            headers["authorization"] = f"Bearer {session.token}"
        try:
            outcome = yield Prepared(send, headers)
        except BaseException:
            breaker.abandon()
            raise
        assert outcome is not None
        asked: float | None = None
        if isinstance(outcome, Reply) and outcome.status < 500:
            breaker.succeed()
        else:
            breaker.fail()
        # a breaker that opens ends the attempts: this outcome says why, an open breaker would not
        last = attempt + 1 == session.backoff.attempts or breaker.is_open
        if isinstance(outcome, Reply):
            refused = outcome.status in (429, 503)  # the server did nothing
            if outcome.status not in _RETRIED or last or not (send.repeatable or refused):
                return outcome
            asked = _retry_after(outcome)
        else:
            if last or (outcome.arrived and not send.repeatable):
                tries = f" after {attempt + 1} attempts" if attempt else ""
                raise NefError(f"{send.told}: {outcome.reason}{tries}")
        yield Wait(session.backoff.wait_s(attempt, session.draw, asked))
    raise AssertionError("attempts is 1 or more")


def parsed(send: Send, reply: Reply) -> Any:
    """The answer's JSON; `NefError` where it is something else, such as a proxy's HTML."""
    try:
        return read_json(reply.body)
    except NotJson as error:
        kind = reply.headers.get("content-type", "no content type")
        raise NefError(
            f"{send.told}: {reply.status}, {kind[:60]} of {len(reply.body)} bytes: {error}",
            reply.status,
        ) from None


def _told(send: Send, reply: Reply) -> str:
    """Status and the problem's title and cause; its other texts may name a subscriber."""
    try:
        problem = ProblemDetails.read(read_json(reply.body))
        words = [word[:80] for word in (problem.title, problem.cause) if word]
    except ValueError:
        words = []
    return f"{send.told}: {': '.join([str(reply.status), *words])}"


def _retry_after(reply: Reply) -> float | None:
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


# -- drivers --------------------------------------------------------------------------------------


def _outcome(error: httpx.HTTPError) -> Failure:
    early = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return Failure(f"no answer ({type(error).__name__})", arrived=not early)


def _request(client: httpx.Client | httpx.AsyncClient, prepared: Prepared) -> httpx.Request:
    send = prepared.send
    return client.build_request(
        send.method, send.path, json=send.json, data=send.form, headers=dict(prepared.headers)
    )


class _TooLong(Exception):
    """A body beyond its limit."""


def run(flow: Flow[T], client: httpx.Client, settings: NefSettings) -> T:
    """The flow's result, with its requests sent by `client`."""
    outcome: Reply | Failure | None = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        outcome = None
        if isinstance(step, Wait):
            time.sleep(step.seconds)
        else:
            try:
                outcome = _exchange(client, step, settings)
            except httpx.HTTPError as error:
                outcome = _outcome(error)
            except _TooLong:
                outcome = Failure(f"more than {settings.max_bytes} bytes", arrived=True)
            except BaseException:
                flow.close()
                raise


def _exchange(client: httpx.Client, step: Prepared, settings: NefSettings) -> Reply:
    ends = time.monotonic() + settings.deadline_s
    reply = client.send(_request(client, step), stream=True)
    try:
        body = bytearray()
        for part in reply.iter_bytes():
            body += part
            if len(body) > settings.max_bytes:
                raise _TooLong
            if time.monotonic() > ends:
                raise httpx.ReadTimeout("deadline")
    finally:
        reply.close()
    return Reply(reply.status_code, reply.headers, bytes(body))


async def run_async(flow: Flow[T], client: httpx.AsyncClient, settings: NefSettings) -> T:
    """The flow's result, with its requests sent by `client`."""
    outcome: Reply | Failure | None = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        outcome = None
        try:
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            else:
                outcome = await _exchange_async(client, step, settings)
        except httpx.HTTPError as error:
            outcome = _outcome(error)
        except TimeoutError:
            outcome = Failure("no answer (deadline)", arrived=True)
        except _TooLong:
            outcome = Failure(f"more than {settings.max_bytes} bytes", arrived=True)
        except BaseException:
            flow.close()
            raise


async def _exchange_async(
    client: httpx.AsyncClient, step: Prepared, settings: NefSettings
) -> Reply:
    async with asyncio.timeout(settings.deadline_s):
        reply = await client.send(_request(client, step), stream=True)
        try:
            body = bytearray()
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > settings.max_bytes:
                    raise _TooLong
        finally:
            await reply.aclose()
    return Reply(reply.status_code, reply.headers, bytes(body))
