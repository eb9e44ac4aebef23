"""The prediction tasks: when a decision is taken, what then happens, and what the past would say.

Each task is a function of the admitted tables and its own section of `label` in params.yaml. It
returns decisions with `label` (1: the task's event), `label_value` (the continuous target, or null)
and, from what had arrived by then, `persistence_score` and `persistence_value`. Decisions whose
future is not whole in the recording, or not measured, are left out and counted by reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from feature_repo import compute
from feature_repo.windows import Derived, View, of
from schemas.five_qi import DEFAULT_FIVE_QI
from schemas.tables import HANDOVER_KINDS, UTC_US

Tables = Mapping[str, pl.DataFrame]
EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
FLOW = ["ue_id", "five_qi"]
SESSION = "session_id"


@dataclass(frozen=True)
class Throughput:
    """Mean downlink of the next `horizon_s` against the requested rate, where demand is no limit."""

    requested_downlink_mbps: float = 10.0
    horizon_s: int = 10
    stride_s: int = 1


@dataclass(frozen=True)
class Handover:
    """Any handover in the next `horizon_s`."""

    horizon_s: int = 3
    stride_s: int = 2


@dataclass(frozen=True)
class LatencyLoss:
    """A lost packet, or a one-way delay over `delay_ms`, in the next `horizon_s`."""

    delay_ms: float = 100.0
    horizon_s: int = 3
    stride_s: int = 2


@dataclass(frozen=True)
class QosMet:
    """All thresholds of a request met over the next `horizon_s`."""

    horizon_s: int = 10


@dataclass(frozen=True)
class Labelled:
    """The decisions of one task and, by reason, how many were left out."""

    rows: pl.DataFrame
    left_out: dict[str, int]


def throughput(tables: Tables, params: Throughput) -> Labelled:
    """1: the mean downlink of the next seconds reaches the requested rate; value: that mean, Mbps."""
    flow = tables["ue_flow"].filter(pl.col("downlink_capacity_mbps").is_not_null())
    decisions = _decisions(flow, [*FLOW, SESSION, "cell_id"], params.stride_s)
    rate = pl.col("downlink_capacity_mbps")
    ahead = _ahead(decisions, flow, [*FLOW, SESSION], params.horizon_s, {
        "label_value": rate.mean(), "_measured": rate.count(),
    })  # fmt: skip
    past = _past(flow, decisions, FLOW, "downlink_capacity_mbps", rate, "mean", 5)
    asked = params.requested_downlink_mbps
    whole = pl.col("_measured") >= params.horizon_s / 2
    return _labelled(
        ahead.join(past, on=[*FLOW, ARRIVAL], how="left").with_columns(
            requested_downlink_mbps=pl.lit(asked),
            label=pl.when(whole).then(pl.col("label_value") >= asked),
            persistence_score=pl.col("_past"),
            persistence_value=pl.col("_past"),
        ),
        "throughput",
        params.horizon_s,
        tables["ue_flow"],
    )


def handover(tables: Tables, params: Handover) -> Labelled:
    """1: a handover of any kind in the next seconds; no value."""
    events = tables["network_event"].filter(pl.col("kind").cast(pl.String).is_in(HANDOVER_KINDS))
    if events.is_empty():
        return Labelled(pl.DataFrame(), {})
    radio = tables["ue_radio"]
    decisions = _decisions(radio, ["ue_id", SESSION, "cell_id"], params.stride_s)
    decisions = _with_flow(decisions, tables["ue_flow"])
    happened = _ahead(decisions, events, ["ue_id", SESSION], params.horizon_s, {"_count": pl.len()})
    past = _past(events, decisions, ["ue_id"], "handover", pl.lit(1.0), "count", params.horizon_s)
    return _labelled(
        happened.join(past, on=["ue_id", ARRIVAL], how="left").with_columns(
            label=pl.col("_count").fill_null(0) > 0,
            label_value=pl.lit(None, pl.Float64),
            persistence_score=pl.col("_past"),
            persistence_value=pl.lit(None, pl.Float64),
        ),
        "handover",
        params.horizon_s,
        radio,
    )


def latency_loss(tables: Tables, params: LatencyLoss) -> Labelled:
    """1: loss or a late packet in the next seconds; value: the worst one-way delay, ms."""
    lost = pl.max_horizontal("downlink_lost_packets", "uplink_lost_packets", "packet_loss_ratio")
    delay = pl.max_horizontal("downlink_delay_ms", "uplink_delay_ms")
    flow = tables["ue_flow"].filter(delay.is_not_null())
    decisions = _decisions(flow, [*FLOW, SESSION, "cell_id"], params.stride_s)
    bad = pl.max_horizontal((lost > 0).cast(pl.Float64), (delay > params.delay_ms).cast(pl.Float64))
    ahead = _ahead(decisions, flow, [*FLOW, SESSION], params.horizon_s, {
        "_bad": bad.max(), "label_value": delay.max(), "_measured": bad.count(),
    })  # fmt: skip
    past_bad = _past(flow, decisions, FLOW, "bad", bad, "mean", params.horizon_s)
    past_delay = _past(flow, decisions, FLOW, "delay", delay, "max", params.horizon_s)
    return _labelled(
        ahead.join(past_bad, on=[*FLOW, ARRIVAL], how="left")
        .join(
            past_delay.rename({"_past": "persistence_value"}),
            on=[*FLOW, ARRIVAL],
            how="left",
        )
        .with_columns(
            label=pl.when(pl.col("_measured") >= params.horizon_s).then(pl.col("_bad") > 0),
            persistence_score=pl.col("_past"),
        ),
        "latency_loss",
        params.horizon_s,
        tables["ue_flow"],
    )


def qos_met(tables: Tables, params: QosMet) -> Labelled:
    """1: over the next seconds the mean rate, the 95th percentile of delay and the mean loss all keep
    to what the request asks; value: the mean downlink, Mbps. What is asked must have been measured."""
    requests = tables["qos_request"]
    if requests.is_empty():
        return Labelled(pl.DataFrame(), {})
    flow = tables["ue_flow"]
    measured = {
        "rate": (pl.col("downlink_mbps"), "mean"),
        "delay": (pl.col("downlink_delay_ms"), "p95"),
        "loss": (pl.col("packet_loss_ratio"), "mean"),
    }
    decisions = requests.with_columns(pl.col(ARRIVAL).alias(EVENT)).unique(
        [*FLOW, ARRIVAL], keep="last", maintain_order=True
    )
    ahead = _ahead(decisions, flow, [*FLOW, SESSION], params.horizon_s, {
        "rate": pl.col("downlink_mbps").mean(),
        "delay": pl.col("downlink_delay_ms").quantile(0.95, interpolation="linear"),
        "loss": pl.col("packet_loss_ratio").mean(),
        "_measured": pl.len(),
    })  # fmt: skip
    for name, (expression, op) in measured.items():
        past = _past(flow, decisions, FLOW, name, expression, op, 5)
        ahead = ahead.join(past.rename({"_past": f"past_{name}"}), on=[*FLOW, ARRIVAL], how="left")
    whole = pl.col("_measured") >= params.horizon_s / 2
    return _labelled(
        ahead.with_columns(
            label=pl.when(whole).then(_keeps("rate", "delay", "loss")),
            label_value=pl.col("rate"),
            persistence_score=_closeness("past_rate", "past_delay", "past_loss"),
            persistence_value=pl.col("past_rate"),
        ),
        "qos_met",
        params.horizon_s,
        flow,
    )


def _keeps(rate: str, delay: str, loss: str) -> pl.Expr:
    """Whether all that is asked is kept; null where something asked was not measured."""
    tests = (
        (pl.col(rate) >= pl.col("requested_downlink_mbps"), "requested_downlink_mbps"),
        (pl.col(delay) <= pl.col("requested_delay_ms"), "requested_delay_ms"),
        (pl.col(loss) <= pl.col("requested_loss_ratio"), "requested_loss_ratio"),
    )
    asked = [pl.when(pl.col(name).is_null()).then(True).otherwise(test) for test, name in tests]
    return pl.all_horizontal(asked)


def _closeness(rate: str, delay: str, loss: str) -> pl.Expr:
    """The least of kept over asked (rate) and asked over kept (delay, loss), each at most 2."""
    shares = (
        pl.col(rate) / pl.col("requested_downlink_mbps"),
        pl.col("requested_delay_ms") / pl.col(delay),
        (pl.col("requested_loss_ratio") + 1e-6) / (pl.col(loss) + 1e-6),
    )
    return pl.min_horizontal(share.clip(0, 2) for share in shares)


TASKS: dict[str, Callable[..., Labelled]] = {
    "throughput": throughput,
    "handover": handover,
    "latency_loss": latency_loss,
    "qos_met": qos_met,
}

COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "task": pl.String,
    "ue_id": pl.String,
    "session_id": pl.String,
    "cell_id": pl.String,
    "five_qi": pl.Int64,
    EVENT: UTC_US,
    "requested_downlink_mbps": pl.Float64,
    "requested_delay_ms": pl.Float64,
    "requested_loss_ratio": pl.Float64,
    "label": pl.Int8,
    "label_value": pl.Float64,
    "persistence_score": pl.Float64,
    "persistence_value": pl.Float64,
    "label_until": UTC_US,
}


def _s(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


def _decisions(rows: pl.DataFrame, columns: list[str], stride_s: int) -> pl.DataFrame:
    """A decision at the arrival of rows, at most one a flow in each `stride_s` of the clock.

    Its event and arrival time are both the time of the decision.
    """
    keys = [key for key in FLOW if key in columns]
    newest = rows.sort(ARRIVAL, EVENT).unique([*keys, ARRIVAL], keep="last", maintain_order=True)
    return (
        newest.select(*columns, pl.col(ARRIVAL).alias(EVENT), ARRIVAL)
        .with_columns(pl.col(ARRIVAL).dt.truncate(f"{stride_s}s").alias("_slot"))
        .unique([*keys, "_slot"], keep="first", maintain_order=True)
        .drop("_slot")
    )


def _ahead(
    decisions: pl.DataFrame,
    rows: pl.DataFrame,
    keys: list[str],
    horizon_s: int,
    aggregates: dict[str, pl.Expr],
) -> pl.DataFrame:
    """The decisions with aggregates over their rows with an event in (decision, + horizon_s]."""
    future = rows.select(pl.exclude("label_value", "requested_downlink_mbps")).with_columns(
        _real=pl.lit(value=True)
    )
    ends = decisions.select(*keys, EVENT).unique()
    table = pl.concat([future, ends], how="diagonal").sort(*keys, EVENT)
    real = {
        name: expression if not expression.meta.eq(pl.len()) else pl.col("_real").sum()
        for name, expression in aggregates.items()
    }
    windows = table.rolling(
        index_column=EVENT,
        period=f"{horizon_s}s",
        offset="0s",
        closed="right",
        group_by=keys,
    ).agg(**real)
    return decisions.join(
        windows.unique([*keys, EVENT], keep="first"), on=[*keys, EVENT], how="left"
    )


def _past(
    rows: pl.DataFrame,
    decisions: pl.DataFrame,
    keys: list[str],
    name: str,
    expression: pl.Expr,
    op: str,
    span_s: int,
) -> pl.DataFrame:
    """keys, arrival of the decision, `_past`: the same quantity over the seconds before, as known."""
    view = View(
        name="past",
        entity="past",
        keys=tuple(keys),
        table="",
        description="",
        ttl=_s(span_s),
        windows=of(name, f"{op}_{span_s}s"),
        derived={name: Derived(expression, "", "", 0, 0, "")},
    )
    past = compute.features(rows, decisions, view)
    return past.select(*keys, ARRIVAL, pl.col(f"past_{name}_{op}_{span_s}s").alias("_past"))


def _with_flow(decisions: pl.DataFrame, flow: pl.DataFrame) -> pl.DataFrame:
    """The decisions with the 5QI of the UE's newest flow known by then, else the default bearer's."""
    known = flow.sort(ARRIVAL).select("ue_id", pl.col(ARRIVAL).alias("_flow_known"), "five_qi")
    return (
        decisions.sort(ARRIVAL)
        .join_asof(
            known,
            left_on=ARRIVAL,
            right_on="_flow_known",
            by="ue_id",
            check_sortedness=False,
        )
        .with_columns(pl.col("five_qi").fill_null(DEFAULT_FIVE_QI))
        .drop("_flow_known")
    )


def _labelled(rows: pl.DataFrame, task: str, horizon_s: int, recorded: pl.DataFrame) -> Labelled:
    """Drops what has no label, counting it, and brings the rest into the canonical columns.

    recorded: the rows that say until when a session was; a label whose horizon ends later is none.
    """
    ends = recorded.group_by(SESSION).agg(pl.col(EVENT).max().alias("_seen_until"))
    seen = pl.col("_seen_until") >= pl.col(EVENT) + _s(horizon_s)
    rows = rows.join(ends, on=SESSION, how="left").with_columns(label=pl.when(seen).then("label"))
    censored = rows.filter(pl.col("label").is_null())
    kept = rows.filter(pl.col("label").is_not_null()).with_columns(
        task=pl.lit(task), label_until=pl.col(EVENT) + _s(horizon_s)
    )
    absent = [pl.lit(None, t).alias(n) for n, t in COLUMNS.items() if n not in kept.columns]
    kept = kept.with_columns(absent).select(pl.col(n).cast(t) for n, t in COLUMNS.items())
    left_out = {"future not whole or not measured": len(censored)} if len(censored) else {}
    return Labelled(kept.sort(SESSION, "ue_id", "five_qi", EVENT), left_out)
