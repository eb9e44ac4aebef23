"""The canonical tables: one dataframely contract each, and the registry `TABLES` of them all.

Keys and times are never null. `event_timestamp` is when a row was true (for a rate, a count or a
loss: the END of the interval that it sums up), `arrival_timestamp` when we knew it; both are UTC
microseconds. `ue_id` is a pseudonym. A raw table bears four more columns (`PROVENANCE`).
"""

from datetime import UTC, datetime

import dataframely as dy
import polars as pl

from schemas import measurement as m
from schemas.five_qi import FIVE_QIS

RATS = ("GSM", "UMTS", "LTE", "NR")
HANDOVER_KINDS = (
    "lte_handover",  # LTE cell to LTE cell
    "mn_handover",  # master node changes under dual connectivity
    "nr_handover",  # NR cell to NR cell, alone or as secondary node
    "nr_added",  # LTE to EN-DC
    "nr_released",  # EN-DC to LTE
    "cell_change",  # serving cell changed, kind not reported
)
FAILURE_KINDS = ("radio_link_failure", "scg_failure")
EVENT_KINDS = HANDOVER_KINDS + FAILURE_KINDS
TRAFFIC = ("full_buffer", "streaming", "interactive", "probe")

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")

PROVENANCE = {
    "source_file": pl.String,  # file of the row, relative to the source's root
    "source_line": pl.Int64,  # line in that file, the header is line 1
    "refusal": pl.String,  # null, or why the source could not read this row: "<rule>: <detail>"
    "source_text": pl.String,  # null, or the refused line, identifiers already pseudonymised
}


def _event_timestamp() -> dy.Datetime:
    return dy.Datetime(
        min=_EARLIEST,
        time_zone="UTC",
        time_unit="us",
        primary_key=True,
        description="when the row was true",
        metadata={"unit": "us since 1970, UTC", "source": "RFC 3339"},
    )


def _arrival_timestamp() -> dy.Datetime:
    return dy.Datetime(
        min=_EARLIEST,
        time_zone="UTC",
        time_unit="us",
        description="when the platform knew the row; never before it was true",
        metadata={"unit": "us since 1970, UTC", "source": "RFC 3339"},
    )


def _key(description: str, source: str = "-") -> dy.String:
    return dy.String(
        primary_key=True,
        min_length=1,
        max_length=128,
        description=description,
        metadata={"unit": "-", "source": source},
    )


def _label(description: str, *, nullable: bool, source: str = "-") -> dy.String:
    return dy.String(
        nullable=nullable,
        min_length=1,
        max_length=128,
        description=description,
        metadata={"unit": "-", "source": source},
    )


def _ue_id() -> dy.String:
    return _key(
        "pseudonym of the subscriber, in a recorded campaign of the subscriber's session",
        "3GPP TS 23.003, 2.2A",
    )


def _session_id() -> dy.String:
    return _label("recording or PDU session the row belongs to", nullable=False)


def _cell_id() -> dy.String:
    return _label("serving cell; null: not known", nullable=True, source="3GPP TS 23.003, 19.6A")


def _five_qi(*, primary_key: bool = False) -> dy.Int64:
    return dy.Int64(
        is_in=sorted(FIVE_QIS),
        primary_key=primary_key,
        description="5G QoS identifier of the flow",
        metadata={"unit": "-", "source": "3GPP TS 23.501, table 5.7.4-1"},
    )


def _rat() -> dy.Enum:
    return dy.Enum(
        RATS,
        nullable=True,
        description="radio access technology; null: not known",
        metadata={"unit": "-", "source": "3GPP TS 23.501, 5.3.2.3"},
    )


class _Timed(dy.Schema):
    """What every table has: its two times, and the law between them."""

    event_timestamp = _event_timestamp()
    arrival_timestamp = _arrival_timestamp()

    @dy.rule()
    def arrival_before_event(cls) -> pl.Expr:
        return pl.col("arrival_timestamp") >= pl.col("event_timestamp")


class UeRadio(_Timed):
    """What a UE measured of its serving cell, about once a second."""

    ue_id = _ue_id()
    session_id = _session_id()
    cell_id = _cell_id()
    rat = _rat()
    rsrp_dbm = m.rsrp_dbm()
    rsrq_db = m.rsrq_db()
    sinr_db = m.sinr_db()
    cqi = m.cqi()
    rssi_dbm = m.rssi_dbm()
    nr_rsrp_dbm = m.nr_rsrp_dbm()
    nr_rsrq_db = m.nr_rsrq_db()

    @dy.rule()
    def rsrp_of_2g_or_3g(cls) -> pl.Expr:
        older = pl.col("rat").cast(pl.String).is_in(["GSM", "UMTS"]).fill_null(value=False)
        return ~(older & pl.col("rsrp_dbm").is_not_null())


class UeNeighbour(_Timed):
    """What a UE measured of one candidate cell; rank 0 is the serving cell, 1 the best neighbour."""

    ue_id = _ue_id()
    session_id = _session_id()
    rank = dy.Int64(
        min=0,
        max=64,
        primary_key=True,
        description="place of the cell in the UE's report",
        metadata={"unit": "-", "source": "3GPP TS 38.331, 5.5.5"},
    )
    cell_id = _cell_id()
    rat = dy.Enum(
        RATS,
        primary_key=True,
        description="radio access technology of the neighbour",
        metadata={"unit": "-", "source": "3GPP TS 23.501, 5.3.2.3"},
    )
    rsrp_dbm = m.rsrp_dbm()
    rsrq_db = m.rsrq_db()
    rsrp_offset_db = m.rsrp_offset_db()
    nr_rsrp_dbm = m.nr_rsrp_dbm()
    nr_rsrq_db = m.nr_rsrq_db()
    nr_rsrp_offset_db = m.nr_rsrp_offset_db()


class UeFlow(_Timed):
    """What a QoS flow of a UE got over the second before."""

    ue_id = _ue_id()
    session_id = _session_id()
    five_qi = _five_qi(primary_key=True)
    cell_id = _cell_id()
    traffic = dy.Enum(
        TRAFFIC,
        nullable=True,
        description="what fills the flow; only full_buffer tells what the network could give",
        metadata={"unit": "-", "source": "3GPP TS 26.925"},
    )
    downlink_mbps = m.downlink_mbps()
    uplink_mbps = m.uplink_mbps()
    downlink_capacity_mbps = m.downlink_capacity_mbps()
    downlink_delay_ms = m.downlink_delay_ms()
    uplink_delay_ms = m.uplink_delay_ms()
    round_trip_ms = m.round_trip_ms()
    jitter_ms = m.jitter_ms()
    downlink_lost_packets = m.downlink_lost_packets()
    uplink_lost_packets = m.uplink_lost_packets()
    packet_loss_ratio = m.packet_loss_ratio()


class UeMotion(_Timed):
    """Where a UE was (to a grid) and how fast it moved."""

    ue_id = _ue_id()
    session_id = _session_id()
    latitude_deg = m.latitude_deg()
    longitude_deg = m.longitude_deg()
    speed_mps = m.speed_mps()


class CellLoad(_Timed):
    """How busy a cell was over its reporting interval."""

    cell_id = _key("the cell", "3GPP TS 23.003, 19.6A")
    prb_used_ratio = m.prb_used_ratio()
    active_ue_count = m.active_ue_count()
    downlink_mbps = m.downlink_mbps()


class QosRequest(_Timed):
    """What an application asked of the network, for one flow of one UE; event: when it asked."""

    request_id = _key("the request")
    ue_id = _label("pseudonym of the subscriber", nullable=False)
    session_id = _session_id()
    five_qi = _five_qi()
    cell_id = _cell_id()
    requested_downlink_mbps = m.requested_downlink_mbps()
    requested_delay_ms = m.requested_delay_ms()
    requested_loss_ratio = m.requested_loss_ratio()


class NetworkEvent(_Timed):
    """A handover or a failure; several at one instant are told apart by `ordinal`."""

    ue_id = _ue_id()
    session_id = _session_id()
    kind = dy.Enum(
        EVENT_KINDS,
        primary_key=True,
        description="what happened",
        metadata={"unit": "-", "source": "3GPP TS 38.331, 5.3 and 5.5"},
    )
    ordinal = dy.Int64(
        min=0,
        max=1000,
        primary_key=True,
        description="0, 1, ... of equal events at one instant",
        metadata={"unit": "-", "source": "-"},
    )
    from_cell_id = _label("cell before; null: not known", nullable=True)
    to_cell_id = _label("cell after; null: not known", nullable=True)


TABLES: dict[str, type[dy.Schema]] = {
    "ue_radio": UeRadio,
    "ue_neighbour": UeNeighbour,
    "ue_flow": UeFlow,
    "ue_motion": UeMotion,
    "cell_load": CellLoad,
    "qos_request": QosRequest,
    "network_event": NetworkEvent,
}


def dtypes(table: str) -> dict[str, pl.DataType]:
    """Column name to Polars dtype of one canonical table, in the contract's order."""
    return {name: column.dtype for name, column in TABLES[table].columns().items()}


def raw_dtypes(table: str) -> dict[str, pl.DataType]:
    """`dtypes` and then the provenance columns: what `collect` writes."""
    return dtypes(table) | {name: dtype() for name, dtype in PROVENANCE.items()}
