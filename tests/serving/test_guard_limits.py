"""Bounds of requests, over real HTTP where it matters: length, kind, time, requests under way."""

import asyncio
import concurrent.futures
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.limits import Bounds, Limits
from tests.serving.guard_kit import Guarded, app_of, client_of, secured, series, settings_with

PATH = "/api/predict-with-qos"
MOST = 4096


@pytest.fixture(scope="module")
def made() -> Guarded:
    return app_of(
        settings_with(
            auth="off", max_body_bytes=MOST, max_samples_bytes=2 * MOST, body_s=0.5, answer_s=0.5,
            most_in_flight=4,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(made: Guarded) -> Iterator[httpx.Client]:
    with client_of(made) as client:
        yield client


def body_of(length: int) -> bytes:
    return b'"' + b"a" * (length - 2) + b'"'


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("path", "most"), [(PATH, MOST), ("/api/train", 2 * MOST), ("/api/feedback", 2 * MOST)]
)
def test_a_body_is_read_up_to_its_bound_and_refused_past_it(
    client: httpx.Client, path: str, most: int, chunked: bool
) -> None:
    def ask(length: int) -> httpx.Response:
        body = body_of(length)
        parts = (body[at : at + 1000] for at in range(0, length, 1000))
        headers = {"content-type": "application/json"}
        return client.post(path, content=parts if chunked else body, headers=headers)

    assert ask(most).json() == {"bytes": most}
    refused = ask(most + 1)
    assert refused.status_code == 413
    assert str(most) in refused.json()["detail"]
    assert ask(10).status_code == 200


def test_a_body_of_fifty_megabytes_is_refused_before_it_is_read(client: httpx.Client) -> None:
    port = client.base_url.port
    assert port is not None
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {50 << 20}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 5) as line:
        line.sendall(head.encode() + b"{")
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_trickles_in_is_refused_in_time(client: httpx.Client) -> None:
    port = client.base_url.port
    assert port is not None
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100"
    )
    with socket.create_connection(("127.0.0.1", port), 5) as line:
        line.sendall(head.encode() + b"\r\n\r\n{")
        began = time.monotonic()
        assert line.recv(4096).startswith(b"HTTP/1.1 408")
        assert 0.4 < time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 200),
        ({"content-type": "Application/JSON; charset=UTF-8"}, 200),
        ({"content-type": 'application/json;charset="utf-8"'}, 200),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=a"}, 415),
        ({"content-type": "application/octet-stream"}, 415),
        ({}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
    ],
)
def test_only_json_is_read(client: httpx.Client, headers: dict[str, str], status: int) -> None:
    answer = client.post(PATH, content=b"{}", headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_post_without_a_body_needs_no_kind(client: httpx.Client) -> None:
    assert client.post(PATH).json() == {"bytes": 0}


def test_an_answer_that_takes_too_long_is_given_up(client: httpx.Client) -> None:
    began = time.monotonic()
    answer = client.get("/api/slow")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert 0.4 < time.monotonic() - began < 3


def test_requests_past_those_under_way_are_refused_and_probes_are_not(client: httpx.Client) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(client.get, "/api/slow") for _ in range(4)]
        time.sleep(0.2)
        refused = client.post(PATH, json={})
        assert refused.status_code == 503
        assert "under way" in refused.json()["detail"]
        assert client.get("/health/live").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert {one.result().status_code for one in slow} == {503}
    assert client.post(PATH, json={}).status_code == 200


def test_a_client_that_goes_away_leaves_nothing_under_way(
    made: Guarded, client: httpx.Client
) -> None:
    port = client.base_url.port
    assert port is not None
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", port), 5) as line:
            head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            line.sendall((head + "Content-Length: 100\r\n\r\n{").encode())
    time.sleep(0.7)
    assert client.post(PATH, json={}).status_code == 200


def test_what_is_refused_is_counted_with_its_route_bounded(client: httpx.Client) -> None:
    start = 'ml_http_request_duration_seconds_count{method="POST",route="other",status="4xx"}'
    before = series(client, start)
    client.post(PATH, content=b"{}", headers={"content-type": "text/plain"})
    assert series(client, start) == before + 1


def calls(bounds: Bounds, bodies: list[list[bytes]]) -> tuple[list[int], Limits]:
    """Statuses in the order of the bodies of requests that all send their parts but the last, and then
    wait for each other."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    limits, statuses = Limits(app, bounds), [0] * len(bodies)

    async def one(number: int, parts: list[bytes], sent: asyncio.Barrier) -> None:
        left = list(parts)

        async def receive() -> Message:
            if len(left) == 1:
                await sent.wait()
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses[number] = message["status"]

        headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": "/a", "headers": headers}
        await limits(scope, receive, send)

    async def all_() -> None:
        async with asyncio.timeout(10):
            sent = asyncio.Barrier(len(bodies))
            await asyncio.gather(*(one(at, parts, sent) for at, parts in enumerate(bodies)))

    asyncio.run(all_())
    return statuses, limits


def test_bodies_held_at_once_are_bounded_and_let_go() -> None:
    bounds = Bounds(body_bytes=100, held_bytes=250, small_bytes=30)
    statuses, limits = calls(bounds, [[b"a" * 60, b"b" * 40], [b"a" * 60, b"b" * 40]])
    assert statuses == [200, 200]
    statuses, limits = calls(bounds, [[b"a" * 60, b"b" * 40]] * 3)
    assert sorted(statuses) == [200, 200, 503]
    assert limits._held == 0
    assert limits._under_way == 0
    small = [[b"c" * 20, b"d" * 10]] * 5  # they come while the long ones fill what is held
    statuses, limits = calls(bounds, [[b"a" * 60, b"b" * 40]] * 3 + small)
    assert statuses[3:] == [200] * 5 and 503 in statuses[:3] and limits._held == 0


def test_an_app_of_its_own_time_out_is_no_503() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("its own")

    async def ask() -> None:
        async def nothing(*_: object) -> Message:
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "GET", "path": "/a", "headers": []}
        await Limits(app, Bounds())(scope, nothing, nothing)  # type: ignore[arg-type]

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(ask())


def test_errors_of_all_kinds_are_problems() -> None:
    with client_of(app_of(secured())) as client:
        for answer in (
            client.get("/nowhere"),
            client.get(PATH),
            client.post(PATH, json={}),
            client.post("/api/login", content=b"{", headers={"content-type": "application/json"}),
            client.post("/api/login", json={}),
        ):
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            told = answer.json()
            assert set(told) == {"type", "title", "status", "detail", "errors"}
            assert told["status"] == answer.status_code
        assert client.get("/docs").status_code == 200
        shown = client.get("/openapi.json").json()
        assert set(shown["components"]["securitySchemes"]) == {"key", "token"}
        assert shown["paths"][PATH]["post"]["security"] == [{"key": []}, {"token": []}]
        assert "security" not in shown["paths"]["/api/login"]["post"]
