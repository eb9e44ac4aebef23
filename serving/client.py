"""A client of the decision service, blocking or asynchronous, with typed answers.

    with DecisionClient("http://127.0.0.1:5050") as service:
        reply = service.decide({"ue_id": "imsi-001010000000001", "service_class": "embb"})
        reply.decision, reply.predicted_antenna, reply.confidence

Requests are `serving.requests` messages or dicts of their fields, checked before they are sent. What
has no method of its own is a call that either client runs: `service.run(explain(reply.decision_id))`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx
import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.errors import QosError
from schemas.nef.wire import faults_of
from serving.messages.decisions import BatchReply, DecisionReply, PendingReply, PlainReply
from serving.messages.explained import Explained
from serving.messages.jobs import JobReply
from serving.messages.models import ModelsReply
from serving.messages.outcomes import FeedbackReply, HandoverOutcome, QosOutcome
from serving.requests import BatchRequest, PredictRequest

T = TypeVar("T")
Asked = PredictRequest | Mapping[str, Any]
Content = dict[str, Any]


class DecisionServiceError(QosError):
    """What the service refused or could not do.

    status: of HTTP, None: no answer came; faults: (place, reason); retry_after_s: where it says so.
    """

    status: int | None = None
    faults: tuple[tuple[str, str], ...] = ()
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Access:
    """How to prove who asks: an API key, or a user and password for tokens; neither: not at all."""

    api_key: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and the form of its answer."""

    method: str
    path: str
    answer: TypeAdapter[T]
    body: bytes | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


_CONTENT: TypeAdapter[Content] = TypeAdapter(dict[str, Any])


def decide(asked: Asked) -> Call[DecisionReply]:
    """A decision with all that it rests on."""
    return Call("POST", "/api/predict-with-qos", TypeAdapter(DecisionReply), _predict(asked))


def decide_briefly(asked: Asked) -> Call[PlainReply]:
    """A decision in short."""
    return Call("POST", "/api/predict", TypeAdapter(PlainReply), _predict(asked))


def decide_batch(asked: Sequence[Asked]) -> Call[BatchReply]:
    """Up to 500 decisions, in the order of the requests."""
    rows = [orjson.Fragment(_predict(one)) for one in asked]
    body = orjson.dumps({"requests": rows})
    _checked(BatchRequest, body)
    return Call("POST", "/api/predict/batch", TypeAdapter(BatchReply), body)


def decide_later(asked: Asked) -> Call[PendingReply]:
    """A decision whose job id comes at once."""
    return Call("POST", "/api/predict-async", TypeAdapter(PendingReply), _predict(asked))


def decided_later(job_id: str) -> Call[PendingReply]:
    """Where a decision asked for before stands."""
    return Call("GET", f"/api/predict-async/{_part(job_id)}", TypeAdapter(PendingReply))


def tell_qos(outcomes: Sequence[QosOutcome | Mapping[str, Any]]) -> Call[FeedbackReply]:
    """What flows got after decisions."""
    return _told("/api/qos-feedback", QosOutcome, outcomes)


def tell_handovers(outcomes: Sequence[HandoverOutcome | Mapping[str, Any]]) -> Call[FeedbackReply]:
    """Whether decisions succeeded."""
    return _told("/api/feedback", HandoverOutcome, outcomes)


def explain(decision_id: str) -> Call[Explained]:
    """What a decision rested on, and what was told of it since."""
    return Call("GET", f"/api/explain/{_part(decision_id)}", TypeAdapter(Explained))


def models() -> Call[ModelsReply]:
    """Every registered version, and the one that answers."""
    return Call("GET", "/api/models", TypeAdapter(ModelsReply))


def train(asked: Mapping[str, Any]) -> Call[JobReply]:
    """A training job: {"source": …} or {"samples": {table: rows}}."""
    return Call("POST", "/api/train-async", TypeAdapter(JobReply), orjson.dumps(dict(asked)))


def job(job_id: str) -> Call[JobReply]:
    """How a job stands."""
    return Call("GET", f"/api/jobs/{_part(job_id)}", TypeAdapter(JobReply))


def get(path: str, **parameters: str) -> Call[Content]:
    """Any other answer of the service, as a dict."""
    return Call("GET", path, _CONTENT, parameters=parameters)


def post(path: str, content: Any) -> Call[Content]:
    """Any other request of the service, its answer as a dict."""
    return Call("POST", path, _CONTENT, orjson.dumps(content))


class DecisionClient:
    """The service, blocking. timeout_s: of one answer."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:5050",
        access: Access | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._access = access or Access()
        self._http = httpx.Client(base_url=url, timeout=timeout_s)
        self._token: str | None = None

    def run(self, call: Call[T]) -> T:
        """The answer. Raises `DecisionServiceError`; an expired token is renewed once."""
        reply = self._send(call)
        if reply.status_code == 401 and self._access.username is not None:
            self._token = None
            reply = self._send(call)
        return _answer(call, reply)

    def decide(self, asked: Asked) -> DecisionReply:
        """Which cell, how sure, whether that is enough, and why."""
        return self.run(decide(asked))

    def decide_batch(self, asked: Sequence[Asked]) -> list[DecisionReply]:
        """The same for up to 500 requests, with one read and one scoring."""
        return self.run(decide_batch(asked)).decisions

    def decide_later(self, asked: Asked, wait_s: float = 30.0) -> DecisionReply:
        """The same through a job; waits for it at most `wait_s`."""
        job, until = self.run(decide_later(asked)), time.monotonic() + wait_s
        while job.status == "pending" and time.monotonic() < until:
            time.sleep(_PAUSE_S)
            job = self.run(decided_later(job.job_id))
        return _result(job)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Closes its connections."""
        self.close()

    def _send(self, call: Call[Any]) -> httpx.Response:
        try:
            if self._access.username is not None and self._token is None:
                login = self._http.post("/api/login", json=_credentials(self._access))
                self._token = _token(login)
            return self._http.request(
                call.method, call.path, content=call.body, params=call.parameters,
                headers=_headers(self._access, self._token),
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise _away(self._http.base_url, error) from None


class AsyncDecisionClient:
    """The service, for an event loop. timeout_s: of one answer."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:5050",
        access: Access | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._access = access or Access()
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s)
        self._token: str | None = None

    async def run(self, call: Call[T]) -> T:
        """The answer. Raises `DecisionServiceError`; an expired token is renewed once."""
        reply = await self._send(call)
        if reply.status_code == 401 and self._access.username is not None:
            self._token = None
            reply = await self._send(call)
        return _answer(call, reply)

    async def decide(self, asked: Asked) -> DecisionReply:
        """Which cell, how sure, whether that is enough, and why."""
        return await self.run(decide(asked))

    async def decide_batch(self, asked: Sequence[Asked]) -> list[DecisionReply]:
        """The same for up to 500 requests, with one read and one scoring."""
        return (await self.run(decide_batch(asked))).decisions

    async def decide_later(self, asked: Asked, wait_s: float = 30.0) -> DecisionReply:
        """The same through a job; waits for it at most `wait_s`."""
        job, until = await self.run(decide_later(asked)), time.monotonic() + wait_s
        while job.status == "pending" and time.monotonic() < until:
            await asyncio.sleep(_PAUSE_S)
            job = await self.run(decided_later(job.job_id))
        return _result(job)

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Closes its connections."""
        await self.close()

    async def _send(self, call: Call[Any]) -> httpx.Response:
        try:
            if self._access.username is not None and self._token is None:
                login = await self._http.post("/api/login", json=_credentials(self._access))
                self._token = _token(login)
            return await self._http.request(
                call.method, call.path, content=call.body, params=call.parameters,
                headers=_headers(self._access, self._token),
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise _away(self._http.base_url, error) from None


_PAUSE_S = 0.02


def _predict(asked: Asked) -> bytes:
    if isinstance(asked, PredictRequest):
        return asked.model_dump_json(exclude_unset=True).encode()
    body = orjson.dumps(dict(asked))
    _checked(PredictRequest, body)
    return body


def _checked(kind: type[BaseModel], body: bytes) -> None:
    try:
        kind.model_validate_json(body)
    except ValidationError as error:
        told = "; ".join(f"{place}: {reason}" for place, reason in faults_of(error))
        raise DecisionServiceError(f"{kind.__name__}: {told}") from None


def _told(
    path: str, kind: type[BaseModel], outcomes: Sequence[BaseModel | Mapping[str, Any]]
) -> Call[FeedbackReply]:
    bodies = [
        one.model_dump_json(exclude_unset=True).encode()
        if isinstance(one, BaseModel)
        else orjson.dumps(dict(one))
        for one in outcomes
    ]
    for body in bodies:
        _checked(kind, body)
    told = orjson.dumps([orjson.Fragment(body) for body in bodies])
    return Call("POST", path, TypeAdapter(FeedbackReply), told)


def _part(text: str) -> str:
    """A text as one part of a path."""
    return str(httpx.URL("http://x/", params={"p": text}).query, "ascii")[2:]


def _headers(access: Access, token: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if access.api_key is not None:
        headers["x-api-key"] = access.api_key
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return headers


def _credentials(access: Access) -> dict[str, str | None]:
    return {"username": access.username, "password": access.password}


def _token(login: httpx.Response) -> str:
    return str(_answer(post("/api/login", {}), login)["access_token"])


def _answer(call: Call[T], reply: httpx.Response) -> T:
    if reply.is_success:
        try:
            return call.answer.validate_json(reply.content)
        except ValidationError as error:
            raise _failed(
                call, reply, f"an answer of another form: {faults_of(error)[0]}"
            ) from None
    try:
        problem = orjson.loads(reply.content)
        faults = [(str(one["place"]), str(one["reason"])) for one in problem["errors"]]
        told = str(problem["detail"] or problem["title"])
    except (ValueError, KeyError, TypeError):
        faults, told = [], reply.reason_phrase
    raise _failed(call, reply, told, faults)


def _failed(
    call: Call[Any], reply: httpx.Response, told: str, faults: Sequence[tuple[str, str]] = ()
) -> DecisionServiceError:
    error = DecisionServiceError(f"{call.method} {call.path}: {reply.status_code}: {told}")
    error.status, error.faults = reply.status_code, tuple(faults)
    after = reply.headers.get("retry-after", "")
    error.retry_after_s = float(after) if after.isdigit() else None
    return error


def _away(url: httpx.URL, error: httpx.HTTPError) -> DecisionServiceError:
    return DecisionServiceError(
        f"{url}: no answer: {type(error).__name__}; `make serve` starts one"
    )


def _result(job: PendingReply) -> DecisionReply:
    if job.result is None:
        raise DecisionServiceError(f"job {job.job_id}: {job.status}, without a decision")
    return job.result
