"""Labelled decisions to train on: checked, pseudonymised and gated, in a process of their own.

`python -m serving.samples` reads a request of training from its standard input and writes one line of
JSON (what was found) and, if that is good, the frame as Parquet. Raw subscriber ids are on no disk.
"""

import io
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

import dataframely as dy
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from feature_repo.services import SERVICES
from lifecycle.pseudonym import pseudonym, read_key, scrub
from schemas.nef.wire import faults_of
from schemas.tables import TABLES
from serving.requests import Moment

SERVICE = next(one for one in SERVICES if one.name == "qos_v1")
MOST_SAMPLES = 500_000
MIN_ACCEPTANCE = 0.9  # as the pipeline's own gate: a smaller share of good rows is refused
KEYS = ["task", "ue_id", "session_id", "five_qi", "event_timestamp"]
_PSEUDONYM = re.compile(r"ue-[0-9a-f]{20}")
Source = Literal["frame", "simulator", "ucc5g", "taiwan_ho", "nef", "table"]
Task = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Capture = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=128)]
_STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True
)


class Sample(BaseModel):
    """A decision and how it turned out.

    features: by name, null or absent = unknown; label: 1 if the task's event came; label_value: its
    continuous target (Mbps or ms); label_until: when the outcome was known, default 10 s later;
    persistence_score: what the past alone would say, higher for a likelier event (the baseline);
    session_id: what belongs together, default the UE's day.
    """

    model_config = _STRICT

    task: Task = "qos_met"
    ue_id: Text
    event_timestamp: Moment
    label: int = Field(ge=0, le=1)
    features: dict[str, float | None] = Field(max_length=1000)
    five_qi: int = 9
    cell_id: Text | None = None
    session_id: Text | None = None
    label_until: Moment | None = None
    label_value: float | None = None
    persistence_score: float | None = None
    persistence_value: float | None = None


class TrainRequest(BaseModel):
    """What to learn from: samples, a source, or a capture. `frame` is the pipeline's assembled frame;
    any other source is collected anew and taken through all stages, `nef` from the newest capture.
    capture: the name of one, or the job that still makes it. tasks: those to learn, default all."""

    model_config = _STRICT | ConfigDict(
        json_schema_extra={"examples": [{"source": "frame", "tasks": ["qos_met"]}]}
    )

    source: Source | None = None
    capture: Capture | None = None
    samples: list[Sample] | None = Field(default=None, min_length=1, max_length=MOST_SAMPLES)
    tasks: list[Task] = Field(default=[], max_length=64)
    seed: int = Field(default=7, ge=0, le=2**31 - 1)

    @model_validator(mode="before")
    @classmethod
    def _a_capture_is_of_a_nef(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("capture") is not None and not given.get("source"):
            return given | {"source": "nef"}
        return given

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.source is None) == (self.samples is None):
            raise ValueError("give either a source or a capture or samples")
        if self.capture is not None and self.source != "nef":
            raise ValueError(f"capture: is of source 'nef', not of {self.source!r}")
        known = {feature.name for feature in SERVICE.features()}
        for place, sample in enumerate(self.samples or ()):
            if unknown := sorted(set(sample.features) - known):
                raise ValueError(
                    f"samples.{place}.features: {SERVICE.name} has no {unknown[0][:64]!r}"
                )
        return self


def gate(samples: list[Sample], key: bytes, now: datetime) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The admitted rows in the columns of the pipeline's frame, and {rows, admitted, by_reason}.

    Keys, times and requested amounts keep the contract of `qos_request`, features their declared range;
    of equal keys the last one counts.
    """
    rows = pl.DataFrame([_row(sample, key) for sample in samples], schema=_dtypes(), orient="row")
    numbered = rows.with_row_index("row_number").with_columns(pl.col("row_number").cast(pl.Int64))
    broken = _contract().filter(numbered).failure
    reasons: dict[str, int] = {}
    bad = broken.invalid()["row_number"]
    for rule, count in broken.counts().items():
        reasons[rule.replace("|", ": ")] = count
    good = numbered.filter(~pl.col("row_number").is_in(bad.implode()))
    late = good.filter(pl.col("label_until") > now)
    if len(late):
        reasons["label_until: not yet"] = len(late)
        good = good.filter(pl.col("label_until") <= now)
    single = good.unique(KEYS, keep="last", maintain_order=True)
    if len(single) < len(good):
        reasons["duplicate"] = len(good) - len(single)
    account = {"rows": len(rows), "admitted": len(single), "by_reason": reasons}
    return single.drop("row_number"), account


def read(body: bytes, now: datetime) -> tuple[dict[str, Any], bytes]:
    """What was found in a request's body ({status, faults, account, tasks, seed}) and its frame."""
    try:
        asked = TrainRequest.model_validate_json(body)
    except ValidationError as error:
        broken = error.errors(include_input=False)[0]["type"] == "json_invalid"
        return {"status": 400 if broken else 422, "faults": faults_of(error)[:20]}, b""
    if asked.samples is None:
        return {"status": 422, "faults": [("source", "such a request is short")]}, b""
    frame, account = gate(asked.samples, read_key(), now)
    if account["admitted"] < MIN_ACCEPTANCE * account["rows"]:
        told = (
            f"{account['admitted']} of {account['rows']} keep the contracts, at least "
            f"{MIN_ACCEPTANCE:.0%} must: {account['by_reason']}"
        )
        return {"status": 422, "faults": [("samples", told)], "account": account}, b""
    out = io.BytesIO()
    frame.write_parquet(out)
    found = {"status": 200, "account": account, "tasks": asked.tasks, "seed": asked.seed}
    return found, out.getvalue()


def _row(sample: Sample, key: bytes) -> dict[str, Any]:
    known = _PSEUDONYM.fullmatch(sample.ue_id) is not None
    ue = sample.ue_id if known else pseudonym(sample.ue_id, key)
    at = sample.event_timestamp.astimezone(UTC)
    session = f"{ue}-{at:%Y%m%d}" if sample.session_id is None else scrub(sample.session_id, key)
    asked = {f"requested_{n}": sample.features.get(f"request_{n}") for n in _AMOUNTS}
    return (
        sample.model_dump(exclude={"features"})
        | {
            "ue_id": ue,
            "session_id": session,
            "event_timestamp": at,
            "label_until": (sample.label_until or at + timedelta(seconds=10)).astimezone(UTC),
        }
        | asked
        | {feature.name: sample.features.get(feature.name) for feature in SERVICE.features()}
    )


_AMOUNTS = ("downlink_mbps", "delay_ms", "loss_ratio")


def _columns() -> dict[str, dy.Column]:
    """Those of the frame, in its order, without the features."""
    request = TABLES["qos_request"].columns()
    at = {"time_zone": "UTC", "time_unit": "us"}
    shared = ("ue_id", "session_id", "cell_id", "five_qi", "event_timestamp")
    return (
        {"task": dy.String(nullable=False)}
        | {name: request[name] for name in shared}
        | {f"requested_{name}": dy.Float64(nullable=True) for name in _AMOUNTS}
        | {
            "label": dy.Int8(min=0, max=1, nullable=False),
            "label_value": dy.Float64(nullable=True),
            "persistence_score": dy.Float64(nullable=True),
            "persistence_value": dy.Float64(nullable=True),
            "label_until": dy.Datetime(nullable=False, **at),  # type: ignore[arg-type]
        }
    )


def _dtypes() -> dict[str, Any]:
    own: dict[str, Any] = {name: column.dtype for name, column in _columns().items()}
    return own | {feature.name: pl.Float64 for feature in SERVICE.features()}


def _contract() -> type[dy.Schema]:
    features = {
        feature.name: dy.Float64(nullable=True, min=feature.low, max=feature.high)
        for feature in SERVICE.features()
    }

    def label_before_event() -> pl.Expr:
        return pl.col("label_until") >= pl.col("event_timestamp")

    keyed = {"row_number": dy.Int64(primary_key=True)} | {
        name: _without_key(column) for name, column in _columns().items()
    }
    rule = {"label_before_event": dy.rule()(lambda cls: label_before_event())}
    return type("Samples", (dy.Schema,), keyed | features | rule)


def _without_key(column: dy.Column) -> dy.Column:
    """Equal keys are counted apart, so that the last one stays."""
    import copy

    plain = copy.copy(column)
    plain.primary_key = False
    return plain


def main() -> None:
    """Standard input to standard output."""
    found, frame = read(sys.stdin.buffer.read(), datetime.now(UTC))
    sys.stdout.buffer.write(json.dumps(found).encode() + b"\n" + frame)


if __name__ == "__main__":
    main()
