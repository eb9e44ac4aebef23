"""One function a measured quantity: its dtype, unit, range and the standard that sets the range.

Every table that holds a quantity asks here, so a unit or a range is stated once. The metadata of
the returned dataframely column carries `unit` (SI or the field's own; "1" for a plain ratio or
count) and `source` (clause or paper); features, Feast fields, suites and docs inherit both.
"""

from collections.abc import Callable

import dataframely as dy
from dataframely.columns import Column


def _quantity(
    description: str, unit: str, low: float, high: float, source: str
) -> Callable[[], Column]:
    """A factory of nullable float64 columns with an inclusive range."""

    def column() -> Column:
        return dy.Float64(
            nullable=True,
            min=low,
            max=high,
            description=description,
            metadata={"unit": unit, "source": source},
        )

    return column


rsrp_dbm = _quantity(
    "reference signal received power of the serving LTE (or only) carrier",
    "dBm", -156, -31, "3GPP TS 38.133, 10.1.6",
)  # fmt: skip
nr_rsrp_dbm = _quantity(
    "SS-RSRP of the NR carrier beside an LTE anchor", "dBm", -156, -31, "3GPP TS 38.133, 10.1.6"
)
rsrq_db = _quantity(
    "reference signal received quality of the serving LTE (or only) carrier",
    "dB", -43, 20, "3GPP TS 38.133, 10.1.11",
)  # fmt: skip
nr_rsrq_db = _quantity(
    "SS-RSRQ of the NR carrier beside an LTE anchor", "dB", -43, 20, "3GPP TS 38.133, 10.1.11"
)
sinr_db = _quantity(
    "signal to interference and noise ratio of the serving cell",
    "dB", -30, 40, "3GPP TS 38.133, 10.1.16; -30 is the floor of common field tools",
)  # fmt: skip
cqi = _quantity("wideband channel quality indicator", "1", 0, 15, "3GPP TS 38.214, 5.2.2.1")
rssi_dbm = _quantity(
    "received signal strength indicator", "dBm", -120, -10, "3GPP TS 36.214, 5.1.3"
)
rsrp_offset_db = _quantity(
    "RSRP of the neighbour less RSRP of the serving cell at the same instant (event A3's offset)",
    "dB", -125, 125, "3GPP TS 38.331, 5.5.4.4",
)  # fmt: skip
nr_rsrp_offset_db = _quantity(
    "SS-RSRP of the NR neighbour less SS-RSRP of the serving NR cell (event A3's offset)",
    "dB", -125, 125, "3GPP TS 38.331, 5.5.4.4",
)  # fmt: skip
downlink_mbps = _quantity(
    "downlink user data rate over the second before", "Mbps", 0, 10_000, "3GPP TS 28.552, 5.1.1.3"
)
uplink_mbps = _quantity(
    "uplink user data rate over the second before", "Mbps", 0, 10_000, "3GPP TS 28.552, 5.1.1.3"
)
downlink_capacity_mbps = _quantity(
    "downlink rate while there was always data to send; null while the application was the limit",
    "Mbps", 0, 10_000, "3GPP TS 28.552, 5.1.1.3",
)  # fmt: skip
downlink_delay_ms = _quantity(
    "one-way downlink packet delay", "ms", 0, 60_000, "3GPP TS 28.552, 5.1.3.3"
)
uplink_delay_ms = _quantity(
    "one-way uplink packet delay", "ms", 0, 60_000, "3GPP TS 28.552, 5.1.3.3"
)
round_trip_ms = _quantity("round-trip delay of a probe", "ms", 0, 60_000, "RFC 2681")
jitter_ms = _quantity("packet delay variation", "ms", 0, 60_000, "RFC 3393")
downlink_lost_packets = _quantity(
    "downlink packets lost in the second before", "1", 0, 1_000_000, "RFC 7680"
)
uplink_lost_packets = _quantity(
    "uplink packets lost in the second before", "1", 0, 1_000_000, "RFC 7680"
)
packet_loss_ratio = _quantity("share of packets lost, 0 to 1", "1", 0, 1, "3GPP TS 28.552, 5.1.3.1")
speed_mps = _quantity("ground speed", "m/s", 0, 150, "WGS 84 receiver; 150 m/s is beyond any train")
latitude_deg = _quantity(
    "latitude of the position's grid cell, its middle", "deg", -90, 90, "WGS 84"
)
longitude_deg = _quantity(
    "longitude of the position's grid cell, its middle", "deg", -180, 180, "WGS 84"
)
prb_used_ratio = _quantity(
    "share of downlink physical resource blocks in use, 0 to 1", "1", 0, 1,
    "3GPP TS 28.552, 5.1.1.2.1",
)  # fmt: skip
active_ue_count = _quantity(
    "UEs with data in the cell's buffers", "1", 0, 10_000, "3GPP TS 28.552, 5.1.1.23"
)
requested_downlink_mbps = _quantity(
    "downlink rate asked for", "Mbps", 0, 10_000, "3GPP TS 23.501, 5.7.2.5"
)
requested_delay_ms = _quantity(
    "one-way delay asked for, at most", "ms", 0, 60_000, "3GPP TS 23.501, 5.7.3.4"
)
requested_loss_ratio = _quantity(
    "share of lost packets asked for, at most", "1", 0, 1, "3GPP TS 23.501, 5.7.3.5"
)
