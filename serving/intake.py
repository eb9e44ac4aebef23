"""Samples on their way to a job: read by a process of their own, so that answers do not wait for them."""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from serving.problems import Problem
from serving.processes import make_modest

_MOST_WAITING = 4
_SECONDS = 120.0

_WAITED_FOR = 10  # niceness, at most, of what an answer waits for


@dataclass
class Intake:
    """One at a time; as many wait as `_MOST_WAITING`."""

    niceness: int = 10
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    _waiting: int = 0

    async def read(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        """What `serving.samples.read` says of a body. Raises Problem: 400 or 422 with the faults, 429
        where too many wait, 503 where the process broke off."""
        if self._waiting >= _MOST_WAITING:
            raise Problem(429, [("samples", "too many are being read")], {"Retry-After": "5"})
        self._waiting += 1
        try:
            async with self._free:
                found, frame = await self._process(body)
        finally:
            self._waiting -= 1
        if found["status"] != 200:
            raise Problem(found["status"], [(place, why) for place, why in found["faults"]])
        return found, frame

    async def _process(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serving.samples", stdin=-1, stdout=-1, stderr=-3
        )
        make_modest(process.pid, min(self.niceness, _WAITED_FOR))
        try:
            out, _ = await asyncio.wait_for(process.communicate(body), _SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        head, _, frame = out.partition(b"\n")
        if process.returncode or not head:
            raise Problem(503, [("samples", "they could not be read")], {"Retry-After": "5"})
        found: dict[str, Any] = json.loads(head)
        return found, frame
