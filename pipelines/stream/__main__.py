"""Consumes the stream until it is stopped: `python -m pipelines.stream --help`."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated

os.environ.setdefault(
    "POLARS_MAX_THREADS", "1"
)  # parts are small: threads cost more than they give

import typer
from prometheus_client import start_http_server
from redis.exceptions import RedisError

from feature_repo.store import PROFILES, REPO, apply, open_store
from nef.stream.transport import GROUP, STREAM, Reader, connect
from pipelines.stream import checkpoint
from pipelines.stream.consumer import Consumer, Settings
from pipelines.stream.metrics import Metrics
from pipelines.stream.outage import Patience
from pipelines.stream.outputs import FEATURES, QUARANTINE, STATE, OnlineRows, prepare
from schemas.errors import QosError
from stores.counting import count_in_memory
from stores.errors import StoreError
from stores.source import append_rows


def consume(
    redis: Annotated[
        str, typer.Option(envvar="QOS_REDIS", help="host:port[,db=N][,password=…] of the stream")
    ] = "127.0.0.1:6379",
    stream: Annotated[str, typer.Option(help="key of the stream")] = STREAM,
    group: Annotated[str, typer.Option(help="consumer group")] = GROUP,
    profile: Annotated[str, typer.Option(help=f"feature store: {', '.join(PROFILES)}")] = "redis",
    repo: Annotated[Path, typer.Option(help="where relative places of the profile start")] = REPO,
    features: Annotated[Path, typer.Option(help="offline features, a folder a view")] = FEATURES,
    state: Annotated[Path, typer.Option(help="checkpoint and rows of the windows")] = STATE,
    quarantine: Annotated[Path, typer.Option(help="refused rows, with reasons")] = QUARANTINE,
    lateness_s: Annotated[
        float, typer.Option(help="a row that arrives longer after its event is refused")
    ] = 60.0,
    idle_s: Annotated[
        float, typer.Option(help="a producer silent for so long is not waited for")
    ] = 30.0,
    commit_s: Annotated[float, typer.Option(help="longest time between two commits")] = 5.0,
    patience_s: Annotated[
        float, typer.Option(help="longest outage of Redis that is waited for")
    ] = 60.0,
    compact_s: Annotated[
        float, typer.Option(help="time between two compactions of the offline files; 0: none")
    ] = 3600.0,
    host: Annotated[str, typer.Option(help="address of /metrics")] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(help="port of /metrics; 0: none")] = 9109,
) -> None:
    """Turns the rows of a Redis stream into features, online at once and offline at each commit.

    Runs until SIGTERM or SIGINT. A second one on the same state waits and takes over; one with another
    state is refused while the group is read.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    settings = Settings(
        state, features, quarantine, timedelta(seconds=lateness_s), timedelta(seconds=idle_s),
        timedelta(seconds=commit_s), timedelta(seconds=patience_s),
    )  # fmt: skip
    store = open_store(profile, repo)
    apply(store)
    prepare(features)
    count_in_memory()
    metrics = Metrics()
    if metrics_port:
        start_http_server(metrics_port, addr=host, registry=metrics.registry)
    with checkpoint.locked(state, stopped.is_set) as mine:
        if mine:
            owner = checkpoint.read(state).name
            patience = Patience(patience_s, metrics.failures.inc, stopped.is_set)
            client = connect(redis)
            reader = patience.call(lambda: Reader(client, stream, group, owner=owner))
            if compact_s:
                threading.Thread(
                    target=_compact, args=(features, state, compact_s, stopped), daemon=True
                ).start()
            consumer = Consumer(reader, OnlineRows(store), append_rows, settings, metrics)
            typer.echo(f"consuming {stream} of {redis.split(',')[0]}", err=True)
            consumer.run(stopped.is_set)


def _compact(features: Path, state: Path, pause_s: float, stopped: threading.Event) -> None:
    """Compacts now and again, in a process that gives way to this one."""
    command = ["nice", "-n", "19", sys.executable, "-m", "pipelines.stream.compact"]
    while not stopped.wait(pause_s):
        subprocess.run([*command, f"--features={features}", f"--state={state}"], check=False)


def main() -> None:
    """The command; a fault in what was given is one line."""
    try:
        typer.run(consume)
    except QosError as error:
        sys.exit(str(error))
    except (RedisError, StoreError) as error:  # what is not acknowledged is read again
        sys.exit(f"stopped, to go on at the next start: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
