"""`python -m serving`: runs the decision service on a loopback port."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from schemas.errors import QosError
from serving.app import create_app
from serving.state import CoreSettings

LOOPBACK = "127.0.0.1"


def main(
    model: Annotated[
        str, typer.Option(help="Folder of a bundle, or name@alias or name/version.")
    ] = "qos@champion",
    profile: Annotated[str, typer.Option(help="Of the feature store.")] = "embedded",
    repo: Annotated[
        Path | None, typer.Option(help="Folder that the store's places start from.")
    ] = None,
    port: Annotated[int, typer.Option(help="0: any free one.")] = 5050,
) -> None:
    """Answers until it is stopped; says in one line why it cannot start."""
    try:
        app = create_app(CoreSettings(model=model, profile=profile, repo=repo))
    except QosError as error:
        sys.exit(str(error))
    uvicorn.run(
        app, host=LOOPBACK, port=port, http="httptools", loop="uvloop", access_log=False,
        log_level="warning", timeout_graceful_shutdown=10,
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
