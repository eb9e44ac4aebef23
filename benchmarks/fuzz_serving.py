"""Bodies of known worth at every POST route of the decision service, over HTTP.

    python -m benchmarks.fuzz_serving --payloads 100000

`data/bundle` and `data/features` (`make run` makes both) are served by a process of its own, keys on.
A good body is in the ranges of the contracts; a bad one is spoiled in one way that they rule out, or
comes with a wrong content type or key; noise is changed blindly and may be either. Of the bodies that
start long work, few are good and none is noise.
"""

import contextlib
import json
import secrets
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import typer

from benchmarks.decision_service import Running, decision_service
from benchmarks.decision_world import BUNDLE, FEATURES, filled
from benchmarks.fuzz_serving_bodies import KINDS, PASSWORD, USER
from benchmarks.fuzzing import BAD, GOOD, NOISE, Draw, command, judge, made
from serving.keys import new_key, password_hash

KEYS = (
    "bodies", "bad", "crashes", "server_errors", "accepted", "refused", "accepted_invalid",
    "refused_valid", "refused_without_reason", "jobs",
)  # fmt: skip
PATHS = {
    "decision": "/api/predict-with-qos", "plain": "/api/predict", "batch": "/api/predict/batch",
    "later": "/api/predict-async", "infer": "/v2/models/{model}/infer",
    "infer_bytes": "/v2/models/{model}/versions/{version}/infer", "feedback": "/api/feedback",
    "qos_feedback": "/api/qos-feedback", "train": "/api/train", "train_later": "/api/train-async",
    "collect": "/api/collect-data", "swap": "/api/models/live", "login": "/api/login",
    "refresh": "/api/refresh", "breaker": "/api/circuit-breakers/store/reset",
}  # fmt: skip
WEIGHTS = {"decision": 12, "plain": 6, "batch": 4, "later": 4, "infer": 6, "infer_bytes": 3,
           "feedback": 4, "qos_feedback": 4, "train": 2, "train_later": 2, "collect": 2}  # fmt: skip
MOST_GOOD = {"train": 1, "train_later": 1, "collect": 2, "swap": 3, "login": 100}
OF_JOBS = ("train", "train_later", "collect")
JSON = "application/json"
NO_MEDIA = ("text/plain", "application/xml", "application/x-www-form-urlencoded", "json",
            "application/json; charset=utf-16", "multipart/form-data")  # fmt: skip
HEADER = "inference-header-content-length"


@dataclass(frozen=True)
class Sent:
    """A request of a kind, and what it is worth."""

    kind: str
    worth: str
    body: bytes
    headers: dict[str, str]


def fuzz(
    payloads: int, seed: int = 0, features: Path = FEATURES, bundle: Path = BUNDLE
) -> dict[str, Any]:
    """bodies; bad: known to be so; crashes: no answer; server_errors: 500 and more; accepted, refused;
    accepted_invalid, refused_valid: against what each is known to be; refused_without_reason: no
    problem that says what and where; jobs: begun; seconds."""
    counts: Counter[str] = Counter()
    with service(features, bundle) as (client, server):
        live = client.get("/api/models/live").raise_for_status().json()["model"]
        model = {"model": live["name"], "version": live["version"]}
        began = time.monotonic()
        for sent in islice(requests(Draw(seed)), payloads):
            counts["bodies"] += 1
            counts["bad"] += sent.worth == BAD
            path = PATHS[sent.kind].format(**model)
            try:
                reply = client.post(path, content=sent.body, headers=sent.headers)
            except httpx.TransportError as error:
                counts["crashes"] += 1
                print(f"{path} {sent.worth}: {type(error).__name__}: {sent.body[:200]!r}")
                if server.ended():
                    break
                continue
            _count(counts, sent, reply)
        counts["crashes"] += server.ended()
        seconds = round(time.monotonic() - began, 1)
    return {key: counts[key] for key in KEYS} | {"seconds": seconds}


def _count(counts: Counter[str], sent: Sent, reply: httpx.Response) -> None:
    status = reply.status_code
    accepted = status < 300
    counts["accepted"] += accepted
    counts["jobs"] += sent.kind in OF_JOBS and accepted
    # a job that must wait its turn, or whose few rows are not enough, is answered as it should be
    answered = accepted or (sent.kind in OF_JOBS and (status == 429 or '"job":' in reply.text))
    worth = sent.worth if accepted or not answered else NOISE
    wrong = judge(counts, worth, accepted, status)
    unsaid = not accepted and not _says_why(reply)
    counts["refused_without_reason"] += unsaid
    if wrong or unsaid:
        print(f"{sent.kind} {sent.worth}: {status}: {sent.body[:300]!r} {reply.text[:300]}")


def _says_why(reply: httpx.Response) -> bool:
    try:
        told = reply.json()
    except ValueError:
        return False
    if reply.headers["content-type"] == "application/problem+json":
        return bool(told["status"] == reply.status_code and told["detail"] and told["errors"])
    return bool(reply.headers["content-type"] == JSON and told.get("error"))


@contextlib.contextmanager
def service(features: Path, bundle: Path) -> Iterator[tuple[httpx.Client, Running]]:
    """A client with every role of a service on those features and that model."""
    users = {USER: {"roles": ["predict"], "password": password_hash(PASSWORD)}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        environment = {
            "ML_AUTH": "on", "ML_USERS": json.dumps(users), "JWT_SECRET_KEY": secrets.token_hex(32),
            "RATELIMIT_ENABLED": "false", "ASYNC_MODEL_QUEUE_SIZE": "0", "ML_MAX_PENDING": "1000000",
            "NEF_API_URL": "http://127.0.0.1:9", "ML_BREAKER_NEF_FAILURES": "1000",
            "ML_STORE_SECONDS": "5", "ML_LOG_LEVEL": "error", "ML_ANSWER_SECONDS": "60",
            "ML_REGISTRY_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "QOS_PSEUDONYM_KEY": "a key of this benchmark",
        }  # fmt: skip
        repo = filled(folder, features, "embedded")
        with (
            decision_service(repo, str(bundle), environment, "embedded") as server,
            httpx.Client(
                base_url=server.url, timeout=150, trust_env=False, headers=dict(server.headers)
            ) as client,
        ):
            yield client, server


def requests(draw: Draw) -> Iterator[Sent]:
    """Without end; what starts long work only as often as `MOST_GOOD`."""
    good: Counter[str] = Counter()
    for kind, worth, body in made(draw, KINDS, WEIGHTS):
        if worth != BAD and kind in MOST_GOOD:
            if worth == NOISE or good[kind] >= MOST_GOOD[kind]:
                continue
            good[kind] += 1
        headers = {"content-type": JSON}
        if kind == "infer_bytes":
            headers = {"content-type": "application/octet-stream", HEADER: str(len(body))}
            body += struct.pack("<2d", -91.5, -100.0)
        if kind == "refresh":  # it takes none but its own tokens, each once
            worth = BAD
        elif worth == GOOD and draw.random() < 0.1:
            worth, headers, body = _spoiled(draw, kind, headers, body)
        yield Sent(kind, worth, body, headers)


def _spoiled(
    draw: Draw, kind: str, headers: dict[str, str], body: bytes
) -> tuple[str, dict[str, str], bytes]:
    """A good request made bad by what is around its content."""
    ways = ["media", "encoding"]
    ways += [] if kind in ("login", "refresh") else ["key"]
    ways += [] if kind == "breaker" else ["tail", "length"]
    match draw.choice(ways):
        case "media":
            return BAD, headers | {"content-type": draw.choice(NO_MEDIA)}, body
        case "encoding":
            return BAD, headers | {"content-encoding": draw.choice(("gzip", "br", "x"))}, body
        case "tail":
            return BAD, headers, body + b"\xff"
        case "length":
            return BAD, headers, body + b" " * (1 << 20) + b"}"
        case _:
            return BAD, headers | {"x-api-key": draw.choice((new_key(), "x", ""))}, body


main = command("fuzz_serving", fuzz)

if __name__ == "__main__":
    typer.run(main)
