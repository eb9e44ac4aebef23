"""`python -m demo.feed`: what the network's NEF says each second, as rows of the stream.

Before that it registers the definitions and writes what no stream brings: the table of 5QIs.
"""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from demo.parts import READY, START_S
from feature_repo.store import open_store
from lifecycle.pseudonym import read_key
from nef.client.collector import NEFQoSCollector
from nef.client.exchange import NefError
from nef.client.intake import Intake
from nef.client.journal import Journal, read_journal
from nef.client.retry import CircuitOpen
from nef.client.settings import read_settings
from nef.stream.entries import Row
from nef.stream.transport import Producer, connect
from pipelines.capture import Names, protection
from pipelines.publish import fill
from pipelines.sources.nef import JOURNAL, NefParams, nef
from pipelines.stream.outputs import prepare
from schemas.errors import QosError
from schemas.nef.ue_state import KnownUe
from schemas.tables import TABLES, dtypes

EVERY_S = 1.0
GRID_DEG = 0.005
SESSION_S = 120
Records = list[dict[str, Any]]


def rows_of(folder: Path, after: int) -> dict[str, list[Row]]:
    """Stream rows of the folder's capture that come from journal lines after that number.

    Times are microseconds since 1970; absent values are left out, and so is a row that the source
    refuses.
    """
    found: dict[str, list[Row]] = {}
    for name, table in nef(NefParams(str(folder), SESSION_S)).tables.items():
        if name not in TABLES:
            continue
        fresh = table.filter(pl.col("source_line") > after, pl.col("refusal").is_null())
        columns = fresh.select(list(dtypes(name))).with_columns(
            pl.col(pl.Datetime).dt.epoch("us"), pl.col(pl.Categorical, pl.Enum).cast(pl.String)
        )
        rows = [{k: v for k, v in row.items() if v is not None} for row in columns.to_dicts()]
        if rows:
            found[name] = rows
    return found


def poll(
    collector: NEFQoSCollector, names: Names, folder: Path, before: Records
) -> tuple[Records, dict[str, list[Row]]]:
    """What the NEF says now: its journal lines and their stream rows.

    before: the lines of the poll before, from which it is known who has changed the cell, and whose
    state is the same still.
    """
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / JOURNAL
    with Journal(path, len(before) + 1) as journal:
        for record in before:
            journal.append({k: v for k, v in record.items() if k != "sequence"})
    with Intake(path, protection(read_key(), GRID_DEG, names), batch=4096) as intake:
        collector.intake = intake
        collector.poll_states()
    new = list(read_journal(path, after=len(before)))
    return (new, rows_of(folder, len(before))) if new else (before, {})


def feed(folder: Path, address: str, stopped: Callable[[float], bool]) -> None:
    """Polls each second and sends the rows, until stopped; a poll that fails is said and gone over."""
    settings, names, before = read_settings(), Names(), Records()
    with (
        Intake(folder / "first" / JOURNAL, protection(read_key(), GRID_DEG, names)) as first,
        NEFQoSCollector(settings, first) as collector,
        Producer(connect(address), name="demo") as producer,
    ):
        names.learn(_ues(collector, stopped))
        print(READY, flush=True)
        due = time.monotonic()
        while not stopped(max(0.0, due - time.monotonic())):
            due = max(due + EVERY_S, time.monotonic())
            try:
                before, rows = poll(collector, names, folder / "now", before)
            except (NefError, CircuitOpen) as error:
                print(f"poll: {error}", flush=True)
                continue
            if rows:
                producer.send(rows)


def _ues(collector: NEFQoSCollector, stopped: Callable[[float], bool]) -> list[KnownUe]:
    """The inventory, once the NEF answers; raises `NefError`, `CircuitOpen` where it does not for long."""
    until = time.monotonic() + START_S
    while True:
        try:
            return collector.ues()
        except (NefError, CircuitOpen):
            if time.monotonic() > until or stopped(EVERY_S):
                raise


def main(
    redis: Annotated[str, typer.Option(envvar="QOS_REDIS", help="host:port of the stream")],
    repo: Annotated[Path, typer.Option(help="where relative places of the profile start")],
    features: Annotated[Path, typer.Option(help="offline features of the stream")],
    folder: Annotated[Path, typer.Option(help="of what is being read")],
) -> None:
    """Feeds the stream with what the NEF of NEF_API_URL says, until SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    prepare(features)
    fill(open_store("redis", repo), features)
    feed(folder, redis, stopped.wait)


if __name__ == "__main__":
    try:
        typer.run(main)
    except QosError as error:
        sys.exit(str(error))
