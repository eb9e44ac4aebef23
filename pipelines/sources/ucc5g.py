"""The 5G production data set of University College Cork (Raca et al., MMSys 2020).

One phone, 83 recorded sessions at 1 Hz. Units (km/h, kbps) follow the paper and the recording app.
Stated choices: a session is one `ue_id`; "Download" is one greedy flow (5QI 9, default bearer), the
streaming players are 5QI 6 and limited by demand; the 2G and 3G rows' "RSRP" and "RSRQ" are other
quantities (RSCP, Ec/No) and become null.
"""

import io
import zipfile
from collections import Counter

import polars as pl

from pipelines.sources.collected import Collected, canonical, empty_tables
from pipelines.sources.datasets import UCC5G, read_dataset
from pipelines.sources.lines import read_lines
from pipelines.sources.values import Number, count_nulls, refusal

_RATS = {
    "5G": "NR", "LTE": "LTE", "HSPA+": "UMTS", "UMTS": "UMTS", "HSUPA": "UMTS", "HSDPA": "UMTS",
    "GPRS": "GSM", "EDGE": "GSM",
}  # fmt: skip
_RADIO = {
    "rsrp_dbm": Number("RSRP", sentinels=(-200.0,)),
    "rsrq_db": Number("RSRQ"),
    "sinr_db": Number("SNR"),
    "cqi": Number("CQI"),
    "rssi_dbm": Number("RSSI"),
}
_FLOW = {
    "downlink_mbps": Number("DL_bitrate", scale=1e-3),
    "uplink_mbps": Number("UL_bitrate", scale=1e-3),
    "round_trip_ms": Number("PINGAVG"),
    "packet_loss_ratio": Number("PINGLOSS", scale=1e-2),
}
_MOTION = {
    "latitude_deg": Number("Latitude"),
    "longitude_deg": Number("Longitude"),
    "speed_mps": Number("Speed", scale=1 / 3.6),
}
_NEIGHBOUR = {
    "_neighbour_rsrp": Number("NRxRSRP", sentinels=(-200.0,)),
    "_neighbour_rsrq": Number("NRxRSRQ", sentinels=(2147483647.0,)),
}
_ALL = _RADIO | _FLOW | _MOTION | _NEIGHBOUR


def ucc5g() -> Collected:
    """Every line of the 83 sessions as ue_radio, ue_flow, ue_motion, with neighbours and cell changes."""
    archive = zipfile.ZipFile(io.BytesIO(read_dataset(UCC5G)))
    names = sorted(
        name for name in archive.namelist() if name.endswith(".csv") and "__MACOSX" not in name
    )
    read = [(name, read_lines(archive.read(name), name)) for name in names]
    rows = pl.concat(
        lines.rows.with_columns(
            source_file=pl.lit(name.split("/", 1)[1]),
            session_id=pl.lit(name.split("/", 1)[1].removesuffix(".csv")),
        )
        for name, lines in read
    )
    time = pl.col("Timestamp").str.to_datetime("%Y.%m.%d_%H.%M.%S", time_unit="us", strict=False)
    older = pl.col("rat").is_in(["GSM", "UMTS"])
    greedy = pl.col("session_id").str.starts_with("Download/")
    rows = rows.with_columns(
        event_timestamp=time.dt.replace_time_zone("UTC"),
        ue_id=pl.format("phone/{}", "session_id"),
        rat=pl.col("NetworkMode").replace_strict(_RATS, default=None, return_dtype=pl.String),
        cell_id=pl.when(~pl.col("RAWCELLID").is_in(["0", "-", ""])).then("RAWCELLID"),
        refusal=pl.coalesce(
            pl.when(time.is_null()).then(pl.format("unparseable: Timestamp {}", "Timestamp")),
            refusal(_ALL),
        ),
        **{name: number.expression() for name, number in _ALL.items()},
    ).with_columns(
        arrival_timestamp=pl.col("event_timestamp").cum_max().over("source_file"),
        five_qi=pl.when(greedy).then(9).otherwise(6),
        traffic=pl.when(greedy).then(pl.lit("full_buffer")).otherwise(pl.lit("streaming")),
        downlink_capacity_mbps=pl.when(greedy).then("downlink_mbps"),
        rsrp_dbm=pl.when(~older.fill_null(value=False)).then("rsrp_dbm"),
        rsrq_db=pl.when(~older.fill_null(value=False)).then("rsrq_db"),
        _older=older.fill_null(value=False),
    )
    tables = empty_tables()
    for name in ("ue_radio", "ue_flow", "ue_motion"):
        tables[name] = canonical(name, rows)
    tables["ue_neighbour"] = canonical("ue_neighbour", _neighbours(rows))
    tables["network_event"] = canonical("network_event", _cell_changes(rows))
    nulls = (
        count_nulls(rows, "ue_radio", _RADIO)
        | count_nulls(rows, "ue_flow", _FLOW)
        | count_nulls(rows, "ue_motion", _MOTION)
    )
    unnamed = int(rows["cell_id"].is_null().sum())
    nulls["ue_radio.cell_id"] = Counter({"cell id 0": unnamed})
    for column in ("rsrp_dbm", "rsrq_db"):
        other = rows.filter("_older").select(_RADIO[column].expression().count()).item()
        nulls.setdefault(f"ue_radio.{column}", Counter())["2G/3G: another quantity"] = other
    return Collected(tables, sum(lines.count for _, lines in read), len(names), nulls)


def _neighbours(rows: pl.DataFrame) -> pl.DataFrame:
    """The one neighbour of a row, where it reports its RSRP; its cell is not reported."""
    return rows.filter(pl.col("_neighbour_rsrp").is_not_null(), ~pl.col("_older")).with_columns(
        rank=pl.lit(1),
        rat=pl.lit("LTE"),
        cell_id=pl.lit(None, pl.String),
        rsrp_offset_db=pl.col("_neighbour_rsrp") - pl.col("rsrp_dbm"),
        rsrp_dbm=pl.col("_neighbour_rsrp"),
        rsrq_db=pl.col("_neighbour_rsrq"),
        refusal=pl.lit(None, pl.String),
    )


def _cell_changes(rows: pl.DataFrame) -> pl.DataFrame:
    """A row each time that the serving cell is another one than in the line before."""
    known = rows.filter(pl.col("cell_id").is_not_null(), pl.col("refusal").is_null())
    before = pl.col("cell_id").shift(1).over("source_file")
    return (
        known.with_columns(from_cell_id=before, to_cell_id="cell_id")
        .filter(pl.col("from_cell_id") != pl.col("to_cell_id"))
        .with_columns(
            kind=pl.lit("cell_change"),
            ordinal=pl.int_range(pl.len()).over("source_file", "event_timestamp"),
        )
    )
