"""The stream: events a second, milliseconds from an event to its readable feature, what kills cost.

    python -m benchmarks.stream --seconds 600 --kills 20

A Redis of its own, the consumer's own command, and here a producer of live reports: each UE one a second,
of six rows (radio, flow, motion, three candidate cells), one entry a report. An event is one row. Beside
it one reader asks for the newest report of a UE until the online store has its features. Then the consumer
is killed again and again while the same goes on; in the end feature rows are held against what was sent.
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
from nef.stream.transport import STREAM, Producer, connect

ROWS_A_REPORT = 6
VIEWS = {"ue_radio": 1, "ue_flow": 1, "ue_motion": 1, "ue_cell_link": 3}  # feature rows a report
_PATIENCE_S = 120


def main(
    events_s: Annotated[int, typer.Option(help="rows a second")] = 5_000,
    seconds: Annotated[float, typer.Option(help="length of the measured run")] = 60.0,
    kills: Annotated[int, typer.Option(help="kills of the consumer, after the measured run")] = 20,
    seed: Annotated[int, typer.Option(help="of values and of the times of kills")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures, prints and writes stream.json."""
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as address:
        run = _Run(Path(scratch), address, events_s, random.Random(seed))
        _online_key("")  # imports Feast, before time counts
        with run.consumer():
            with run.producing():
                time.sleep(min(5.0, seconds / 4))  # the first parts import and allocate
                began, sent = time.monotonic(), run.rows
                run.probe(seconds)
                took, rate = time.monotonic() - began, run.rows - sent
        killed = run.killed(kills)
        result = {
            "events_s": round(rate / took),
            "seconds": round(took, 1),
            "p50_ms": run.quantile(0.5),
            "p99_ms": run.quantile(0.99),
            "probes": len(run.latencies_ms),
            "kills": killed,
            "events": run.rows,
            **run.compared(),
        }
    Console().print_json(json.dumps(result))
    print(write_result("stream", result, out))


@dataclass
class _Run:
    folder: Path
    address: str
    events_s: int
    random: random.Random
    rows: int = 0
    reports: list[tuple[str, int]] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    @contextmanager
    def consumer(self) -> "Iterator[subprocess.Popen[str]]":
        """The command, once it reads."""
        repo = self.folder / "feature_repo"
        repo.mkdir(exist_ok=True)
        options = {
            "redis": self.address, "repo": repo, "features": self.folder / "features",
            "state": self.folder / "state", "quarantine": self.folder / "quarantine",
            "metrics-port": 0, "commit-s": 2,
        }  # fmt: skip
        command = [sys.executable, "-m", "pipelines.stream"]
        command += [f"--{name}={value}" for name, value in options.items()]
        environment = {"QOS_REDIS": self.address, "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("consuming"):
                    break
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

    @contextmanager
    def producing(self) -> Iterator[None]:
        """Reports at the rate, until the block ends; then until all are committed."""
        stopped = threading.Event()
        thread = threading.Thread(target=self._produce, args=(stopped,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def _produce(self, stopped: threading.Event) -> None:
        ues = max(1, self.events_s // ROWS_A_REPORT)
        pause = ROWS_A_REPORT / self.events_s
        with Producer(connect(self.address)) as producer:
            began, number = time.monotonic(), 0
            while not stopped.is_set():
                ahead = began + number * pause - time.monotonic()
                if ahead > 0.002:
                    producer.flush()
                    time.sleep(ahead)
                ue, now = f"ue{number % ues}", time.time_ns() // 1000
                producer.send(self._report(ue, now))
                self.reports.append((ue, now))
                self.rows += ROWS_A_REPORT
                number += 1

    def _report(self, ue: str, now: int) -> dict[str, list[dict[str, Any]]]:
        same = {"event_timestamp": now, "arrival_timestamp": now, "ue_id": ue, "session_id": "s"}
        gauss, level = self.random.gauss, self.random.uniform(-110, -70)
        cells = [f"c{self.random.randrange(20)}", "c20", "c21"]
        return {
            "ue_radio": [
                same | {"cell_id": cells[0], "rat": "NR", "rsrp_dbm": level, "rsrq_db": -11.0}
                | {"sinr_db": gauss(8, 4), "cqi": 9.0},
            ],
            "ue_flow": [
                same | {"five_qi": 9, "cell_id": cells[0], "downlink_mbps": abs(gauss(40, 9))}
                | {"downlink_delay_ms": abs(gauss(20, 4)), "packet_loss_ratio": 0.0},
            ],
            "ue_motion": [same | {"speed_mps": abs(gauss(5, 2))}],
            "ue_neighbour": [
                same | {"rank": rank, "cell_id": cell, "rat": "NR", "rsrp_dbm": level - 3 * rank}
                | {"rsrp_offset_db": -3.0 * rank}
                for rank, cell in enumerate(cells)
            ],
        }  # fmt: skip

    def probe(self, seconds: float) -> None:
        """Milliseconds from an event to its features, of the report that is newest each time."""
        client, deadline = connect(self.address), time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.005)
            if not self.reports:
                continue
            ue, event = self.reports[-1]
            key = _online_key(ue)
            while (stored := _event_of(client, key)) is None or stored < event:
                if time.monotonic() > deadline + _PATIENCE_S:
                    sys.exit(f"{ue}: no feature of {event} after {_PATIENCE_S} s")
                time.sleep(0.001)
            self.latencies_ms.append((time.time_ns() / 1000 - event) / 1000)

    def killed(self, kills: int) -> int:
        """Kills the consumer at random, and lets a last one finish."""
        if not kills:
            self.drain()
            return 0
        with self.producing():
            for number in range(kills):
                with self.consumer() as process:
                    time.sleep(self.random.uniform(0.1, 3.0))
                    process.kill()
                    process.wait()
                Console(stderr=True).print(f"killed {number + 1} of {kills}")
        self.drain()
        return kills

    def drain(self) -> None:
        """Waits until every entry is committed."""
        client, deadline = connect(self.address), time.monotonic() + _PATIENCE_S
        with self.consumer():
            while client.xlen(STREAM):
                if time.monotonic() > deadline:
                    sys.exit(f"{client.xlen(STREAM)} entries are left after {_PATIENCE_S} s")
                time.sleep(0.1)

    def quantile(self, share: float) -> float:
        """Of the latencies, in milliseconds."""
        return round(float(np.quantile(self.latencies_ms, share)), 1)

    def compared(self) -> dict[str, int]:
        """lost: feature rows or admitted rows that are missing; duplicated: those there twice."""
        counts = json.loads((self.folder / "state" / "checkpoint.json").read_text())["counts"]
        lost, duplicated = abs(self.rows - counts["admitted"]), 0
        sent = pl.DataFrame(self.reports, schema=["ue_id", "event"], orient="row")
        for view, times in VIEWS.items():
            found = pl.read_parquet(
                self.folder / "features" / view / "**" / "*.parquet", hive_partitioning=False
            )
            keys = [c for c in found.columns if c in ("ue_id", "cell_id", "five_qi")]
            once = found.unique([*keys, "event_timestamp", "arrival_timestamp"])
            duplicated += len(found) - len(once)
            events = once.select("ue_id", pl.col("event_timestamp").to_physical().alias("event"))
            missing = sent.join(events.unique(), on=["ue_id", "event"], how="anti")
            lost += len(missing) * times
        return {"lost": lost, "duplicated": duplicated}


def _shown(lines: Any) -> None:
    for line in lines:
        print(line, end="", file=sys.stderr)


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
