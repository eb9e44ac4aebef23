"""The decision service beside `feast serve` on the same features: `python -m benchmarks.decision`.

One worker each, Redis and the load generator on the same cores. Needs the features and the bundle of a
finished run (`make run`). Writes `decision.json`; `--short` takes seconds and writes nothing.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.decision_service import decision_service
from benchmarks.decision_world import (
    BUNDLE,
    CANDIDATES,
    FEATURES,
    Bundles,
    Features,
    decision_world,
)
from benchmarks.feature_server import free_port, load, running
from benchmarks.results_file import RESULTS, write_result
from feature_repo.store import REPO

BATCH = 500
LOG_S = 6.0  # the log writes every 5 s
PATH, BATCH_PATH = "/api/predict-with-qos", "/api/predict/batch"


def main(
    features: Features = FEATURES,
    bundle: Bundles = BUNDLE,
    rate: Annotated[float, typer.Option(help="requests a second that are offered")] = 500.0,
    seconds: Annotated[float, typer.Option(help="of the offered rate")] = 60.0,
    requests: Annotated[int, typer.Option(help="flat out")] = 500_000,
    feast_requests: Annotated[int, typer.Option(help="flat out, to Feast's server")] = 500,
    short: Annotated[bool, typer.Option(help="some seconds only; writes no result")] = False,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures latency at the offered rate, decisions a second, a batch, memory, and Feast's read."""
    if short:
        seconds, requests, feast_requests = 5.0, 3000, 60
    with decision_world(features, bundle) as world:
        found = ours(world.folder, world.repo, bundle, world.asked, rate, seconds, requests)
        feast = feasts(world.folder, world.address, world.asked, feast_requests)
    result = found | {
        "feast_rps": round(feast["requests"] / feast["seconds"], 1),
        "feast_p50_ms": round(feast["p50_ms"], 2),
        "feast_p99_ms": round(feast["p99_ms"], 2),
    }
    result["times_feast_rps"] = round(result["rps_flat_out"] / result["feast_rps"], 1)
    show(result)
    print("short run: nothing written" if short else write_result("decision", result, out))


def ours(
    folder: Path, repo: Path, bundle: Path, asked: list[dict[str, Any]], rate: float,
    seconds: float, requests: int,
) -> dict[str, Any]:  # fmt: skip
    """What the decision service does; memory of its process before, amid and after all requests."""
    bodies = [json.dumps(one) for one in asked]
    with decision_service(repo, str(bundle)) as service:
        url, headers, server = service.url + PATH, service.headers, service.process
        load(folder, url, bodies, 8, min(10_000, requests), 60.0, headers)
        time.sleep(LOG_S)
        start_mb = server.memory_info().rss / 1e6
        offered = paced(folder, url, bodies, rate, seconds, headers)
        spent = sum(server.cpu_times()[:2])
        halves, held_mb = [], []
        for _ in range(2):
            halves.append(load(folder, url, bodies, 8, requests // 2, 1200.0, headers))
            time.sleep(LOG_S)
            held_mb.append(server.memory_info().rss / 1e6)
        spent = sum(server.cpu_times()[:2]) - spent
        lost = lost_rows(httpx.get(service.url + "/metrics").text)
        batch_ms = batch(folder, service.url, asked, headers)
    flat, seconds_flat, errors = (
        sum(half[name] for half in halves) for name in ("requests", "seconds", "errors")
    )
    return {
        "rps_offered": rate,
        "p50_ms": round(offered["p50_ms"], 2),
        "p99_ms": round(offered["p99_ms"], 2),
        "rps_flat_out": round(flat / seconds_flat, 1),
        "batch_500_ms": round(batch_ms, 1),
        "rss_start_mb": round(start_mb, 1),
        "rss_half_mb": round(held_mb[0], 1),
        "rss_end_mb": round(held_mb[1], 1),
        "requests": offered["requests"] + flat,
        "errors": offered["errors"] + errors,
        "decisions_not_logged": lost,
        "candidates": CANDIDATES,
        "cpu_ms_a_decision": round(1e3 * spent / (1.1 * flat), 3),
    }


def lost_rows(metrics: str) -> int:
    """Decisions that the log lost, as the service counts them."""
    families = text_string_to_metric_families(metrics)
    return int(
        sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "ml_losses_total" and sample.labels["what"] == "decision"
        )
    )


def paced(
    folder: Path, url: str, bodies: list[str], rate: float, seconds: float,
    headers: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """What the paced generator counted."""
    spec = {"url": url, "bodies": bodies, "connections": 32, "rate": rate, "seconds": seconds}
    spec |= {"headers": dict(headers)}
    path = folder / "paced.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.paced_load", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"load generator: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def batch(folder: Path, url: str, asked: list[dict[str, Any]], headers: Mapping[str, str]) -> float:
    """Median ms of 50 batches of 500 predictions in turn, each of a UE in its serving cell."""
    single = [one | {"candidates": one["candidates"][:1]} for one in asked]
    body = json.dumps({"requests": (single * 2)[:BATCH]})
    found = load(folder, url + BATCH_PATH, [body], 1, 50, 120.0, headers)
    if found["errors"]:
        sys.exit(f"{found['errors']} of {found['requests']} batches failed")
    return float(found["p50_ms"])


def feasts(
    folder: Path, address: str, asked: list[dict[str, Any]], requests: int
) -> dict[str, Any]:
    """What Feast's own server does when asked for the same features: a read, no decision."""
    profile = yaml.safe_load((REPO / "redis.yaml").read_text(encoding="utf-8"))
    profile["registry"]["path"] = f"sqlite:///{folder}/.qos/registry_redis.db"
    profile["online_store"]["connection_string"] = address
    place = folder / "feast"
    place.mkdir()
    (place / "feature_store.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    bodies = [
        json.dumps(
            {
                "feature_service": "qos_v1",
                "entities": {
                    "ue_id": [one["ue_id"]] * CANDIDATES,
                    "five_qi": [one["five_qi"]] * CANDIDATES,
                    "cell_id": [cell["cell_id"] for cell in one["candidates"]],
                    "requested_downlink_mbps": [5.0] * CANDIDATES,
                    "requested_delay_ms": [100.0] * CANDIDATES,
                    "requested_loss_ratio": [0.02] * CANDIDATES,
                },
            }
        )
        for one in asked
    ]
    port = free_port()
    command = [
        *("feast", "-c", str(place), "serve", "--port", str(port), "--workers", "1"),
        *("--no-access-log", "--max-requests", "100000000"),
    ]
    with running(command, port, 120):
        return load(
            folder, f"http://127.0.0.1:{port}/get-online-features", bodies, 8, requests, 60.0
        )


def show(result: dict[str, Any]) -> None:
    """The table."""
    table = Table(title="decision service", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
