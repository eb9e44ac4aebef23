"""Serves the NEF: `python -m nef.server --help`."""

import ipaddress
import sys
from typing import Annotated, Any

import typer
import uvicorn

from nef.server import database
from nef.server.app import create_app
from nef.server.settings import read_settings
from schemas.errors import QosError


def serve(
    host: Annotated[str | None, typer.Option(help="address; 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port; 8080")] = None,
    ues: Annotated[int | None, typer.Option(help="UEs of a fresh city; 24")] = None,
    sites: Annotated[int | None, typer.Option(help="its sites of three cells; 4")] = None,
    seed: Annotated[int | None, typer.Option(help="its seed; 1")] = None,
    speed: Annotated[
        float | None, typer.Option(help="simulated seconds a second, 0 to 1000; 1")
    ] = None,
) -> None:
    """A NEF over a simulated network: AsSessionWithQoS, MonitoringEvent, inventory, handovers.

    Everything else is set by the environment, NEF_SERVER_PASSWORD, NEF_SERVER_DATABASE_URL,
    NEF_SERVER_DECISION_URL, NEF_SERVER_DECISION_KEY and ML_HANDOVER_ENABLED among it. The city of a
    database that has one already is taken up again.
    """
    given = {"host": host, "port": port, "ues": ues, "sites": sites, "seed": seed, "speed": speed}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = read_settings(**changes)
    if settings.profile == "development" and not _loopback(settings.host):
        raise QosError(
            f"host: {settings.host!r} is no loopback address; it needs NEF_SERVER_PROFILE=production"
        )
    database.connect(settings.database_url.get_secret_value()).dispose()
    application = create_app(settings)
    typer.echo(f"NEF: http://{settings.host}:{settings.port}, documented at /docs; Ctrl-C ends it")
    uvicorn.run(
        application, host=settings.host, port=settings.port, log_level="warning",
        access_log=False, server_header=False, limit_concurrency=512, h11_max_incomplete_event_size=65536,
    )  # fmt: skip


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """The command; a fault in what was given is one line."""
    try:
        typer.run(serve)
    except QosError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
