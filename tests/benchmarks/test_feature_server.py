"""The feature server's benchmark in its smallest form, and its load generator."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.feature_server import main
from benchmarks.http_load import send
from tests.served import served


def test_both_servers_are_measured_and_agree(tmp_path: Path) -> None:
    main(requests=60, feast_requests=20, entities=3, connections=2, seconds=60, out=tmp_path)
    found = json.loads((tmp_path / "feature_server.json").read_text(encoding="utf-8"))
    assert {"ours_rps", "feast_rps", "speedup", "ours_p50_ms", "feast_p50_ms"} <= found.keys()
    assert (found["requests"], found["feast_requests"]) == (60, 20)
    assert (found["errors"], found["feast_errors"]) == (0, 0)
    assert found["speedup"] == pytest.approx(found["ours_rps"] / found["feast_rps"], abs=0.1)


class Flaky:
    """Answers 500 to every fifth request."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.asked.append((await receive())["body"])
        status = 500 if len(self.asked) % 5 == 0 else 200
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


def spec(url: str, **changed: Any) -> dict[str, Any]:
    plain = {"bodies": ["one", "three"], "connections": 3, "requests": 50, "seconds": 30}
    return plain | {"url": f"{url}/path"} | changed


def test_the_load_generator_sends_all_and_counts_errors() -> None:
    app = Flaky()
    with served(app) as url:
        found = asyncio.run(send(spec(url)))
    assert (found["requests"], found["errors"]) == (50, 10)
    assert (app.asked.count(b"one"), app.asked.count(b"three")) == (25, 25)
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["seconds"] * 1000


def test_the_load_generator_ends_in_time() -> None:
    with served(Flaky()) as url:
        found = asyncio.run(send(spec(url, requests=10**9, seconds=0.3)))
    assert 0 < found["requests"] < 10**9
    assert found["seconds"] < 5


def test_a_broken_connection_is_an_error() -> None:
    async def broken() -> dict[str, Any]:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await send(spec(f"http://127.0.0.1:{port}"))

    found = asyncio.run(broken())
    assert (found["requests"], found["errors"]) == (0, 3)
