"""Online reads from a real Redis: our reader, raw pipelines of the same fields, stock Feast.

    python -m benchmarks.online --features 20 --keys 5000

Three views of one entity. All sides read the same keys in turns within one process. Ours decodes to a
float64 matrix with status and ages; the raw sides decode nothing: one HMGET an entity and view in one
pipeline, which is what the ratios are against, and one HMGET an entity (`merged`).
"""

import random
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.online_side import (
    Side,
    feast,
    fill,
    names_of,
    open_store,
    ours,
    percentiles,
    raw,
)
from benchmarks.redis_process import redis_server
from benchmarks.results_file import RESULTS, write_result

CALLS_A_TURN = 10


def main(
    features: Annotated[int, typer.Option(help="of each of the three views")] = 20,
    keys: Annotated[int, typer.Option(help="entities in the store")] = 5_000,
    entities: Annotated[int, typer.Option(help="of the large read")] = 100,
    rounds: Annotated[int, typer.Option(help="turns of each side, of 10 calls each")] = 40,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures p50 and p99 of a read of 1 and of many entities on each side."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as address:
        folder, (host, port) = Path(scratch), address.split(":")
        store = open_store(folder, "stores.redis.BulkRedisOnlineStore", address, features)
        fill(store, keys, features)
        stock = open_store(folder, "redis", address, features)
        sides = {
            "ours": ours(store, features),
            "raw": raw(host, int(port), features, merged=False),
            "raw_merged": raw(host, int(port), features, merged=True),
            "feast": feast(stock, features),
        }
        check(sides, features, keys)
        times = measure(sides, keys, (1, entities), rounds)
    found = {side: percentiles(seconds) for side, seconds in times.items()}
    show(found)
    print(write_result("online", result(found, features, keys, entities), out))


def measure(
    sides: dict[str, Side], keys: int, sizes: tuple[int, int], rounds: int
) -> dict[tuple[str, int], list[float]]:
    """Seconds of each call of each side at each size; the sides take turns."""
    drawn = random.Random(5)
    times: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for size in sizes:
            for name, side in sides.items():
                calls = 2 if name == "feast" else CALLS_A_TURN
                for _ in range(calls):
                    asked = drawn.sample(range(keys), size)
                    if hasattr(side, "prepare"):
                        side.prepare(asked)
                    started = time.perf_counter()
                    side(asked)
                    seconds = time.perf_counter() - started
                    if turn:
                        times.setdefault((name, size), []).append(seconds)
    return times


def check(sides: dict[str, Side], features: int, keys: int) -> None:
    """Ours and Feast answer the same numbers. Raises AssertionError."""
    asked = list(range(min(keys, 50)))
    matrix = sides["ours"](asked)[0]
    answer = sides["feast"](asked).to_dict()
    names = [name for view in range(3) for name in names_of(view, features)]
    same = np.array([answer[name] for name in names], np.float64).T
    np.testing.assert_array_equal(matrix, same)


def result(
    found: dict[tuple[str, int], tuple[float, float]], features: int, keys: int, entities: int
) -> dict[str, Any]:
    """The keys of online.json; sizes other than 100 keep the name."""
    content: dict[str, Any] = {"features": features, "keys": keys, "entities": entities}
    for size, label in ((1, "1"), (entities, "100")):
        for side in ("ours", "raw", "raw_merged", "feast"):
            p50, p99 = found[side, size]
            content |= {f"{side}_p50_ms_{label}": round(p50, 4)}
            content |= {f"{side}_p99_ms_{label}": round(p99, 4)}
        mine = found["ours", size][0]
        content[f"ratio_{label}"] = round(mine / found["raw", size][0], 3)
        content[f"ratio_merged_{label}"] = round(mine / found["raw_merged", size][0], 3)
        content[f"speedup_over_feast_{label}"] = round(found["feast", size][0] / mine, 1)
    return content


def show(found: dict[tuple[str, int], tuple[float, float]]) -> None:
    """Prints a table."""
    table = Table(title="online read", title_justify="left")
    for name in ("side", "entities", "p50 ms", "p99 ms", "times ours"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for (side, size), (p50, p99) in sorted(found.items(), key=lambda item: item[0][1]):
        ratio = p50 / found["ours", size][0]
        table.add_row(side, str(size), f"{p50:.3f}", f"{p99:.3f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
