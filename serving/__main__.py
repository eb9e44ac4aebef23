"""`python -m serving`: runs the decision service; docs/settings.md has its environment."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from schemas.errors import QosError
from serving.settings import read_settings

_SWITCH_S = 0.0005  # of the interpreter's lock: no thread that computes holds up an answer


def main(
    model: Annotated[
        str | None, typer.Option(help="A bundle's folder, name@alias or name/version (ML_MODEL).")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Of the feature store: embedded or redis (ML_PROFILE).")
    ] = None,
    repo: Annotated[
        Path | None, typer.Option(help="Folder that the store's places start from (ML_REPO).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of decisions, outcomes and jobs (ML_DATA).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (ML_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free one (ML_PORT).")] = None,
) -> None:
    """Answers until it is stopped; says in one line why it cannot start."""
    given = {
        "model": model, "profile": profile, "repo": repo, "data": data, "host": host, "port": port,
    }  # fmt: skip
    try:
        settings = read_settings(**{name: one for name, one in given.items() if one is not None})
        with Console(stderr=True).status("loading the model and opening the store"):
            from serving.ending import Server
            from serving.service import service_app

            app = service_app(settings)
    except QosError as error:
        sys.exit(str(error))
    version = app.state.service.live.version
    print(
        f"model {version}, store {settings.profile}\n"
        f"POST http://{settings.host}:{settings.port}/api/predict-with-qos; also /docs, /health/ready "
        "and /metrics; Ctrl-C ends",
        file=sys.stderr,
    )
    sys.setswitchinterval(_SWITCH_S)
    Server(
        app, settings.shutdown_s, host=settings.host, port=settings.port, http="httptools",
        loop="uvloop", access_log=False, log_config=None, proxy_headers=False, server_header=False,
    ).run()  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
