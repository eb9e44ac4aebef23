"""The decision service while its Redis hangs, and while it is gone: `python -m benchmarks.outage`.

The real service process under a steady load. Redis is stopped (it accepts and never answers), goes on,
is killed, and comes back with the same data. Needs the features and the bundle of a finished run
(`make run`). Writes `outage.json`; exits with 1 where a target is missed.
"""

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.decision_service import Running, decision_service
from benchmarks.decision_world import BUNDLE, FEATURES, Bundles, Features, decision_world
from benchmarks.paced_process import Answer, Offered, offered
from benchmarks.redis_process import redis_server
from benchmarks.results_file import RESULTS, write_result

AWAY = "store_away"
BEFORE_S, AFTER_S = 3.0, 5.0
WINDOW_S, SHARE = 0.5, 0.99  # so much of a window without AWAY is a service that has recovered
MOST_MS, MOST_RECOVERY_S = 50.0, 2.0
Ends = Callable[[], tuple[float, float]]


def main(
    features: Features = FEATURES,
    bundle: Bundles = BUNDLE,
    rate: Annotated[float, typer.Option(help="requests a second that are offered")] = 200.0,
    down: Annotated[float, typer.Option(help="seconds that Redis is away, each time")] = 10.0,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures errors, fallback latency and recovery, for a Redis that hangs and for one that dies."""
    with contextlib.ExitStack() as servers:
        world = servers.enter_context(decision_world(features, bundle))
        folder, repo, asked = world.folder, world.repo, world.asked
        port = int(world.address.rpartition(":")[2])
        faults: dict[str, Callable[[], Ends]] = {
            "hangs": lambda: hang(port),
            "dies": lambda: kill(port, folder, servers),
        }
        found = {}
        with decision_service(repo, str(bundle)) as service:
            with offered(folder, service, asked, rate, 2.0):  # warms up
                pass
            for name, fault in faults.items():
                found[name] = phase(folder, service, asked, rate, down, fault)
    show(found)
    result = summary(found, rate, down)
    print(write_result("outage", result, out))
    if missed := misses(result):
        sys.exit(f"missed: {'; '.join(missed)}")


def phase(
    folder: Path, service: Running, asked: Sequence[dict[str, Any]], rate: float, down: float,
    fault: Callable[[], Ends],
) -> dict[str, Any]:  # fmt: skip
    """What the requests before, during and after a fault of `down` seconds were told."""
    with offered(folder, service, asked, rate, 1.0 + BEFORE_S + down + AFTER_S) as load:
        time.sleep(1.0 + BEFORE_S)
        end = fault()
        gone = time.time()
        time.sleep(down)
        coming, back = end()
    return judged(load, gone, coming, back)


def judged(load: Offered, gone: float, coming: float, back: float) -> dict[str, Any]:
    """gone, coming, back: when Redis went, may have answered again and did; seconds since 1970."""
    away = [one for one in load.answers if _reason(one) == AWAY]
    during = [one for one in load.answers if gone <= one.due < coming]
    caught = gone - MOST_MS / 1e3  # what was under way when Redis went is of the outage too
    took = np.array([one.ms for one in away if caught <= one.due < back] or [np.nan])
    return {
        "seconds_down": round(back - gone, 3),
        "requests": load.requests,
        "answers_while_away": len(during),
        "server_errors": load.server_errors,
        "fallback_p50_ms": round(float(np.quantile(took, 0.5)), 2),
        "fallback_p99_ms": round(float(np.quantile(took, 0.99)), 2),
        "fallback_max_ms": round(float(took.max()), 2),
        "recovery_s": recovery(load.answers, back),
        "other_reasons_while_away": sum(_reason(one) != AWAY for one in during),
        "made_up": sum(map(_made_up, away)),
        "away_before": sum(one.due < caught for one in away),
        "reasons": dict(Counter(map(_reason, load.answers)).most_common()),
    }


def recovery(answers: Sequence[Answer], back: float) -> float | None:
    """Seconds from Redis' return to the first request from which on the store's share is back for a
    window; None: never."""
    after = sorted((one.due, _reason(one) != AWAY) for one in answers if one.due >= back)
    dues = np.array([due for due, _ in after])
    well = np.array([ok for _, ok in after], float)
    for at, due in enumerate(dues):
        here = well[at : np.searchsorted(dues, due + WINDOW_S)]
        if dues[-1] >= due + WINDOW_S and well[at] and here.mean() > SHARE:
            return round(float(due - back), 3)
    return None


def _reason(one: Answer) -> str:
    return f"status {one.status}" if one.said is None else one.said.get("reason", "no reason")


def _made_up(one: Answer) -> bool:
    """Whether a fallback states what only the store or the model could know, or is none."""
    said = one.said or {}
    scored = any(cell["probability"] is not None for cell in said["candidates"])
    return bool(scored or said["features"] or said["confidence"]) or (
        said["decision"] != "fallback_a3"
    )


def summary(found: dict[str, dict[str, Any]], rate: float, down: float) -> dict[str, Any]:
    """The worst of the phases, and each of them."""
    phases = list(found.values())
    recovered = [one["recovery_s"] for one in phases]
    reasons: Counter[str] = Counter()
    for one in phases:
        reasons.update(one["reasons"])
    return {
        "seconds_down": down,
        "rps_offered": rate,
        "requests": sum(one["requests"] for one in phases),
        "answers_while_away": sum(one["answers_while_away"] for one in phases),
        "server_errors": sum(one["server_errors"] for one in phases),
        "fallback_p99_ms": max(one["fallback_p99_ms"] for one in phases),
        "fallback_max_ms": max(one["fallback_max_ms"] for one in phases),
        "recovery_s": None if None in recovered else max(recovered),
        "other_reasons_while_away": sum(one["other_reasons_while_away"] for one in phases),
        "made_up": sum(one["made_up"] for one in phases),
        "reasons": dict(reasons.most_common()),
        "phases": found,
    }


def misses(result: dict[str, Any]) -> list[str]:
    """The targets that were not met, in words."""
    recovered, wrong = result["recovery_s"], []
    if result["server_errors"]:
        wrong.append(f"{result['server_errors']} server errors")
    if not result["fallback_p99_ms"] <= MOST_MS:
        wrong.append(f"fallback p99 {result['fallback_p99_ms']} ms, at most {MOST_MS:g}")
    if recovered is None or recovered > MOST_RECOVERY_S:
        wrong.append(f"recovery after {recovered} s, at most {MOST_RECOVERY_S:g}")
    if result["made_up"]:
        wrong.append(f"{result['made_up']} fallbacks state what nobody knew")
    if result["other_reasons_while_away"]:
        wrong.append(f"{result['other_reasons_while_away']} answers gave another reason")
    return wrong


def hang(port: int) -> Ends:
    """Redis is there and never answers; what ends that tells from when to when it did."""
    process = _process(port)
    os.kill(process, signal.SIGSTOP)

    def resume() -> tuple[float, float]:
        os.kill(process, signal.SIGCONT)
        return time.time(), time.time()

    return resume


def kill(port: int, folder: Path, servers: contextlib.ExitStack) -> Ends:
    """Redis is killed after it has saved; what ends that starts it on the same port and data."""
    with _client(port) as client:
        client.save()
    os.kill(_process(port), signal.SIGKILL)

    def restart() -> tuple[float, float]:
        coming = time.time()
        servers.enter_context(redis_server(folder, port=port))
        return coming, time.time()

    return restart


def _process(port: int) -> int:
    with _client(port) as client:
        return int(client.info("server")["process_id"])


@contextlib.contextmanager
def _client(port: int) -> Iterator[Any]:
    with redis.Redis(host="127.0.0.1", port=port, socket_timeout=10) as client:
        yield client


def show(found: dict[str, dict[str, Any]]) -> None:
    """The table."""
    table = Table(title="decision service without its store", title_justify="left")
    table.add_column("what")
    for name in found:
        table.add_column(f"Redis {name}", justify="right")
    for what in next(iter(found.values())):
        table.add_row(what, *(str(one[what]) for one in found.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
