"""An HTTP feature server that Feast's clients take for Feast's own.

    python -m stores.server --repo feature_repo --profile-file feature_store.yaml --port 6566

POST /get-online-features (Feast's JSON), GET /health, GET /metrics (Prometheus). This module only starts
the processes; `stores.server_app` is what they run.
"""

import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

SETTINGS = "FEATURE_SERVER_SETTINGS"  # from the first process to the others


@dataclass(frozen=True)
class Limits:
    """What one server takes. Times in seconds; refresh_s: between two looks at the registry."""

    max_body_bytes: int = 4_000_000
    max_rows: int = 10_000
    body_s: float = 10.0
    answer_s: float = 10.0
    health_s: float = 2.0
    refresh_s: float = 10.0
    kept_reads: int = 64


def main(
    repo: Annotated[Path, typer.Option(help="folder of the definitions")] = Path("feature_repo"),
    profile_file: Annotated[str, typer.Option(help="profile, from the folder")] = (
        "feature_store.yaml"
    ),
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 6566,
    workers: Annotated[int, typer.Option(help="processes")] = 1,
    access_log: Annotated[bool, typer.Option(help="log each request")] = False,
    max_body_bytes: Annotated[int, typer.Option(help="of one request")] = Limits.max_body_bytes,
    max_rows: Annotated[int, typer.Option(help="entities in one request")] = Limits.max_rows,
    refresh_s: Annotated[float, typer.Option(help="between looks at the registry")] = (
        Limits.refresh_s
    ),
    max_connections: Annotated[int, typer.Option(help="at once, each process")] = 1_000,
) -> None:
    """Serves online features until it is told to stop, and then finishes what it began."""
    limits = Limits(max_body_bytes=max_body_bytes, max_rows=max_rows, refresh_s=refresh_s)
    place = {"repo": str(repo), "profile_file": profile_file, "workers": workers}
    settings = asdict(limits) | place
    os.environ[SETTINGS] = json.dumps(settings)
    typer.echo(
        f"POST http://{host}:{port}/get-online-features; also /health and /metrics; Ctrl-C ends"
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # after uvicorn's own, orderly end
    with tempfile.TemporaryDirectory(prefix="feature_server_") as counts:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts  # where workers count together
        uvicorn.run(
            "stores.server_app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http="httptools",
            ws="none",
            access_log=access_log,
            server_header=False,
            proxy_headers=False,
            log_level="info" if access_log else "warning",
            limit_concurrency=max_connections,
            timeout_graceful_shutdown=10,
            timeout_worker_healthcheck=120,
        )


if __name__ == "__main__":
    typer.run(main)
