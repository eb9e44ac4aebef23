"""The stream: events a second, milliseconds from an event to its readable feature, what kills cost.

    python -m benchmarks.stream --seconds 600 --kills 20

A Redis of its own, the consumer's own command, a sender of live reports in a third process; an event is
one row. Here one reader asks for the newest report of a UE until the online store has its features.
First nothing is disturbed; then, while the same goes on, the consumer is killed (SIGKILL) and begun again
and again. In the end every feature row is held against what the batch makes of the rows that were sent.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import redis
import typer
from rich.console import Console

from benchmarks.redis_process import redis_server
from benchmarks.results_file import RESULTS, write_result
from benchmarks.stream_load import ROWS_A_REPORT, Load, loading
from feature_repo import compute
from feature_repo.views import WINDOWED
from feature_repo.windows import View
from nef.stream.transport import STREAM, connect
from pipelines.stream.times import ARRIVAL, EVENT
from pipelines.stream.times import time as at_time

_PATIENCE_S = 120
_KILLING_S = 300.0  # the longest time for all kills
_WARM_S = 10.0
_SAMPLED_UES = 25


def main(
    events_s: Annotated[int, typer.Option(help="rows a second")] = 5_000,
    seconds: Annotated[float, typer.Option(help="length of the undisturbed run")] = 60.0,
    kills: Annotated[int, typer.Option(help="kills of the consumer, after that run")] = 20,
    seed: Annotated[int, typer.Option(help="of the times of kills")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures, prints and writes stream.json."""
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as address:
        _online_key("")  # imports Feast, before time counts
        longest = seconds + (_KILLING_S + _PATIENCE_S if kills else 0) + 60
        with loading(address, events_s, longest) as load:
            run = _Run(Path(scratch), load, random.Random(seed))
            steady = run.steady(seconds, kill=kills > 0)
            disturbed = run.disturbed(kills)
        result = steady | disturbed | {"events": load.sent.value * ROWS_A_REPORT} | run.compared()
    Console().print_json(json.dumps(result))
    print(write_result("stream", result, out))
    if result["lost"] or result["duplicated"] or result["wrong"]:
        sys.exit("feature rows are not those of the batch")


@dataclass
class _Run:
    folder: Path
    load: Load
    random: random.Random
    latencies_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    @contextmanager
    def consumer(self) -> "Iterator[subprocess.Popen[str]]":
        """The command, once it reads; ended by SIGTERM where it is not killed before."""
        repo = self.folder / "feature_repo"
        repo.mkdir(exist_ok=True)
        options = {
            "redis": self.load.address, "repo": repo, "features": self.folder / "features",
            "state": self.folder / "state", "quarantine": self.folder / "quarantine",
            "metrics-port": 0, "commit-s": 2, "compact-s": 60,
        }  # fmt: skip
        command = [sys.executable, "-m", "pipelines.stream"]
        command += [f"--{name}={value}" for name, value in options.items()]
        environment = {"QOS_REDIS": self.load.address, "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("consuming"):
                    break
                _say(line.rstrip())
            else:
                sys.exit(f"the consumer ended with {process.wait()}")
            threading.Thread(target=_shown, args=(process.stderr,), daemon=True).start()
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                if process.wait(_PATIENCE_S):
                    sys.exit(f"the consumer ended with {process.returncode}")

    def steady(self, seconds: float, *, kill: bool) -> dict[str, Any]:
        """Latencies and memory of one consumer that nobody disturbs; killed in the end, or ended."""
        with self.consumer() as process:
            self.load.begun.set()
            time.sleep(min(_WARM_S, seconds / 4))  # the first parts import and allocate
            began, sent = time.monotonic(), self.load.sent.value
            self.probe(began + seconds, process.pid)
            took = time.monotonic() - began
            events = (self.load.sent.value - sent) * ROWS_A_REPORT
            self.rss_mb.append(_rss_mb(process.pid))
            if kill:
                process.kill()
                process.wait()
        return {
            "events_s": round(events / took), "seconds": round(took, 1),
            "p50_ms": _quantile(self.latencies_ms, 0.5), "p99_ms": _quantile(self.latencies_ms, 0.99),
            "max_ms": _quantile(self.latencies_ms, 1.0), "probes": len(self.latencies_ms),
            "rss_start_mb": self.rss_mb[0], "rss_end_mb": self.rss_mb[-1],
            "rss_most_mb": max(self.rss_mb),
        }  # fmt: skip

    def probe(self, until: float, process: int | None = None) -> None:
        """Milliseconds from an event to its features, of the report that is newest each time."""
        client, shown = connect(self.load.address), 0.0
        while time.monotonic() < until:
            if process is not None and time.monotonic() - shown >= 10:
                shown = time.monotonic()
                self.rss_mb.append(_rss_mb(process))
                left, lately = until - shown, self.latencies_ms[-500:] or [np.nan]
                _say(
                    f"{left:4.0f} s left, {self.load.sent.value} reports, p50 "
                    f"{_quantile(lately, 0.5)} ms, p99 {_quantile(lately, 0.99)} ms, "
                    f"{self.rss_mb[-1]:.0f} MB, {client.xlen(STREAM)} entries wait"
                )
            time.sleep(0.005)
            newest = self.load.newest
            if newest is None:
                continue
            key = _online_key(newest[0])
            while (stored := _event_of(client, key)) is None or stored < newest[1]:
                if time.monotonic() > until + _PATIENCE_S:
                    sys.exit(f"{newest[0]}: no feature of {newest[1]} after {_PATIENCE_S} s")
                time.sleep(0.001)
            self.latencies_ms.append((time.time_ns() / 1000 - newest[1]) / 1000)

    def disturbed(self, kills: int) -> dict[str, Any]:
        """Kills the consumer at random, once `steady` did; the latencies, with restarts and all. Then
        the sender ends and a last consumer commits every entry."""
        self.latencies_ms.clear()
        began, done = time.monotonic(), min(kills, 1)
        ended = threading.Event()
        probing = threading.Thread(target=self._probe_until, args=(ended,), daemon=True)
        probing.start()
        while done < kills and time.monotonic() - began < _KILLING_S:
            with self.consumer() as process:
                time.sleep(self.random.uniform(0.1, 3.0))
                process.kill()
                process.wait()
            done += 1
            _say(f"killed {done} of {kills}")
        took = time.monotonic() - began
        if done < kills:
            _say(f"{done} kills took {took:.0f} s: that is enough")
        with self.consumer():
            ended.set()
            probing.join(_PATIENCE_S)
            self.load.stopped.set()
            self.drain()
        return {
            "kills": done, "kills_seconds": round(took, 1),
            "kills_p50_ms": _quantile(self.latencies_ms, 0.5),
            "kills_p99_ms": _quantile(self.latencies_ms, 0.99),
        }  # fmt: skip

    def _probe_until(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self.probe(time.monotonic() + 0.2)

    def drain(self) -> None:
        """Waits until every entry is committed."""
        client, deadline = connect(self.load.address), time.monotonic() + _PATIENCE_S
        idle = 0
        while idle < 5:  # the sender may still put in its last ones
            idle = 0 if client.xlen(STREAM) else idle + 1
            if time.monotonic() > deadline:
                sys.exit(f"{client.xlen(STREAM)} entries are left after {_PATIENCE_S} s")
            time.sleep(0.1)

    def compared(self) -> dict[str, int]:
        """The features that are there against the batch's over what was sent, all views.

        lost: rows sent and not admitted, and feature rows that are missing; duplicated: feature rows
        that are there twice or should not be; wrong: values that differ, of `checked` that were compared
        (of some UEs, and all cells).
        """
        _say("comparing with the batch")
        saved = json.loads((self.folder / "state" / "checkpoint.json").read_text())
        tables, until = self.load.tables(), saved["watermark"]["value"]
        sent = self.load.sent.value * ROWS_A_REPORT
        admitted = saved["counts"]["admitted"]
        lost, duplicated = max(0, sent - admitted), max(0, admitted - sent)
        wrong = checked = 0
        for view in WINDOWED:
            clock = compute.keyed(tables[view.clock_table], view.keys)
            wanted = compute.emissions(clock, view).filter(pl.col(ARRIVAL) <= at_time(until))
            files = self.folder / "features" / view.name / "**" / "*.parquet"
            found = pl.scan_parquet(files, hive_partitioning=False)
            names = [*view.keys, EVENT, ARRIVAL]
            got = found.select(names).collect()
            once = got.unique()
            lost += len(wanted.join(once, on=names, how="anti"))
            duplicated += len(got) - len(once) + len(once.join(wanted, on=names, how="anti"))
            values = _differences(view, found, tables, until)
            wrong, checked = wrong + values[0], checked + values[1]
            _say(f"{view.name}: {len(got)} feature rows, {values[1]} values compared")
        return {"lost": lost, "duplicated": duplicated, "wrong": wrong, "checked": checked}


def _differences(
    view: View, found: pl.LazyFrame, tables: dict[str, pl.DataFrame], until: int
) -> tuple[int, int]:
    """Values that differ from the batch's, and how many were compared."""
    some = pl.lit(value=True)
    if "ue_id" in view.keys:
        some = pl.col("ue_id").is_in([f"ue{n}" for n in range(_SAMPLED_UES)])
    rows, clock = (tables[name].filter(some) for name in (view.table, view.clock_table))
    wanted = compute.features(rows, clock, view).filter(pl.col(ARRIVAL) <= at_time(until))
    names = [*view.keys, EVENT, ARRIVAL]
    got = found.filter(some).collect().unique(names)
    pairs = wanted.join(got, on=names, suffix=" got")
    wrong = 0
    for feature in view.features():
        one, other = pl.col(feature.name), pl.col(f"{feature.name} got")
        close = (one - other).abs() <= 1e-6 + 1e-9 * one.abs()
        same = (one.is_null() & other.is_null()) | close.fill_null(value=False)
        wrong += pairs.select((~same).sum()).item()
    return wrong, len(pairs) * len(view.features())


def _quantile(latencies_ms: list[float], share: float) -> float | None:
    return round(float(np.quantile(latencies_ms, share)), 1) if latencies_ms else None


def _rss_mb(process: int) -> float:
    """Memory of a process that is resident."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * 4096 / 1e6, 1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _shown(lines: Any) -> None:
    for line in lines:
        _say(line.rstrip())


def _online_key(ue: str) -> bytes:
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["ue_id"], entity_values=[Value(string_val=ue)])
    return bytes(_redis_key("qos", key, entity_key_serialization_version=3))


def _event_of(client: "redis.Redis", key: bytes) -> int | None:
    """Event time, in microseconds, of the `ue_radio` features that the online store holds."""
    from google.protobuf.timestamp_pb2 import Timestamp

    found: Any = client.hget(key, "_ts:ue_radio")  # type: ignore[arg-type]
    return Timestamp.FromString(found).ToMicroseconds() if found else None


if __name__ == "__main__":
    typer.run(main)
