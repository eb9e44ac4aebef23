"""The `nef` source: what a capture has kept of a NEF, from journal lines to canonical tables.

Subscribers are pseudonyms and positions coarse since the first write. Cells are NR: a NEF is the 5G
core's. A state's rows are true at the time that it states, else when they came; a report of a QoS
session bears no time, so it is true when it came. Where a UE changed its cell is seen in its states and
location reports alike, in order of their times: one `cell_change` for each.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from nef.client.intake import quarantine_of
from nef.client.journal import read_journal
from pipelines.sources.collected import Collected, canonical, empty_tables
from schemas.errors import QosError
from schemas.five_qi import DEFAULT_FIVE_QI

JOURNAL = "nef.ndjson"
PSEUDONYM = re.compile(r"ue-[0-9a-f]{20}")
RAT = "NR"

_TIMES = {"source_line": pl.Int64, "arrival_timestamp": pl.String, "event_timestamp": pl.String}
_QOS = (
    "downlink_mbps", "uplink_mbps", "downlink_delay_ms", "uplink_delay_ms", "jitter_ms",
    "packet_loss_ratio",
)  # fmt: skip
_CELL = ("rsrp_dbm", "rsrq_db", "sinr_db", "prb_used_ratio", "active_ue_count")
_STATE: dict[str, Any] = _TIMES | {
    "ue_id": pl.String, "cell_id": pl.String, "five_qi": pl.Int64, "latitude_deg": pl.Float64,
    "longitude_deg": pl.Float64, "speed_mps": pl.Float64,
    "qos": pl.Struct({name: pl.Float64 for name in _QOS}),
    "cells": pl.List(pl.Struct({"cell_id": pl.String} | {name: pl.Float64 for name in _CELL})),
}  # fmt: skip
_REPORT = _TIMES | {
    "ue_id": pl.String, "subscription": pl.String, "measured": pl.Boolean,
    "downlink_delays_ms": pl.List(pl.Float64), "uplink_delays_ms": pl.List(pl.Float64),
    "round_trip_delays_ms": pl.List(pl.Float64), "round_trip_variation_ms": pl.Float64,
    "downlink_mbps": pl.Float64, "uplink_mbps": pl.Float64,
}  # fmt: skip
_PLACE = _TIMES | {"ue_id": pl.String, "cell_id": pl.String}
_ASKED = _TIMES | {
    "ue_id": pl.String, "five_qi": pl.Int64, "downlink_mbps": pl.Float64, "delay_ms": pl.Float64,
    "loss_ratio": pl.Float64,
}  # fmt: skip
_REFUSED_TABLE = {"requirement": "qos_request", "callback": "network_event"}


@dataclass(frozen=True)
class NefParams:
    """captured: the folder of the capture; session_s: a UE's rows are cut into sessions at whole
    multiples of so many seconds, for a NEF names no PDU session."""

    captured: str = "data/capture"
    session_s: int = 120


def nef(params: NefParams) -> Collected:
    """The tables of a capture; raises `QosError` where nothing was captured."""
    if params.session_s < 1:
        raise QosError(
            f"params.yaml: collect.nef.session_s: {params.session_s}, must be 1 s or more"
        )
    path = Path(params.captured) / JOURNAL
    kinds: dict[str, list[dict[str, Any]]] = {}
    lines = 0
    for record in read_journal(path):
        lines += 1
        record["arrival_timestamp"] = record["received_at"]
        record["source_line"] = record["sequence"]
        kind = record["kind"] if record["kind"] != "ue_event" else record["event"]
        kinds.setdefault(kind, []).append(record)
    if not any(kinds.get(kind) for kind in ("ue_state", "qos_report", "requirement")):
        raise QosError(f"{path}: nothing was captured; run `make capture` first")
    return _collected(path, params, kinds, lines)


def _collected(
    path: Path, params: NefParams, kinds: dict[str, list[dict[str, Any]]], lines: int
) -> Collected:
    states = _frame(kinds.get("ue_state", []), _STATE)
    requirements = _frame(kinds.get("requirement", []), _ASKED)
    cells = _heard(states)
    reports, said_twice = _reports(kinds, states)
    found = {
        "ue_radio": _radio(states, cells),
        "ue_neighbour": _neighbours(cells),
        "ue_flow": pl.concat([_flows(states), reports], how="diagonal_relaxed"),
        "ue_motion": states.filter(
            pl.any_horizontal(pl.col("latitude_deg", "speed_mps").is_not_null())
        ),
        "cell_load": _loads(cells),
        "qos_request": _requests(requirements, states),
        "network_event": _changes(states, _frame(kinds.get("LOCATION_REPORTING", []), _PLACE)),
    }
    tables = empty_tables()
    for name, rows in found.items():
        tables[name] = canonical(name, _finished(rows, params.session_s, path.name))
    refused = _refused(quarantine_of(path))
    for name, rows in refused.items():
        tables[name] = pl.concat([tables[name], rows])
    nulls: dict[str, Counter[str]] = {}
    if said_twice:
        nulls["nef.qos_report"] = Counter({"the polled state says it too": said_twice})
    unmeasured = sum(not one["measured"] for one in kinds.get("qos_report", []))
    if unmeasured:
        nulls.setdefault("nef.qos_report", Counter())["nothing measured"] = unmeasured
    for kind in ("LOSS_OF_CONNECTIVITY", "UE_REACHABILITY", "camara_status"):
        if kinds.get(kind):
            nulls[f"nef.{kind}"] = Counter({"kept in the journal, of no table": len(kinds[kind])})
    count = lines + sum(len(rows) for rows in refused.values())
    return Collected(tables, count, files=1 + bool(refused), nulls=nulls, protected=True)


def _frame(records: list[dict[str, Any]], schema: dict[str, Any]) -> pl.DataFrame:
    """The records' columns of the schema, times parsed; a state without its time was true on arrival."""
    plain = [{name: record.get(name) for name in schema} for record in records]
    frame = pl.DataFrame(plain, schema=schema, strict=False)
    times = [
        pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        for name in ("event_timestamp", "arrival_timestamp")
    ]
    return frame.with_columns(times).with_columns(
        pl.col("event_timestamp").fill_null(pl.col("arrival_timestamp"))
    )


def _finished(rows: pl.DataFrame, session_s: int, file: str) -> pl.DataFrame:
    """The rows with session, place in the capture, and a refusal where the UE is no pseudonym."""
    rows = rows.with_columns(source_file=pl.lit(file))
    if "ue_id" not in rows.columns:
        return rows
    start = pl.col("event_timestamp").dt.truncate(f"{session_s}s").dt.strftime("%Y%m%dT%H%M%S")
    known = pl.col("ue_id").str.contains(f"^{PSEUDONYM.pattern}$").fill_null(value=False)
    return rows.with_columns(
        ue_id=pl.when(known).then("ue_id"),
        session_id=pl.when(known).then(pl.format("{}-{}", "ue_id", start)),
        refusal=pl.when(~known).then(pl.lit("unknown_ue: no subscription says whose it is")),
    )


def _heard(states: pl.DataFrame) -> pl.DataFrame:
    """A row for each cell of each state: rank 0 the serving one, then by RSRP."""
    rows = states.select("source_line", "ue_id", "event_timestamp", "arrival_timestamp", "cells",
                         serving=pl.col("cell_id")).explode("cells").drop_nulls("cells")  # fmt: skip
    rows = rows.unnest("cells").unique(
        ["source_line", "cell_id"], keep="first", maintain_order=True
    )
    served = (pl.col("cell_id") == pl.col("serving")).fill_null(value=False)
    own = pl.col("rsrp_dbm").filter(served).first().over("source_line")
    place = (
        pl.struct(~served, -pl.col("rsrp_dbm").fill_null(-999.0))
        .rank("ordinal")
        .over("source_line")
    )
    return rows.with_columns(
        rank=place.cast(pl.Int64) - served.any().over("source_line").cast(pl.Int64),
        rat=pl.lit(RAT),
        rsrp_offset_db=(pl.col("rsrp_dbm") - own).round(2),
        served=served,
    )


def _radio(states: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """The serving cell's radio; null without coverage and where the NEF says none."""
    own = cells.filter("served").select("source_line", "rsrp_dbm", "rsrq_db", "sinr_db")
    base = states.select("source_line", "ue_id", "cell_id", "event_timestamp", "arrival_timestamp")
    rows = base.join(own, on="source_line", how="left", maintain_order="left")
    return rows.with_columns(rat=pl.lit(RAT))


def _neighbours(cells: pl.DataFrame) -> pl.DataFrame:
    return cells.filter(pl.col("rsrp_dbm").is_not_null(), pl.col("rank") <= 64)


def _loads(cells: pl.DataFrame) -> pl.DataFrame:
    """One row for a cell and time: every UE that hears the cell is told the same of it."""
    told = cells.filter(pl.col("prb_used_ratio").is_not_null()).sort("source_line")
    return told.unique(["cell_id", "event_timestamp"], keep="first", maintain_order=True).select(
        "source_line", "cell_id", "event_timestamp", "arrival_timestamp", "prb_used_ratio",
        "active_ue_count",
    )  # fmt: skip


def _known_five_qi() -> pl.Expr:
    """The stated 5QI; the default bearer's where none is stated, an unknown one is admission's."""
    return pl.col("five_qi").fill_null(DEFAULT_FIVE_QI)


def _flows(states: pl.DataFrame) -> pl.DataFrame:
    rows = states.filter(pl.col("qos").is_not_null()).unnest("qos")
    return rows.filter(pl.any_horizontal(pl.col(_QOS).is_not_null())).with_columns(
        five_qi=_known_five_qi()
    )


def _reports(
    kinds: dict[str, list[dict[str, Any]]], states: pl.DataFrame
) -> tuple[pl.DataFrame, int]:
    """Rows of the measured reports of UEs whose states say nothing of QoS, and how many others' were
    measured: they would say twice what their state says."""
    five_qis = pl.DataFrame(
        [(one["subscription"], one.get("five_qi")) for one in kinds.get("subscribed", [])],
        schema={"subscription": pl.String, "five_qi": pl.Int64}, orient="row",
    ).unique("subscription", keep="last")  # fmt: skip
    rows = _frame(kinds.get("qos_report", []), _REPORT).filter("measured")
    polled = states.filter(pl.col("qos").is_not_null()).select("ue_id").unique()
    kept = rows.join(polled, on="ue_id", how="anti", maintain_order="left")
    served = _cell_then(kept, states)
    made = served.join(five_qis, on="subscription", how="left", maintain_order="left").select(
        "source_line", "ue_id", "event_timestamp", "arrival_timestamp", "cell_id", "downlink_mbps",
        "uplink_mbps",
        five_qi=_known_five_qi(),
        downlink_delay_ms=pl.col("downlink_delays_ms").list.mean(),
        uplink_delay_ms=pl.col("uplink_delays_ms").list.mean(),
        round_trip_ms=pl.col("round_trip_delays_ms").list.mean(),
        jitter_ms=pl.col("round_trip_variation_ms"),
    )  # fmt: skip
    return made, len(rows) - len(kept)


def _cell_then(rows: pl.DataFrame, states: pl.DataFrame, *more: str) -> pl.DataFrame:
    """The rows with the cell (and more) of the UE's newest state known when they came."""
    known = states.select("ue_id", "cell_id", *more, _at="arrival_timestamp").sort("_at")
    return rows.sort("arrival_timestamp").join_asof(
        known, left_on="arrival_timestamp", right_on="_at", by="ue_id", check_sortedness=False
    )


def _requests(requirements: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """What each UE's application asks for, whenever it was asked; of the flow that the UE has."""
    renamed = requirements.rename(
        {"downlink_mbps": "requested_downlink_mbps", "delay_ms": "requested_delay_ms",
         "loss_ratio": "requested_loss_ratio", "five_qi": "asked_five_qi"}
    )  # fmt: skip
    return _cell_then(renamed, states, "five_qi").with_columns(
        request_id=pl.format("requirement-{}", "source_line"),
        five_qi=pl.coalesce("five_qi", "asked_five_qi").fill_null(DEFAULT_FIVE_QI),
    )


def _changes(states: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """A row where a UE is in another cell than the time before; going without one is no change."""
    seen = pl.concat([states.select(*_PLACE), places.select(*_PLACE)])
    seen = seen.sort("ue_id", "event_timestamp", "source_line")
    before = pl.col("cell_id").shift(1).over("ue_id")
    changed = seen.with_columns(from_cell_id=before).filter(
        pl.col("from_cell_id") != pl.col("cell_id")
    )
    return changed.with_columns(
        kind=pl.lit("cell_change"),
        ordinal=pl.int_range(pl.len()).over("ue_id", "event_timestamp"),
    ).rename({"cell_id": "to_cell_id"})


def _refused(path: Path) -> dict[str, pl.DataFrame]:
    """What the capture refused, as raw rows of the table that it would have been of."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in read_journal(path):
        table = _REFUSED_TABLE.get(record["source"], "ue_radio")
        reason = f"refused_at_capture: {record['source']}: {(record['reasons'] or ['?'])[0]}"
        found.setdefault(table, []).append(
            {"source_file": path.name, "source_line": record["sequence"], "refusal": reason,
             "source_text": record["text"], "at": record["received_at"]}
        )  # fmt: skip
    made = {}
    for table, rows in found.items():
        frame = pl.DataFrame(rows).with_columns(
            arrival_timestamp=pl.col("at").str.to_datetime(time_unit="us", time_zone="UTC")
        )
        made[table] = canonical(table, frame)
    return made
