"""Decisions while a model is trained on the same cores: `python -m benchmarks.training_load`.

The real service process under a steady load, alone and with a training job under way, by turns. Needs
the features and the bundle of a finished run (`make run`). Writes `training_load.json`; exits with 1
where the target is missed.
"""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.decision_service import Running, decision_service
from benchmarks.decision_world import BUNDLE, FEATURES, Bundles, Features, decision_world
from benchmarks.paced_process import Offered, offered
from benchmarks.results_file import RESULTS, write_result

MOST_RATIO = 1.5
_START_S = 120.0


def main(
    features: Features = FEATURES,
    bundle: Bundles = BUNDLE,
    rate: Annotated[float, typer.Option(help="requests a second that are offered")] = 300.0,
    seconds: Annotated[float, typer.Option(help="of each turn")] = 15.0,
    turns: Annotated[int, typer.Option(help="alone and with training, each so often")] = 2,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures the latency of decisions without and with training, and what the training got."""
    with decision_world(features, bundle) as world:
        folder, repo, asked = world.folder, world.repo, world.asked
        registry = {"ML_REGISTRY_URI": f"sqlite:///{folder}/mlflow.db", "RATELIMIT_ENABLED": "no"}
        alone, trained, share = [], [], []
        with decision_service(repo, str(bundle), registry) as service:
            with offered(folder, service, asked, rate, 2.0):  # warms up
                pass
            for _ in range(turns):
                with offered(folder, service, asked, rate, seconds) as load:
                    pass
                alone.append(load)
                job = begin_training(service)
                began, spent = time.perf_counter(), cpu_s(service.process)
                with offered(folder, service, asked, rate, seconds) as load:
                    pass
                share.append((cpu_s(service.process) - spent) / (time.perf_counter() - began))
                end_training(service, job)
                trained.append(load)
    result = judged(alone, trained, share, rate)
    show(result)
    print(write_result("training_load", result, out))
    if result["errors"] or not result["ratio"] <= MOST_RATIO:
        sys.exit(
            f"missed: ratio {result['ratio']}, at most {MOST_RATIO}; {result['errors']} errors"
        )


def begin_training(service: Running) -> str:
    """Starts a run from the simulator; its id once a stage is at work. Exits where none begins."""
    with _client(service) as client:
        told = client.post("/api/train-async", json={"source": "simulator"})
        job: str = told.raise_for_status().json()["id"]
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            state = client.get(f"/api/jobs/{job}").raise_for_status().json()
            if state["state"] not in ("queued", "running"):
                sys.exit(f"the training ended before it was measured: {state['error']}")
            if len(service.process.children(recursive=True)) >= 2:  # the job and its stage
                return job
            time.sleep(0.05)
    sys.exit(f"no training within {_START_S:g} s")


def end_training(service: Running, job: str) -> None:
    """Cancels it, and waits for its processes to be gone."""
    with _client(service) as client:
        client.delete(f"/api/jobs/{job}").raise_for_status()
    until = time.monotonic() + 30
    while service.process.children(recursive=True) and time.monotonic() < until:
        time.sleep(0.05)


def cpu_s(process: psutil.Process) -> float:
    """Seconds of the processor that the training's processes used, those that have ended too."""
    total = 0.0
    for one in process.children(recursive=True):
        try:
            total += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def judged(
    alone: list[Offered], trained: list[Offered], share: list[float], rate: float
) -> dict[str, Any]:
    """The medians of the turns."""
    before, beside = [_p99(one) for one in alone], [_p99(one) for one in trained]
    p99, p99_trained = float(np.median(before)), float(np.median(beside))
    return {
        "rps_offered": rate,
        "requests": sum(one.requests for one in (*alone, *trained)),
        "errors": sum(_errors(one) for one in (*alone, *trained)),
        "p99_ms": round(p99, 2),
        "p99_training_ms": round(p99_trained, 2),
        "ratio": round(p99_trained / p99, 2),
        "p99_ms_turns": [round(one, 2) for one in before],
        "p99_training_ms_turns": [round(one, 2) for one in beside],
        "training_cpu_share": round(float(np.mean(share)), 2),
    }


def _errors(load: Offered) -> int:
    return load.lost + sum(one.status != 200 for one in load.answers)


def _p99(load: Offered) -> float:
    return float(np.quantile([one.ms for one in load.answers], 0.99))


def _client(service: Running) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers=dict(service.headers), timeout=30)


def show(result: dict[str, Any]) -> None:
    """The table."""
    table = Table(title="decisions beside a training", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
