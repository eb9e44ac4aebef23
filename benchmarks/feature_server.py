"""Our feature server and `feast serve`, one process each, on the same service and the same Redis.

    python -m benchmarks.feature_server --requests 200000 --feast-requests 5000

One Redis, three views of six features, one entity a request; the load comes from a process of its own over
keep-alive connections. Before it is measured, both servers' answers to the same request are compared.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64
from rich.console import Console
from rich.table import Table

from benchmarks.redis_process import redis_server
from benchmarks.results_file import RESULTS, write_result

VIEWS, FEATURES, KEYS = 3, 6, 1_000
SERVICE = "bench"
SIDES = ("ours", "feast")


def main(
    requests: Annotated[int, typer.Option(help="to our server")] = 200_000,
    feast_requests: Annotated[int, typer.Option(help="to Feast's, of which the rate counts")] = (
        5_000
    ),
    entities: Annotated[int, typer.Option(help="rows in each request")] = 1,
    connections: Annotated[int, typer.Option(help="kept alive, one request at a time each")] = 8,
    seconds: Annotated[float, typer.Option(help="at most, each side")] = 300.0,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures requests a second and latencies of both and prints them with their ratios."""
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as address:
        folder = Path(scratch)
        make_store(folder, address)
        asked = bodies(entities)
        with serving("feast", folder) as feast:
            expected = ask(feast, asked[0])
            found = {"feast": load(folder, feast, asked, connections, feast_requests, seconds)}
        with serving("ours", folder) as ours:
            assert columns(ask(ours, asked[0])) == columns(expected), "answers differ"
            found["ours"] = load(folder, ours, asked, connections, requests, seconds)
    rps = {side: found[side]["requests"] / found[side]["seconds"] for side in SIDES}
    show(found, rps)
    result = {
        "ours_rps": round(rps["ours"], 1),
        "feast_rps": round(rps["feast"], 1),
        "speedup": round(rps["ours"] / rps["feast"], 1),
        "ours_p50_ms": round(found["ours"]["p50_ms"], 3),
        "feast_p50_ms": round(found["feast"]["p50_ms"], 3),
        "p50_ratio": round(found["ours"]["p50_ms"] / found["feast"]["p50_ms"], 3),
        "ours_p99_ms": round(found["ours"]["p99_ms"], 3),
        "feast_p99_ms": round(found["feast"]["p99_ms"], 3),
        "requests": found["ours"]["requests"],
        "feast_requests": found["feast"]["requests"],
        "errors": found["ours"]["errors"],
        "feast_errors": found["feast"]["errors"],
        "entities": entities,
        "connections": connections,
    }
    print(write_result("feature_server", result, out))


def make_store(folder: Path, address: str) -> FeatureStore:
    """Three views of six features each of one entity, applied and filled with 1,000 keys."""
    profile = {
        "project": "bench",
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "offline_store": {"type": "stores.asof.AsofOfflineStore"},
        "online_store": {
            "type": "stores.redis.BulkRedisOnlineStore",
            "connection_string": address,
        },
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(json.dumps(profile), encoding="utf-8")
    store = FeatureStore(repo_path=str(folder))
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    views = [
        FeatureView(
            name=f"view_{number}",
            entities=[entity],
            ttl=timedelta(days=1),
            schema=[
                Field(name="key", dtype=Int64),
                *(Field(name=f"f{number}_{i}", dtype=Float64) for i in range(FEATURES)),
            ],
            source=FileSource(path=str(folder / f"{number}.parquet"), timestamp_field="event"),
        )
        for number in range(VIEWS)
    ]
    store.apply([entity, *views, FeatureService(name=SERVICE, features=list(views))])
    random, now = np.random.default_rng(7), datetime.now(UTC)
    online: Any = store._get_provider().online_store
    for number, view in enumerate(views):
        rows = [
            (
                EntityKey(join_keys=["key"], entity_values=[Value(int64_val=key)]),
                {
                    f"f{number}_{i}": Value(double_val=value)
                    for i, value in enumerate(random.random(FEATURES).tolist())
                },
                now,
                now,
            )
            for key in range(KEYS)
        ]
        online.online_write_batch(store.config, view, rows, None)
    return store


def bodies(entities: int) -> list[str]:
    """Requests for keys drawn at random, seeded."""
    drawn = np.random.default_rng(8).integers(0, KEYS, (256, entities)).tolist()
    return [json.dumps({"feature_service": SERVICE, "entities": {"key": keys}}) for keys in drawn]


def load(
    folder: Path, url: str, asked: list[str], connections: int, requests: int, seconds: float,
    headers: Mapping[str, str] = {},
) -> dict[str, Any]:  # fmt: skip
    """What the load generator counted, after a tenth of the requests to warm up."""
    spec = {"url": url, "bodies": asked, "connections": connections, "seconds": seconds}
    spec |= {"headers": dict(headers)}
    path = folder / "load.json"
    for count in (max(requests // 10, 10), requests):
        path.write_text(json.dumps(spec | {"requests": count}), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.http_load", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"load generator: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def ask(url: str, body: str) -> dict[str, Any]:
    """One answer."""
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def columns(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer's columns by name: the servers order them differently."""
    return dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))


@contextlib.contextmanager
def serving(side: str, folder: Path) -> Iterator[str]:
    """The URL of one side's server, one process, stopped at the end."""
    port = free_port()
    command = {
        "feast": [
            *("feast", "-c", str(folder), "serve", "--port", str(port), "--workers", "1"),
            *("--no-access-log", "--max-requests", "100000000"),
        ],
        "ours": [
            *(sys.executable, "-m", "stores.server", "--repo", str(folder)),
            *("--port", str(port)),
        ],
    }[side]
    with running(command, port, 120):
        yield f"http://127.0.0.1:{port}/get-online-features"


@contextlib.contextmanager
def running(
    command: list[str], port: int, seconds: float, environment: Mapping[str, str] = {}
) -> Iterator[psutil.Process]:
    """A server from when its port answers; stopped at the end. Exits when it does not start."""
    place = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    place |= environment
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, env=place, stdout=subprocess.DEVNULL, stderr=said)
        try:
            deadline = time.monotonic() + seconds
            while not answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    sys.exit(f"{command[0]} did not start: {said.read()[-500:].decode()}")
                time.sleep(0.05)
            yield psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(30)


def answers(port: int) -> bool:
    """Whether something listens on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show(found: dict[str, dict[str, Any]], rps: dict[str, float]) -> None:
    """The table."""
    table = Table(title="feature server, one process each", title_justify="left")
    for name in ("side", "requests/s", "times Feast's", "p50 ms", "p99 ms", "requests", "errors"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for side in SIDES:
        of = found[side]
        table.add_row(
            side,
            f"{rps[side]:,.0f}",
            f"{rps[side] / rps['feast']:.1f}",
            f"{of['p50_ms']:.2f}",
            f"{of['p99_ms']:.2f}",
            f"{of['requests']:,}",
            str(of["errors"]),
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
