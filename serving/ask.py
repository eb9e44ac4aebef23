"""Decisions for a file of requests, such as `python -m nef.requests` writes.

    python -m serving.ask requests.csv --output decisions.csv

One row comes out for each that went in; a request that is refused keeps its reason in `refusal`.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.progress import Progress

from schemas.errors import QosError
from serving.client import Access, DecisionClient, DecisionServiceError, decide_briefly
from serving.requests import MOST_IN_BATCH

READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": pl.read_csv, ".json": pl.read_json, ".ndjson": pl.read_ndjson,
    ".parquet": pl.read_parquet,
}  # fmt: skip
WRITERS: dict[str, str] = {
    ".csv": "write_csv", ".json": "write_json", ".ndjson": "write_ndjson",
    ".parquet": "write_parquet",
}  # fmt: skip
THRESHOLDS = {"throughput_mbps": "downlink_mbps", "latency_ms": "delay_ms",
              "loss_ratio": "loss_ratio", "jitter_ms": "jitter_ms"}  # fmt: skip
SCHEMA = {
    "request_id": pl.String, "ue_id": pl.String, "decision": pl.String, "reason": pl.String,
    "predicted_antenna": pl.String, "confidence": pl.Float64, "required_confidence": pl.Float64,
    "model_version": pl.String, "decision_id": pl.String, "refusal": pl.String,
}  # fmt: skip


def asked_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row of requests as the service is asked; what is null or absent is left out."""
    limits = {to: row[name] for name, to in THRESHOLDS.items() if row.get(name) is not None}
    asked = {
        "ue_id": row.get("ue_id"), "five_qi": row.get("five_qi"), "priority": row.get("priority"),
        "service_class": row.get("service_type"), "connected_to": row.get("cell_id"),
        "thresholds": limits or None,
    }  # fmt: skip
    return {name: value for name, value in asked.items() if value is not None}


def decisions(
    service: DecisionClient, rows: pl.DataFrame, done: Callable[[int], None] = lambda rows: None
) -> pl.DataFrame:
    """One decision a request, in their order: the columns of `SCHEMA`. confidence: of the chosen cell,
    0 where nothing could be scored; all but request_id and refusal are null for a refused request.
    """
    found: list[dict[str, Any]] = []
    for part in rows.iter_slices(MOST_IN_BATCH):
        found += _batch(service, part.to_dicts())
        done(part.height)
    return pl.DataFrame(found, schema=SCHEMA)


def _batch(service: DecisionClient, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    requests = [asked_of(row) for row in rows]
    refused = [_refusal(one) for one in requests]
    good = [one for one, why in zip(requests, refused, strict=True) if why is None]
    replies = iter(service.decide_batch(good) if good else [])
    for row, why in zip(rows, refused, strict=True):
        told: dict[str, Any] = {"request_id": row.get("request_id"), "refusal": why}
        if why is None:
            reply = next(replies)
            told |= {name: getattr(reply, name) for name in SCHEMA if hasattr(reply, name)}
            told["model_version"] = reply.model.version
        yield {name: told.get(name) for name in SCHEMA}


def _refusal(asked: dict[str, Any]) -> str | None:
    try:
        decide_briefly(asked)  # checks it, and sends nothing
    except DecisionServiceError as error:
        return str(error)
    return None


def main(
    requests: Annotated[Path, typer.Argument(help="CSV, JSON, NDJSON or Parquet, by its suffix.")],
    output: Annotated[Path, typer.Option(help="The file to write; its suffix tells its form.")],
    url: Annotated[str, typer.Option(help="Of the service.")] = "http://127.0.0.1:5050",
    api_key: Annotated[
        str | None, typer.Option(envvar="ML_API_KEY", help="A key for the role predict.")
    ] = None,
) -> None:
    """Asks the decision service for every request of a file."""
    try:
        for path, kinds in ((requests, READERS), (output, WRITERS)):
            if path.suffix not in kinds:
                raise QosError(f"{path}: {path.suffix!r} is none of {', '.join(kinds)}")
        if not requests.exists():
            raise QosError(f"{requests}: no such file; `python -m nef.requests` makes one")
        rows = READERS[requests.suffix](requests)
        with (
            DecisionClient(url, Access(api_key=api_key), timeout_s=60) as service,
            Progress(console=Console(stderr=True), transient=True) as progress,
        ):
            task = progress.add_task("decisions", total=rows.height)
            found = decisions(service, rows, lambda count: progress.advance(task, count))
    except (QosError, pl.exceptions.PolarsError) as error:
        sys.exit(str(error))
    getattr(found, WRITERS[output.suffix])(output)
    counts = found["decision"].value_counts(sort=True).drop_nulls().rows()
    told = ", ".join(f"{count} {decision}" for decision, count in counts)
    refused = found.height - found["refusal"].null_count()
    print(f"{output}: {found.height} requests: {told or 'no decision'}, {refused} refused")


if __name__ == "__main__":
    typer.run(main)
