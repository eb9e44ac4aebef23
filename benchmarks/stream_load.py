"""Live reports for the stream: sent by a process of its own, and made again as tables afterwards.

A report is one entry of six rows (radio, flow, motion, three candidate cells) of one UE; its values
follow from its number, so only the times at which reports went need be kept.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nef.stream.transport import Producer, connect
from pipelines.stream.times import ARRIVAL, EVENT, UTC_US
from schemas.tables import TABLES, dtypes

ROWS_A_REPORT = 6
_RANKS = range(3)
_CELLS = 20


@dataclass(frozen=True)
class Load:
    """times: microseconds of each report that went; sent: how many; both shared with the sender,
    which waits for `begun` and ends at `stopped`."""

    address: str
    ues: int
    reports_s: float
    times: Any
    sent: Any
    begun: Any
    stopped: Any

    @property
    def newest(self) -> tuple[str, int] | None:
        """UE and time of the newest report."""
        sent = self.sent.value
        return (f"ue{(sent - 1) % self.ues}", self.times[sent - 1]) if sent else None

    def tables(self) -> dict[str, pl.DataFrame]:
        """All that was sent."""
        sent = self.sent.value
        number = pl.int_range(sent, dtype=pl.Int64).alias("n")
        at = pl.Series(np.array(self.times[:sent], dtype=np.int64)).cast(UTC_US)
        base = pl.select(number).with_columns(
            pl.format("ue{}", pl.col("n") % self.ues).alias("ue_id"), pl.lit("s").alias("session_id"),
            at.alias(EVENT), at.alias(ARRIVAL),
        )  # fmt: skip
        found = {name: pl.DataFrame(schema=dtypes(name)) for name in TABLES}
        made: dict[str, list[pl.DataFrame]] = {}
        for name, values in _rows(pl.col("n")):
            exprs = [
                (pl.format("c{}", v) if k == "cell_id" else v if isinstance(v, pl.Expr) else pl.lit(v))
                .alias(k)
                for k, v in values.items()
            ]  # fmt: skip
            made.setdefault(name, []).append(base.with_columns(exprs).drop("n"))
        for name, parts in made.items():
            rows = pl.concat(parts)
            found[name] = rows.select(
                (pl.col(n) if n in rows.columns else pl.lit(None)).cast(t).alias(n)
                for n, t in dtypes(name).items()
            )
        return found


def _rows(n: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Table and values of the rows of report n: a number, or a column of numbers."""
    level, serving = -110 + n * 7919 % 4000 / 100, n * 31 % _CELLS
    yield "ue_radio", {
        "cell_id": serving, "rat": "NR", "rsrp_dbm": level, "rsrq_db": -11.0,
        "sinr_db": n * 6007 % 2000 / 100, "cqi": 9.0,
    }  # fmt: skip
    yield "ue_flow", {
        "five_qi": 9, "cell_id": serving, "downlink_mbps": n * 4003 % 9000 / 100,
        "downlink_delay_ms": n * 2003 % 4000 / 100, "packet_loss_ratio": 0.0,
    }  # fmt: skip
    yield "ue_motion", {"speed_mps": n * 1009 % 900 / 100}
    for rank in _RANKS:
        yield "ue_neighbour", {
            "rank": rank, "cell_id": (serving + rank) % _CELLS, "rat": "NR",
            "rsrp_dbm": level - 3 * rank, "rsrp_offset_db": -3.0 * rank,
        }  # fmt: skip


def _report(number: int, ues: int, now: int) -> dict[str, list[dict[str, Any]]]:
    same = {EVENT: now, ARRIVAL: now, "ue_id": f"ue{number % ues}", "session_id": "s"}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, values in _rows(number):
        if "cell_id" in values:
            values["cell_id"] = f"c{values['cell_id']}"
        found.setdefault(name, []).append(same | values)
    return found


@contextmanager
def loading(address: str, events_s: int, longest_s: float) -> "Iterator[Load]":
    """Reports at the rate, one a second and UE, from `begun` until the block ends.

    longest_s: it stops by itself after that much.
    """
    spawn = multiprocessing.get_context("spawn")
    rate = events_s / ROWS_A_REPORT
    times = spawn.RawArray("q", int(rate * longest_s) + 1)
    sent, begun, stopped = spawn.RawValue("q", 0), spawn.Event(), spawn.Event()
    load = Load(address, max(1, int(rate)), rate, times, sent, begun, stopped)
    process = spawn.Process(target=_send, args=(load,), daemon=True)
    process.start()
    try:
        yield load
    finally:
        stopped.set()
        begun.set()
        process.join(90)
        if process.exitcode != 0:
            process.kill()
            raise RuntimeError(f"the sender of reports ended with {process.exitcode}")


def _send(load: Load) -> None:
    pause = 1 / load.reports_s
    with Producer(connect(load.address)) as producer:
        load.begun.wait()
        began = time.monotonic()
        for number in range(len(load.times)):
            ahead = began + number * pause - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            if load.stopped.is_set():
                return
            now = time.time_ns() // 1000
            if number:
                now = max(now, load.times[number - 1] + 1)
            producer.send(_report(number, load.ues, now))
            load.times[number] = now
            load.sent.value = number + 1
