"""Decisions that are asked for now and fetched later."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

KEPT_S = 600.0


@dataclass
class Job:
    """until: when it is forgotten, monotonic seconds."""

    until: float
    status: Literal["pending", "done", "failed"] = "pending"
    result: dict[str, Any] | None = None


class Pending:
    """Jobs by id, the oldest first; used from one event loop."""

    def __init__(self, kept_s: float = KEPT_S) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._kept_s = kept_s
        self._open = 0

    def open(self, most: int) -> str | None:
        """A new job's id; None where `most` are pending."""
        self._forget(most)
        if self._open >= most:
            return None
        self._open += 1
        job = secrets.token_hex(16)
        self._jobs[job] = Job(time.monotonic() + self._kept_s)
        return job

    def done(self, job: str, result: dict[str, Any]) -> None:
        """Its answer is there."""
        self._end(job, "done", result)

    def failed(self, job: str) -> None:
        """It has no answer."""
        self._end(job, "failed", None)

    def look(self, job: str) -> Job | None:
        """The job; None if there is none of that id, or no longer."""
        found = self._jobs.get(job)
        return found if found is not None and found.until > time.monotonic() else None

    def _end(
        self, job: str, status: Literal["done", "failed"], result: dict[str, Any] | None
    ) -> None:
        self._open -= 1
        if (found := self._jobs.get(job)) is not None:
            found.status, found.result = status, result

    def _forget(self, most: int) -> None:
        now = time.monotonic()
        while self._jobs and (
            next(iter(self._jobs.values())).until < now or len(self._jobs) > 10 * most
        ):
            self._jobs.popitem(last=False)
