"""Notifications on their way out: in order, bounded in time and number, gone with their subscription."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from nef.server.metrics import Metrics

ATTEMPTS = 3
PAUSE_S = 0.2
MAX_URL = 2048


def url_fault(url: str, hosts: Collection[str] = ()) -> str | None:
    """Why notifications cannot go to a URL; None if they can. hosts: those allowed, empty: all."""
    if len(url) > MAX_URL:
        return f"{len(url)} characters, at most {MAX_URL} are allowed"
    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        host, _ = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL):
        return "no URL"
    if parts.scheme not in ("http", "https") or not host or parsed.host == "":
        return "must be an http or https URL with a host"
    if parts.username is not None or parts.password is not None:
        return "must not bear a user or a password"
    if hosts and host not in hosts:
        return "its host is not among those that notifications may go to"
    return None


@dataclass
class _Line:
    url: str
    waiting: deque[dict[str, Any]]
    task: asyncio.Task[None] | None = None
    over: bool = False


@dataclass
class Callbacks:
    """One line of waiting notifications for each subscription; a full one loses its oldest."""

    metrics: Metrics
    timeout_s: float = 3.0
    concurrency: int = 32
    queue: int = 64
    lines: dict[str, _Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing is sent before the first notification."""
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=8)
        self._client = httpx.AsyncClient(
            timeout=self.timeout_s, limits=limits, follow_redirects=False, trust_env=False
        )
        self._room = asyncio.Semaphore(self.concurrency)

    def send(self, key: str, url: str, content: dict[str, Any]) -> None:
        """Puts a notification into its subscription's line; returns at once."""
        line = self.lines.setdefault(key, _Line(url, deque()))
        line.url = url
        if len(line.waiting) >= self.queue:
            line.waiting.popleft()
            self.metrics.notifications.labels("dropped").inc()
        line.waiting.append(content)
        if line.task is None or line.task.done():
            line.task = asyncio.create_task(self._drain(key, line))

    def stop(self, key: str) -> None:
        """Sends nothing more for a subscription: what waits is dropped, what is under way is cut off."""
        line = self.lines.pop(key, None)
        if line is not None:
            self.metrics.notifications.labels("cancelled").inc(len(line.waiting))
            line.waiting.clear()
            if line.task is not None:
                line.task.cancel()

    def finish(self, key: str) -> None:
        """Forgets a line as soon as it is empty: its subscription has ended by itself."""
        line = self.lines.get(key)
        if line is not None:
            line.over = True
            if line.task is None or line.task.done():
                self.lines.pop(key, None)

    async def _drain(self, key: str, line: _Line) -> None:
        while line.waiting:
            async with self._room:
                content = line.waiting.popleft()
                outcome = await self._deliver(line.url, content)
            self.metrics.notifications.labels(outcome).inc()
        if line.over and self.lines.get(key) is line:
            self.lines.pop(key)

    async def _deliver(self, url: str, content: dict[str, Any]) -> str:
        outcome = "failed"
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(PAUSE_S * attempt)
            try:
                async with asyncio.timeout(self.timeout_s):
                    async with self._client.stream("POST", url, json=content) as reply:
                        status = reply.status_code  # its body is of no interest
            except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError):
                outcome = "failed"
                continue
            if status < 300:
                return "delivered"
            outcome = "refused"
            if status < 500 and status != 429:
                return outcome
        return outcome

    async def close(self) -> None:
        """Cuts everything off."""
        tasks = [line.task for line in self.lines.values() if line.task is not None]
        for key in list(self.lines):
            self.stop(key)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._client.aclose()
