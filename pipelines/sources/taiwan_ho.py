"""Handover recordings of the NTU Wireless Mobile Network Lab (Taipei, 2023): phones at 1 Hz.

A line sums up the second that STARTS at its timestamp (local time, UTC+8), so its row is true, and
known, one second later. Stated choices: a phone's recording is one `ue_id`; the probe traffic is
5QI 7 (interactive, 100 ms); 0 in a power column is no measurement; a negative one-way delay is clock
skew and becomes null. Events come as counts (until 2023-06-13: stamped at the second's end) or as
fractions of the second (later, `a@b` for two): both come out as `network_event` rows.
"""

import io
import lzma
import tarfile
from datetime import timedelta

import polars as pl

from pipelines.sources.collected import Collected, canonical, empty_tables
from pipelines.sources.datasets import TAIWAN_HO, read_dataset
from pipelines.sources.lines import read_lines
from pipelines.sources.values import Number, count_nulls, refusal

_EVENTS = {
    "LTE_HO": "lte_handover", "MN_HO": "mn_handover", "eNB_to_ENDC": "nr_added",
    "gNB_Rel": "nr_released", "gNB_HO": "nr_handover", "RLF": "radio_link_failure",
    "SCG_RLF": "scg_failure",
}  # fmt: skip
_RADIO = {
    "rsrp_dbm": Number("RSRP", sentinels=(0.0,)),
    "rsrq_db": Number("RSRQ", sentinels=(0.0,)),
    "nr_rsrp_dbm": Number("nr-RSRP", sentinels=(0.0,)),
    "nr_rsrq_db": Number("nr-RSRQ", sentinels=(0.0,)),
}
_NEIGHBOURS = {
    f"_{column}": Number(column, sentinels=(0.0,))
    for column in (
        "RSRP1", "RSRQ1", "RSRP2", "RSRQ2", "nr-RSRP1", "nr-RSRQ1", "nr-RSRP2", "nr-RSRQ2",
    )
}  # fmt: skip
_SKEW = (0.0, "negative one-way delay: clock skew")
_FLOW = {
    "downlink_delay_ms": Number("dl-latency", scale=1e3, below=_SKEW),
    "uplink_delay_ms": Number("ul-latency", scale=1e3, below=_SKEW),
    "downlink_lost_packets": Number("dl-loss"),
    "uplink_lost_packets": Number("ul-loss"),
}
_MOTION = {
    "latitude_deg": Number("lat"),
    "longitude_deg": Number("long"),
    "speed_mps": Number("gpsspeed"),
}
_ALL = _RADIO | _NEIGHBOURS | _FLOW | _MOTION
_REPEATS = "2023-03-26_qc00-example_dataset.csv"
_SECOND = timedelta(seconds=1)


def taiwan_ho() -> Collected:
    """Every line of the 354 files as ue_radio, ue_flow, ue_motion, with neighbours and events."""
    packed = lzma.decompress(read_dataset(TAIWAN_HO))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = sorted(
            (m for m in archive.getmembers() if m.isfile() and m.name.endswith(".csv")),
            key=lambda member: member.name,
        )
        read = [
            (
                member.name.rsplit("/", 1)[-1],
                read_lines(_content(archive, member), member.name),
            )
            for member in members
        ]
    ragged = _dated(pl.concat(_with_file(lines.ragged, name) for name, lines in read))
    rows = _rows(pl.concat(_with_file(lines.rows, name) for name, lines in read))
    tables = empty_tables()
    for name in ("ue_radio", "ue_flow", "ue_motion"):
        tables[name] = pl.concat([canonical(name, rows), canonical(name, ragged)])
    tables["ue_neighbour"] = canonical("ue_neighbour", _neighbours(rows))
    tables["network_event"] = canonical("network_event", _events(rows))
    nulls = (
        count_nulls(rows, "ue_radio", _RADIO)
        | count_nulls(rows, "ue_flow", _FLOW)
        | count_nulls(rows, "ue_motion", _MOTION)
    )
    return Collected(tables, sum(lines.count for _, lines in read), len(read), nulls)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _with_file(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    session = name.removesuffix(".csv")
    return rows.with_columns(
        source_file=pl.lit(name),
        session_id=pl.lit(session),
        ue_id=pl.lit(f"phone/{session}"),
    )


def _dated(ragged: pl.DataFrame) -> pl.DataFrame:
    """Ragged lines with the time that they begin with, for they must stand somewhere."""
    start = pl.col("source_text").str.split(",").list.first().str.strip_chars()
    return ragged.with_columns(_times(start))


def _times(text: pl.Expr) -> list[pl.Expr]:
    start = (
        text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
        .dt.replace_time_zone("Asia/Taipei")
        .dt.convert_time_zone("UTC")
    )
    end = start + _SECOND
    return [
        start.alias("_start"),
        end.alias("event_timestamp"),
        end.alias("arrival_timestamp"),
    ]


def _rows(text: pl.DataFrame) -> pl.DataFrame:
    return text.with_columns(
        *_times(pl.col("Timestamp")),
        refusal=pl.coalesce(
            pl.when(pl.col("source_file") == _REPEATS).then(
                pl.lit("repeated_session: the file repeats another recording")
            ),
            refusal(_ALL),
        ),
        five_qi=pl.lit(7),
        traffic=pl.lit("probe"),
        rat=pl.lit("LTE"),
        **{name: number.expression() for name, number in _ALL.items()},
    )


def _neighbours(rows: pl.DataFrame) -> pl.DataFrame:
    """Up to two LTE and two NR neighbours a line, ranked as reported."""
    kept = rows.filter(pl.col("refusal").is_null())
    parts = []
    for rat, prefix, own in (("LTE", "", "rsrp_dbm"), ("NR", "nr-", "nr_rsrp_dbm")):
        target = "" if rat == "LTE" else "nr_"
        for rank in (1, 2):
            power, quality = f"_{prefix}RSRP{rank}", f"_{prefix}RSRQ{rank}"
            found = kept.filter(pl.col(power).is_not_null()).select(
                "ue_id", "session_id", "event_timestamp", "arrival_timestamp", "source_file",
                "source_line",
                pl.lit(rank).alias("rank"),
                pl.lit(rat).alias("rat"),
                pl.col(power).alias(f"{target}rsrp_dbm"),
                pl.col(quality).alias(f"{target}rsrq_db"),
                (pl.col(power) - pl.col(own)).alias(f"{target}rsrp_offset_db"),
            )  # fmt: skip
            parts.append(canonical("ue_neighbour", found))
    return pl.concat(parts)


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    """One row an event, whichever of the two forms its column had."""
    kept = rows.filter(pl.col("refusal").is_null())
    counted = kept["source_file"].str.head(10) <= "2023-06-13"
    parts = []
    for column, kind in _EVENTS.items():
        text = kept.with_columns(
            pl.lit(kind).alias("kind"),
            counted.alias("_counted"),
            pl.col(column).alias("_text"),
        ).filter(~pl.col("_text").cast(pl.Float64, strict=False).eq(0).fill_null(value=False))
        counts = text.filter("_counted").with_columns(
            ordinal=pl.int_ranges(pl.col("_text").cast(pl.Float64).cast(pl.Int64))
        )
        fractions = text.filter(~pl.col("_counted")).with_columns(
            pl.col("_text").str.split("@").alias("_fraction")
        )
        parts.append(canonical("network_event", counts.explode("ordinal")))
        parts.append(
            canonical(
                "network_event",
                fractions.explode("_fraction").with_columns(
                    event_timestamp=pl.col("_start")
                    + pl.duration(
                        microseconds=(pl.col("_fraction").cast(pl.Float64) * 1e6).round(0)
                    ),
                    ordinal=pl.lit(0),
                ),
            )
        )
    return pl.concat(parts)
