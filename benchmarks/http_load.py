"""A load generator of HTTP POSTs over keep-alive connections, in a process of its own.

    python -m benchmarks.http_load <spec.json>

The spec: url, bodies (a list, sent in turn), headers (if any), connections, requests, seconds. Prints
one line of JSON:
requests, errors (another status than 200, a broken connection), seconds, latencies' quantiles in ms.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import numpy as np
import uvloop


class Load:
    """What all connections share: how many requests are still to send, and what came back."""

    def __init__(self, requests: list[bytes], count: int, seconds: float):
        self.requests, self.left, self.count = requests, count, count
        self.deadline = time.perf_counter() + seconds
        self.took: list[float] = []
        self.errors = 0

    def next(self) -> bytes | None:
        """The next request, None when count or time are used up."""
        if self.left <= 0 or time.perf_counter() > self.deadline:
            return None
        self.left -= 1
        return self.requests[self.left % len(self.requests)]


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, load: Load):
        self.load, self.done = load, asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.sent = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        request = self.load.next()
        if request is None:
            self.sent = 0.0
            self.transport.close()
            return
        self.parser = httptools.HttpResponseParser(self)
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """An answer is whole (called by the parser)."""
        self.load.took.append(time.perf_counter() - self.sent)
        if self.parser.get_status_code() != 200:
            self.load.errors += 1
        asyncio.get_running_loop().call_soon(self._send)

    def connection_lost(self, why: Exception | None) -> None:
        if self.sent:
            self.load.errors += 1
        if not self.done.done():
            self.done.set_result(None)


async def send(spec: dict[str, Any]) -> dict[str, Any]:
    """Sends what the spec says; see the module's docstring."""
    place = urlsplit(spec["url"])
    assert place.hostname and place.port
    requests = posts(spec)
    load = Load(requests, spec["requests"], spec["seconds"])
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: Connection(load), place.hostname, place.port)
        for _ in range(spec["connections"])
    ]
    await asyncio.gather(*(connection.done for _, connection in opened))
    seconds = time.perf_counter() - start
    p50, p99 = np.percentile(load.took, [50, 99]).tolist() if load.took else (0.0, 0.0)
    return {
        "requests": len(load.took),
        "errors": load.errors,
        "seconds": seconds,
        "p50_ms": p50 * 1000,
        "p99_ms": p99 * 1000,
    }


def posts(spec: dict[str, Any]) -> list[bytes]:
    """The requests of a spec as they go over the wire."""
    place = urlsplit(spec["url"])
    kept = {"Host": place.netloc, "Content-Type": "application/json"} | spec.get("headers", {})
    head = f"POST {place.path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in kept.items())
    bodies = [text.encode() for text in spec["bodies"]]
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


if __name__ == "__main__":
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(uvloop.run(send(spec))))
