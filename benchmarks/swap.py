"""Models that take each other's place under load: `python -m benchmarks.swap`.

The real service process on a Redis and a registry of its own with two versions, which are swapped every
second. Every answer must name one version and give the probabilities that this version gives here, in
another process. Needs the features and the bundle of a finished run (`make run`). Writes `swap.json`;
exits with 1 where an answer is wrong or missing.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.decision_service import Running, decision_service
from benchmarks.decision_world import BUNDLE, FEATURES, Bundles, Features, decision_world
from benchmarks.paced_process import Answer, Offered, offered
from benchmarks.replay_world import decide, registered_bundle
from benchmarks.results_file import RESULTS, write_result
from lifecycle.bundles import load
from models.bundle import Bundle, bundle_of
from models.calibration import Calibration
from serving.live import load_live
from serving.replies import reply_of
from serving.requests import PredictRequest
from serving.score import WHOLE
from serving.state import CoreSettings

PATH = "/api/models/live"
Expected = dict[str, list[list[float | None]]]


def main(
    features: Features = FEATURES,
    bundle: Bundles = BUNDLE,
    rate: Annotated[float, typer.Option(help="requests a second that are offered")] = 200.0,
    swaps: Annotated[int, typer.Option(help="how many")] = 20,
    every: Annotated[float, typer.Option(help="seconds between two of them")] = 1.0,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures errors, wrong answers and latency, first without swaps and then with them."""
    with decision_world(features, bundle) as world:
        folder, repo, asked = world.folder, world.repo, world.asked
        trained, uri = load(bundle), f"sqlite:///{folder}/mlflow.db"
        versions = [registered_bundle(folder, b, uri)[1] for b in (trained, shifted(trained))]
        expected = {one: probabilities(one, uri, repo, asked) for one in versions}
        with decision_service(repo, versions[0], {"ML_REGISTRY_URI": uri}) as service:
            with offered(folder, service, asked, rate, 2.0):  # warms up
                pass
            with offered(folder, service, asked, rate, min(swaps * every, 10.0)) as quiet:
                pass
            with offered(folder, service, asked, rate, 1.0 + swaps * every + 1.0) as load_:
                time.sleep(1.0)
                took = swapped(service, versions, swaps, every)
    result = judged(quiet, load_, took, expected, rate)
    show(result)
    print(write_result("swap", result, out))
    if result["errors"] or result["wrong"] or result["swap_errors"]:
        sys.exit(f"missed: {result['errors']} errors, {result['wrong']} wrong answers")


def shifted(trained: Bundle) -> Bundle:
    """The same trees with another calibration: every probability is another one."""
    task = trained.tasks[WHOLE]
    task = replace(task, calibration=Calibration("platt", slope=0.7, intercept=0.45))
    made = {"files", "digest", "format"}  # by `bundle_of`
    manifest = {name: one for name, one in trained.manifest.items() if name not in made}
    return bundle_of(manifest, trained.tasks | {WHOLE: task})


def probabilities(
    version: str, uri: str, repo: Path, asked: Sequence[dict[str, Any]]
) -> list[list[float | None]]:
    """What a version answers to each request, computed in this process; one entry a candidate."""
    patient = CoreSettings(model=version, registry_uri=uri, profile="redis", repo=repo, store_s=5.0)
    requests = [PredictRequest.model_validate(one) for one in asked]
    made = decide(load_live(patient), requests)
    return [[cell["probability"] for cell in reply_of(one)["candidates"]] for one in made]


def swapped(
    service: Running, versions: Sequence[str], swaps: int, every: float
) -> list[tuple[float, int]]:
    """Seconds that each swap took, and its status."""
    took: list[tuple[float, int]] = []
    begin = time.perf_counter()
    with httpx.Client(headers=dict(service.headers), timeout=30) as client:
        for number in range(swaps):
            time.sleep(max(0.0, begin + number * every - time.perf_counter()))
            asked = {"model": versions[(number + 1) % len(versions)]}
            began = time.perf_counter()
            status = client.post(service.url + PATH, json=asked).status_code
            took.append((time.perf_counter() - began, status))
    return took


def judged(
    quiet: Offered, load_: Offered, took: Sequence[tuple[float, int]], expected: Expected,
    rate: float,
) -> dict[str, Any]:  # fmt: skip
    """wrong: answers of no version, or with probabilities that are not their version's."""
    named = Counter(_version(one) for one in load_.answers)
    scored = [one for one in load_.answers if _scored(one)]
    seconds = [one for one, _ in took]
    return {
        "rps_offered": rate,
        "requests": load_.requests,
        "errors": load_.lost + sum(one.status != 200 for one in load_.answers),
        "swaps": sum(status == 200 for _, status in took),
        "swap_errors": sum(status != 200 for _, status in took),
        "swap_p50_ms": round(float(np.median(seconds)) * 1e3, 1),
        "swap_max_ms": round(max(seconds) * 1e3, 1),
        "answers_by_version": dict(sorted(named.items())),
        "checked": len(scored),
        "wrong": sum(not _right(one, expected) for one in load_.answers),
        "p99_without_ms": _p99(quiet),
        "p99_ms": _p99(load_),
        "max_ms": round(max(one.ms for one in load_.answers), 2),
    }


def _version(one: Answer) -> str:
    return one.said["model"]["version"] if one.said and "model" in one.said else "none"


def _scored(one: Answer) -> bool:
    cells = (one.said or {}).get("candidates", ())
    return any(cell["probability"] is not None for cell in cells)


def _right(one: Answer, expected: Expected) -> bool:
    """Whether its probabilities are its version's; one that was not scored (a fallback) has none."""
    if _version(one) not in expected:
        return False
    if not _scored(one):
        return True
    found = [cell["probability"] for cell in one.said["candidates"]] if one.said else []
    return found == expected[_version(one)][one.number]


def _p99(load_: Offered) -> float:
    return round(float(np.quantile([one.ms for one in load_.answers], 0.99)), 2)


def show(result: dict[str, Any]) -> None:
    """The table."""
    table = Table(title="models swapped under load", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
