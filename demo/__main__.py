"""`python -m demo`: a network, its stream of features and the decision service, live for a minute."""

import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from demo.children import Children
from demo.line import Line, listening
from demo.minute import Minute
from demo.parts import Parts, places
from demo.show import Screen, summary
from schemas.errors import QosError


def main(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="that it runs")] = 60.0,
    model: Annotated[
        str, typer.Option(help="a bundle's folder, name@alias or name/version")
    ] = "qos@champion",
    ues: Annotated[int, typer.Option(min=1, max=500, help="UEs of the network")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="of the network")] = 1,
) -> None:
    """Runs a simulated network, a Redis, the stream and the decision service, and shows what is decided.

    All on loopback and in a temporary folder; nothing is left behind. Ctrl-C ends everything.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="qos-demo-") as folder:
            run(console, Path(folder), seconds, model, ues, seed)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    except QosError as error:
        sys.exit(f"demo: {error}")


def run(console: Console, folder: Path, seconds: float, model: str, ues: int, seed: int) -> None:
    """One run in that folder. Raises `QosError` where a part does not start, or ends."""
    at = places(folder, model, ues, seed)
    with Screen(console, seconds) as screen, Children(folder) as children:
        parts = Parts(at, children, screen.part)
        parts.begin()
        parts.finish()
        line = Line(at)
        with listening(line), closing(Minute(at, line)) as minute:

            def watch(left: float) -> None:
                children.check()
                screen.second(minute.course, left)

            try:
                minute.run(seconds, watch)
            except QosError:
                children.check()  # a part that has died is the better reason
                raise
    console.print(summary(minute.course, seconds, model))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
