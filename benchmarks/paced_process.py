"""The paced load generator beside what is done to a service meanwhile, and every answer afterwards."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.decision_service import Running

PATH = "/api/predict-with-qos"
_CONNECTIONS = 64


@dataclass(frozen=True)
class Answer:
    """number: of the request's body; due: seconds since 1970; ms: from then on; said: None, no JSON."""

    number: int
    due: float
    ms: float
    status: int
    said: dict[str, Any] | None


@dataclass
class Offered:
    """requests: sent; lost: without an answer; answers: in the order they came. Empty until the end."""

    requests: int = 0
    lost: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def server_errors(self) -> int:
        """Answers of 500 and above, and requests without one."""
        return self.lost + sum(one.status >= 500 for one in self.answers)


@contextmanager
def offered(
    folder: Path, service: Running, asked: Sequence[dict[str, Any]], rate: float, seconds: float
) -> Iterator[Offered]:
    """Requests at that rate [1/s] from now on; at the end of the block all have been answered."""
    answers = folder / "answers.ndjson"
    spec = {
        "url": service.url + PATH, "bodies": [json.dumps(one) for one in asked],
        "headers": dict(service.headers), "connections": _CONNECTIONS, "rate": rate,
        "seconds": seconds, "answers": str(answers),
    }  # fmt: skip
    path = folder / "paced.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    found = Offered()
    command = [sys.executable, "-m", "benchmarks.paced_load", str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as generator:
        try:
            yield found
            told, why = generator.communicate(timeout=seconds + 60)
        except BaseException:
            generator.kill()
            raise
    if generator.returncode:
        sys.exit(f"load generator: {why.strip().splitlines()[-1]}")
    found.requests = json.loads(told)["requests"]
    with answers.open("rb") as file:
        found.answers += (Answer(*json.loads(line)) for line in file)
    found.lost = found.requests - len(found.answers)
