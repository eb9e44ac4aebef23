"""One quantity each: its dtype, unit, range and the standard that sets the range.

Every table that holds a quantity calls it for a column, every message asks it for its range, so a unit
or a range is stated once. The metadata of the dataframely column carries `unit` (SI or the field's own;
"1" for a plain ratio or count) and `source` (clause or paper); features, Feast fields, suites and docs
inherit both. Messages need no dataframely: it is imported with the first column.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataframely.columns import Column


@dataclass(frozen=True)
class Quantity:
    """low, high: the range, both in it, in the unit; source: clause or paper that sets it."""

    description: str
    unit: str
    low: float
    high: float
    source: str

    def __call__(self) -> "Column":
        """A nullable float64 column with that range."""
        import dataframely as dy

        return dy.Float64(
            nullable=True,
            min=self.low,
            max=self.high,
            description=self.description,
            metadata={"unit": self.unit, "source": self.source},
        )


rsrp_dbm = Quantity(
    "reference signal received power of the serving LTE (or only) carrier",
    "dBm", -156, -31, "3GPP TS 38.133, 10.1.6",
)  # fmt: skip
nr_rsrp_dbm = Quantity(
    "SS-RSRP of the NR carrier beside an LTE anchor", "dBm", -156, -31, "3GPP TS 38.133, 10.1.6"
)
rsrq_db = Quantity(
    "reference signal received quality of the serving LTE (or only) carrier",
    "dB", -43, 20, "3GPP TS 38.133, 10.1.11",
)  # fmt: skip
nr_rsrq_db = Quantity(
    "SS-RSRQ of the NR carrier beside an LTE anchor", "dB", -43, 20, "3GPP TS 38.133, 10.1.11"
)
sinr_db = Quantity(
    "signal to interference and noise ratio of the serving cell",
    "dB", -30, 40, "3GPP TS 38.133, 10.1.16; -30 is the floor of common field tools",
)  # fmt: skip
cqi = Quantity("wideband channel quality indicator", "1", 0, 15, "3GPP TS 38.214, 5.2.2.1")
rssi_dbm = Quantity("received signal strength indicator", "dBm", -120, -10, "3GPP TS 36.214, 5.1.3")
rsrp_offset_db = Quantity(
    "RSRP of the neighbour less RSRP of the serving cell at the same instant (event A3's offset)",
    "dB", -125, 125, "3GPP TS 38.331, 5.5.4.4",
)  # fmt: skip
nr_rsrp_offset_db = Quantity(
    "SS-RSRP of the NR neighbour less SS-RSRP of the serving NR cell (event A3's offset)",
    "dB", -125, 125, "3GPP TS 38.331, 5.5.4.4",
)  # fmt: skip
downlink_mbps = Quantity(
    "downlink user data rate over the second before", "Mbps", 0, 10_000, "3GPP TS 28.552, 5.1.1.3"
)
uplink_mbps = Quantity(
    "uplink user data rate over the second before", "Mbps", 0, 10_000, "3GPP TS 28.552, 5.1.1.3"
)
downlink_capacity_mbps = Quantity(
    "downlink rate while there was always data to send; null while the application was the limit",
    "Mbps", 0, 10_000, "3GPP TS 28.552, 5.1.1.3",
)  # fmt: skip
downlink_delay_ms = Quantity(
    "one-way downlink packet delay", "ms", 0, 60_000, "3GPP TS 28.552, 5.1.3.3"
)
uplink_delay_ms = Quantity(
    "one-way uplink packet delay", "ms", 0, 60_000, "3GPP TS 28.552, 5.1.3.3"
)
round_trip_ms = Quantity("round-trip delay of a probe", "ms", 0, 60_000, "RFC 2681")
jitter_ms = Quantity("packet delay variation", "ms", 0, 60_000, "RFC 3393")
downlink_lost_packets = Quantity(
    "downlink packets lost in the second before", "1", 0, 1_000_000, "RFC 7680"
)
uplink_lost_packets = Quantity(
    "uplink packets lost in the second before", "1", 0, 1_000_000, "RFC 7680"
)
packet_loss_ratio = Quantity("share of packets lost, 0 to 1", "1", 0, 1, "3GPP TS 28.552, 5.1.3.1")
speed_mps = Quantity("ground speed", "m/s", 0, 150, "WGS 84 receiver; 150 m/s is beyond any train")
latitude_deg = Quantity(
    "latitude of the position's grid cell, its middle", "deg", -90, 90, "WGS 84"
)
longitude_deg = Quantity(
    "longitude of the position's grid cell, its middle", "deg", -180, 180, "WGS 84"
)
prb_used_ratio = Quantity(
    "share of downlink physical resource blocks in use, 0 to 1", "1", 0, 1,
    "3GPP TS 28.552, 5.1.1.2.1",
)  # fmt: skip
active_ue_count = Quantity(
    "UEs with data in the cell's buffers", "1", 0, 10_000, "3GPP TS 28.552, 5.1.1.23"
)
requested_downlink_mbps = Quantity(
    "downlink rate asked for", "Mbps", 0, 10_000, "3GPP TS 23.501, 5.7.2.5"
)
requested_delay_ms = Quantity(
    "one-way delay asked for, at most", "ms", 0, 60_000, "3GPP TS 23.501, 5.7.3.4"
)
requested_loss_ratio = Quantity(
    "share of lost packets asked for, at most", "1", 0, 1, "3GPP TS 23.501, 5.7.3.5"
)
