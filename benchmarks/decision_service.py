"""The decision service in a process of its own, as benchmarks ask it: with a key of every role."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.feature_server import free_port, running
from serving.keys import key_hash, new_key
from serving.security import KEY_HEADER


@dataclass(frozen=True)
class Running:
    """url: of its root; headers: what a request must bear; process: the server's."""

    url: str
    headers: Mapping[str, str]
    process: psutil.Process

    def ended(self) -> bool:
        """Whether the server runs no more."""
        return not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE


@contextlib.contextmanager
def decision_service(
    repo: Path, model: str, environment: Mapping[str, str] = {}, profile: str = "redis"
) -> Iterator[Running]:
    """From when its port answers to the end of the block. Exits when it does not start.

    repo: folder of a filled store; model: a bundle's folder or a name in the registry. Keys are asked
    for and rates counted as in production, only the rates are too high to refuse.
    """
    port, key = free_port(), new_key()
    command = [
        *(sys.executable, "-m", "serving", "--model", model, "--profile", profile),
        *("--repo", str(repo), "--data", str(repo / "served"), "--port", str(port)),
    ]
    secured = {
        "ML_API_KEYS": json.dumps({"bench": {"roles": ["admin"], "sha256": key_hash(key)}}),
        "RATELIMIT_PREDICT": "1000000000/minute",
    }
    with running(command, port, 120, {**secured, **environment}) as process:
        yield Running(f"http://127.0.0.1:{port}", {KEY_HEADER: key}, process)
