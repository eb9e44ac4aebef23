"""HTTP POSTs at a steady offered rate, whether or not the server keeps up, in a process of its own.

    python -m benchmarks.paced_load <spec.json>

The spec: url, bodies (a list, sent in turn), headers (if any), connections (at most), rate (requests a
second), seconds; answers: a file, if any, for what came back, one JSON list a line and request: number of
its body, when it was due (s since 1970), ms, status, what the answer said.
A latency counts from when a request was due, so a server that stalls is not spared the requests that
it kept waiting. Prints one line of JSON: requests, errors, seconds, p50_ms, p99_ms, max_ms.
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import numpy as np
import uvloop

from benchmarks.http_load import posts

GRACE_S = 10.0


class Line(asyncio.Protocol):
    """One kept connection, with at most one request under way."""

    def __init__(self, load: "Paced") -> None:
        self.load, self.due, self.busy = load, 0.0, False
        self.number, self.parts = 0, [b""]
        self.transport: Any = None
        self.parser: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes, due: float, number: int) -> None:
        """Sends a request that was due at this time of the clock; number: of its body."""
        self.due, self.busy, self.number, self.parts = due, True, number, []
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A part of an answer (called by the parser)."""
        self.parts.append(body)

    def on_message_complete(self) -> None:
        """An answer is whole (called by the parser)."""
        self.busy = False
        self.load.answered(self, self.parser.get_status_code())

    def connection_lost(self, why: Exception | None) -> None:
        if self.busy:
            self.load.errors += 1


class Paced:
    """The requests that wait, and what came back."""

    def __init__(self, requests: list[bytes]) -> None:
        self.requests, self.sent = requests, 0
        self.free: deque[Line] = deque()
        self.waiting: deque[float] = deque()
        self.took: list[float] = []
        self.errors = 0
        self.kept: list[tuple[int, float, float, int, bytes]] | None = None

    def due(self, now: float) -> None:
        """A request is to be sent now, or as soon as a connection is free."""
        self.waiting.append(now)
        self._send()

    def answered(self, line: Line, status: int) -> None:
        """An answer came."""
        self.took.append(time.perf_counter() - line.due)
        self.errors += status != 200
        if self.kept is not None:
            body = b"".join(line.parts)
            self.kept.append((line.number, line.due, self.took[-1] * 1e3, status, body))
        self.free.append(line)
        self._send()

    def _send(self) -> None:
        while self.waiting and self.free:
            line = self.free.popleft()
            number = self.sent % len(self.requests)
            line.send(self.requests[number], self.waiting.popleft(), number)
            self.sent += 1


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Offers the load of a spec; what came back."""
    place = urlsplit(spec["url"])
    load = Paced(posts(spec))
    load.kept = [] if "answers" in spec else None
    loop = asyncio.get_running_loop()
    for _ in range(spec["connections"]):
        _, line = await loop.create_connection(lambda: Line(load), place.hostname, place.port)
        load.free.append(line)
    lines = list(load.free)
    count, gap = round(spec["rate"] * spec["seconds"]), 1 / spec["rate"]
    start = time.perf_counter()
    for number in range(count):
        due = start + number * gap
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        load.due(due)
    deadline = time.perf_counter() + GRACE_S
    while len(load.took) + load.errors < count and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    for line in lines:
        line.transport.close()
    if load.kept is not None:
        _write(Path(spec["answers"]), load.kept)
    took = np.array(load.took or [np.nan]) * 1e3
    return {
        "requests": count,
        "errors": load.errors + count - len(load.took),
        "seconds": time.perf_counter() - start,
        "p50_ms": float(np.quantile(took, 0.5)),
        "p99_ms": float(np.quantile(took, 0.99)),
        "max_ms": float(took.max()),
    }


def _write(path: Path, kept: list[tuple[int, float, float, int, bytes]]) -> None:
    since = time.time() - time.perf_counter()
    with path.open("wb") as file:
        for number, due, ms, status, body in kept:
            said = body if body[:1] == b"{" else b"null"
            file.write(b"[%d,%.6f,%.3f,%d,%b]\n" % (number, due + since, ms, status, said))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))
