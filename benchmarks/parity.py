"""Parity: a value is the same wherever it is asked for.

    python -m benchmarks.parity --probes 10000

Random (key, time) probes over five views: what two loops find is held against the as-of store, both
online stores materialised as at the probe's time, and two batch reads of the same time. Ends with 1 and
the first offender where one differs.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from feast import FeatureStore
from rich.console import Console
from rich.table import Table

from benchmarks.parity_probes import instants, make_probes, make_views
from benchmarks.redis_process import redis_server
from benchmarks.results_file import RESULTS, write_result
from tests.stores.conformance.harness import (
    Harness,
    OnlineHarness,
    entity_frame,
    quiet,
    read_online,
)  # fmt: skip
from tests.stores.conformance.stores import harness
from tests.stores.conformance.world import View, expected, references

Probe = dict[str, Any]
Answers = list[dict[str, tuple[Any, ...]]]  # of each probe: view to values
Tamper = Callable[[FeatureStore, datetime], None]
PATHS = ("offline", "sqlite", "redis", "pull_latest", "range")


@dataclass(frozen=True)
class Difference:
    """One probe to which a path gives another answer than the two loops."""

    path: str
    probe: Probe
    view: str
    found: tuple[Any, ...]
    wanted: tuple[Any, ...]

    def __str__(self) -> str:
        keys = ", ".join(f"{k}={v!r}" for k, v in self.probe.items() if k != "at")
        at = self.probe["at"].isoformat(timespec="microseconds")
        return f"{self.path}: {self.view} of {keys} at {at}: {self.found} instead of {self.wanted}"


def main(
    probes: Annotated[int, typer.Option(help="random (key, time) pairs")] = 10_000,
    rows: Annotated[int, typer.Option(help="feature rows a view, about")] = 3_000,
    times: Annotated[int, typer.Option(help="instants that probes fall on")] = 36,
    seed: Annotated[int, typer.Option(help="of the probes and the rows")] = 7,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Compares all paths and prints how many probes differ on each."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as address:
        found = compare(Path(scratch), address, probes=probes, rows=rows, times=times, seed=seed)
    table = Table(title="parity with two loops", title_justify="left")
    for name in ("path", "probes", "differences"):
        table.add_column(name, justify="left" if name == "path" else "right")
    by_path = {p: {"probes": probes, "differences": len(d)} for p, d in found.items()}
    for path, counts in by_path.items():
        table.add_row(path, f"{probes:,}", f"{counts['differences']:,}")
    Console().print(table)
    total = sum(counts["differences"] for counts in by_path.values())
    result = {"probes": probes, "differences": total, "by_path": by_path}
    print(write_result("parity", result | {"seconds": round(time.monotonic() - started, 1)}, out))
    for differences in found.values():
        if differences:
            sys.exit(f"{total:,} differences; the first: {differences[0]}")


def compare(
    folder: Path,
    redis_address: str,
    *,
    probes: int,
    rows: int,
    times: int,
    seed: int,
    tamper: Tamper | None = None,
) -> dict[str, list[Difference]]:
    """The differing probes of each path, in the probes' order.

    tamper: is called with each online store after each materialisation, to plant a fault.
    """
    at = instants(times)
    asked = make_probes(probes, at, seed)
    views = make_views(rows, at, seed)
    wanted = oracle(views, asked)
    stores = {name: harness(name, folder, redis_address) for name in ("asof", "sqlite", "redis")}
    answers = {"offline": offline(stores["asof"], views, asked)}
    for name in ("sqlite", "redis"):
        store = stores[name]
        assert isinstance(store, OnlineHarness)
        answers[name] = online(store, views, asked, tamper)
    answers["pull_latest"] = pull_latest(stores["asof"], views, asked)
    answers["range"] = ranges(stores["asof"], views, asked)
    return {path: _differences(path, asked, answers[path], wanted) for path in PATHS}


def oracle(views: Sequence[View], probes: Sequence[Probe]) -> Answers:
    """What two loops find, over the rows of each probe's key alone."""
    answers: Answers = [{} for _ in probes]
    for view in views:
        rows: dict[tuple[Any, ...], list[int]] = {}
        for number, row in enumerate(view.rows()):
            rows.setdefault(tuple(row[key] for key in view.keys), []).append(number)
        for key, numbers in _grouped(probes, view.keys).items():
            own = View(
                view.name,
                view.table.take(rows.get(key, pa.array([], pa.int64()))),
                view.keys,
                view.ttl,
            )
            found = expected([own], [probes[n] for n in numbers])
            for number, values in zip(numbers, found, strict=True):
                answers[number][view.name] = values
    return answers


def offline(store: Harness, views: Sequence[View], probes: Sequence[Probe]) -> Answers:
    """get_historical_features of all probes at once."""
    found = store.history(store.open(views), entity_frame(views, probes), references(views))
    rows = found.to_pylist()
    return [{view.name: tuple(row[f] for f in view.features) for view in views} for row in rows]


def online(
    store: OnlineHarness, views: Sequence[View], probes: Sequence[Probe], tamper: Tamper | None
) -> Answers:
    """get_online_features, after each instant's rows came to what was there before."""
    opened = store.open(views)
    answers: Answers = [{} for _ in probes]
    for (at,), numbers in sorted(_grouped(probes, ("at",)).items()):
        store.materialize_as_at(opened, views, at)
        if tamper:
            tamper(opened, at)
        keys = [{k: v for k, v in probes[n].items() if k != "at"} for n in numbers]
        found = read_online(opened, references(views), keys, at)
        for number, values in zip(numbers, found, strict=True):
            answers[number] = _by_view(views, values)
    return answers


def pull_latest(store: Harness, views: Sequence[View], probes: Sequence[Probe]) -> Answers:
    """The newest rows within the ttl of each instant, of the source as it was then."""
    answers: Answers = [{} for _ in probes]
    opened = store.open(views)
    provider: Any = opened._get_provider()
    for (at,), numbers in _grouped(probes, ("at",)).items():
        for view in views:
            known = view.known_at(at)
            known.written(known.path_in(Path(str(opened.config.repo_path))), known.table)
            with quiet():
                rows = provider.offline_store.pull_latest_from_table_or_query(
                    config=opened.config,
                    data_source=opened.get_feature_view(view.name).batch_source,
                    join_key_columns=list(view.keys), feature_name_columns=list(view.features),
                    timestamp_field=view.event, created_timestamp_column=view.created,
                    start_date=at - view.ttl if view.ttl else datetime.fromtimestamp(0, at.tzinfo),
                    end_date=at,
                ).to_arrow().to_pylist()  # fmt: skip
            _fill(answers, probes, numbers, view, rows)
    return answers


def ranges(store: Harness, views: Sequence[View], probes: Sequence[Probe]) -> Answers:
    """get_historical_features without an entity frame: a snapshot of all keys at each instant."""
    answers: Answers = [{} for _ in probes]
    opened = store.open(views, **store.offline_store(without_entity_df="snapshot"))
    for (at,), numbers in _grouped(probes, ("at",)).items():
        for view in views:
            start = at - view.ttl if view.ttl else datetime.fromtimestamp(0, at.tzinfo)
            rows = store.history(
                opened, None, references([view]), start_date=start, end_date=at
            ).to_pylist()
            _fill(answers, probes, numbers, view, rows)
    return answers


def _fill(
    answers: Answers, probes: Sequence[Probe], numbers: list[int], view: View, rows: list[Any]
) -> None:
    """Gives each probe the row of its key."""
    of_key = {
        tuple(row[k] for k in view.keys): tuple(row[f] for f in view.features) for row in rows
    }
    none = (None,) * len(view.features)
    for number in numbers:
        key = tuple(probes[number][k] for k in view.keys)
        answers[number][view.name] = of_key.get(key, none)


def _by_view(views: Sequence[View], values: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    found = {}
    for view in views:
        found[view.name], values = values[: len(view.features)], values[len(view.features) :]
    return found


def _grouped(probes: Sequence[Probe], names: Sequence[str]) -> dict[tuple[Any, ...], list[int]]:
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, probe in enumerate(probes):
        groups.setdefault(tuple(probe[name] for name in names), []).append(number)
    return groups


def _differences(
    path: str, probes: Sequence[Probe], answers: Answers, wanted: Answers
) -> list[Difference]:
    return [
        next(
            Difference(path, probe, view, found[view], right[view])
            for view in right
            if found[view] != right[view]
        )
        for probe, found, right in zip(probes, answers, wanted, strict=True)
        if found != right
    ]


if __name__ == "__main__":
    typer.run(main)
