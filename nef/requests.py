"""Generates QoS requests within the service classes' envelopes: `python -m nef.requests --help`."""

import glob
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
import typer

from schemas.errors import QosError
from schemas.service_class import SERVICE_CLASSES, Range, ServiceClassName

Floats = npt.NDArray[np.float64]
MIXES: dict[str, dict[ServiceClassName, float]] = {
    "balanced": {"urllc": 0.25, "embb": 0.35, "mmtc": 0.25, "default": 0.15},
    "embb-heavy": {"urllc": 0.10, "embb": 0.60, "mmtc": 0.15, "default": 0.15},
    "urllc-heavy": {"urllc": 0.60, "embb": 0.20, "mmtc": 0.10, "default": 0.10},
    "mmtc-heavy": {"urllc": 0.10, "embb": 0.20, "mmtc": 0.60, "default": 0.10},
    "uniform": {"urllc": 0.25, "embb": 0.25, "mmtc": 0.25, "default": 0.25},
}
MAX_RECORDS = 5_000_000
MAPPING = """\
# How the `table` source reads the requests; made with them by `python -m nef.requests`.
files: {files}
format: {format}
event_time: {{column: event_timestamp, format: iso}}
ue: ue_id
session: session_id
tables:
  qos_request:
    columns:
      request_id: request_id
      five_qi: five_qi
      requested_downlink_mbps: {{column: throughput_mbps, unit: Mbps}}
      requested_delay_ms: {{column: latency_ms, unit: ms}}
      requested_loss_ratio: {{column: loss_ratio, unit: ratio}}
"""


class Format(StrEnum):
    """File formats."""

    csv = "csv"
    json = "json"
    ndjson = "ndjson"
    parquet = "parquet"


@dataclass(frozen=True)
class Plan:
    """weights: of the classes, any scale; ues: distinct subscribers; rate: requests a second, on
    average, from `start` on."""

    weights: dict[ServiceClassName, float]
    records: int = 1000
    seed: int = 0
    ues: int = 100
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    rate: float = 10.0


def requests(plan: Plan) -> pl.DataFrame:
    """One row a request, in time's order; equal plans give equal rows.

    latency_ms: one way, at most; throughput_mbps: downlink, at least; reliability_pct: at least, and
    loss_ratio what it leaves; priority 1..10, 10 the most important. Raises `QosError` for a plan
    that is none.
    """
    shares = _shares(plan)
    random = np.random.default_rng(plan.seed)
    classes = list(SERVICE_CLASSES.values())
    chosen = random.choice(len(classes), size=plan.records, p=shares)

    def drawn(ranges: list[Range], digits: int) -> Floats:
        low, mode, high = np.array([(r.low, r.mode, r.high) for r in ranges])[chosen].T
        values: Floats = np.round(random.triangular(low, mode, high), digits)
        return values

    delay = drawn([c.delay_range_ms for c in classes], 3)
    reliability = drawn([c.reliability_range_percent for c in classes], 5)
    downlink = drawn([c.downlink_range_mbps for c in classes], 3)
    least, most = np.array([c.priority_range for c in classes])[chosen].T
    seconds = np.cumsum(random.exponential(1 / plan.rate, plan.records))
    ue = random.integers(1, plan.ues + 1, plan.records)
    times = pl.Series((seconds * 1e6).astype(np.int64)).cast(pl.Duration("us"))
    number = pl.int_range(pl.len()).cast(pl.String).str.zfill(6)
    return pl.DataFrame(
        {
            "event_timestamp": times + plan.start,
            "ue": ue,
            "service_type": np.array([c.name for c in classes])[chosen],
            "five_qi": np.array([c.five_qi for c in classes])[chosen],
            "latency_ms": delay,
            "reliability_pct": reliability,
            "throughput_mbps": downlink,
            "priority": random.integers(least, most + 1),
            "loss_ratio": np.round((100 - reliability) / 100, 7),
        }
    ).select(
        pl.format("req_{}", number).alias("request_id"),
        "event_timestamp",
        pl.format("ue_{}", pl.col("ue").cast(pl.String).str.zfill(6)).alias("ue_id"),
        pl.format("session_{}", pl.col("ue").cast(pl.String).str.zfill(6)).alias("session_id"),
        pl.all().exclude("ue", "event_timestamp"),
    )


def _shares(plan: Plan) -> Floats:
    for name, value, high in (
        ("records", plan.records, MAX_RECORDS),
        ("ues", plan.ues, 999_999),
        ("rate", plan.rate, 1e6),
        ("seed", plan.seed + 1, 2**63),
    ):
        if not 0 < value <= high:
            raise QosError(f"{name}: {value}, must be above 0 and at most {high:g}")
    weights = np.array([plan.weights.get(name, 0.0) for name in SERVICE_CLASSES])
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise QosError(f"weights: {plan.weights}, must be 0 or more, and one of them above 0")
    shares: Floats = weights / weights.sum()
    return shares


def write(rows: pl.DataFrame, output: Path, kind: Format) -> None:
    """The file, replaced as a whole; times as ISO 8601 with Z but in Parquet."""
    texts = rows
    if kind != Format.parquet:
        time = pl.col("event_timestamp").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
        texts = rows.with_columns(time)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        match kind:
            case Format.csv:
                texts.write_csv(beside)
            case Format.json:
                texts.write_json(beside)
            case Format.ndjson:
                texts.write_ndjson(beside)
            case Format.parquet:
                texts.write_parquet(beside)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


def _weights(
    mix: str | None, own: dict[ServiceClassName, float | None]
) -> dict[ServiceClassName, float]:
    given = {name: weight for name, weight in own.items() if weight is not None}
    if not given:
        if (name := mix or "balanced") not in MIXES:
            raise QosError(f"--mix: unknown {name!r}; known: {list(MIXES)}")
        return MIXES[name]
    if mix is not None:
        raise QosError(f"--mix {mix} and own weights for {list(given)}: give one of them")
    return given


def _kind(output: Path, kind: Format | None) -> Format:
    if kind is not None:
        return kind
    suffix = {"jsonl": "ndjson"}.get(output.suffix[1:], output.suffix[1:])
    if suffix not in list(Format):
        raise QosError(f"--output {output}: no known suffix; add --format {'|'.join(Format)}")
    return Format(suffix)


_Weight = Annotated[float | None, typer.Option(help="Its weight, instead of a mix.")]
app = typer.Typer(add_completion=False)


@app.command()
def main(
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("requests.csv"),
    kind: Annotated[
        Format | None, typer.Option("--format", help="Else told by the file's suffix.")
    ] = None,
    records: Annotated[int, typer.Option(help="How many requests.")] = 1000,
    mix: Annotated[
        str | None,
        typer.Option("--mix", "--profile", help=f"{', '.join(MIXES)}; balanced without weights."),
    ] = None,
    urllc_weight: _Weight = None,
    embb_weight: _Weight = None,
    mmtc_weight: _Weight = None,
    default_weight: _Weight = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files.")] = 0,
    ues: Annotated[int, typer.Option(help="How many subscribers ask.")] = 100,
    start: Annotated[
        str, typer.Option(help="Time of the first, ISO 8601.")
    ] = "2025-01-01T00:00:00Z",
    rate: Annotated[float, typer.Option(help="Requests a second, on average.")] = 10.0,
    mapping: Annotated[
        bool, typer.Option(help="Also write the mapping for the `table` source, beside the file.")
    ] = True,
) -> None:
    """Writes QoS requests (no measurements, no labels) within the envelopes of the service classes."""
    own: dict[ServiceClassName, float | None] = {
        "urllc": urllc_weight,
        "embb": embb_weight,
        "mmtc": mmtc_weight,
        "default": default_weight,
    }
    try:
        chosen = _kind(output, kind)
        plan = Plan(_weights(mix, own), records, seed, ues, _time(start), rate)
        write(requests(plan), output, chosen)
        beside = output.with_suffix(".yaml")
        if mapping:
            files = json.dumps(glob.escape(output.name))
            text = MAPPING.format(files=files, format=chosen.value)
            beside.write_text(text, encoding="utf-8")
    except (QosError, OSError) as error:
        sys.exit(str(error))
    print(f"{output}: {records} requests")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise QosError(
            f"--start {text!r}: no ISO 8601 time, such as 2025-01-01T00:00:00Z"
        ) from None
    if time.tzinfo is None:
        raise QosError(f"--start {text!r}: bears no zone; add Z or an offset")
    return time.astimezone(UTC)


if __name__ == "__main__":
    app()
