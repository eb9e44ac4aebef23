"""What a QoS flow of a UE got lately."""

import polars as pl

from feature_repo.windows import Derived, View, of, seconds

_LOST = pl.max_horizontal("downlink_lost_packets", "uplink_lost_packets", "packet_loss_ratio")
_DELAY = pl.max_horizontal("downlink_delay_ms", "uplink_delay_ms")
_DISTURBED = Derived(
    expression=pl.max_horizontal((_LOST > 0).cast(pl.Float64), (_DELAY > 100).cast(pl.Float64)),
    description="1 where a packet was lost or took over 100 ms one way, 0 where none, null: not measured",
    unit="1",
    low=0.0,
    high=1.0,
    source="3GPP TS 23.501, table 5.7.4-1 (packet delay budget of 5QI 7)",
)

UE_FLOW = View(
    name="ue_flow",
    entity="flow",
    keys=("ue_id", "five_qi"),
    table="ue_flow",
    description="rate, delay and loss of a UE's QoS flow over the last seconds",
    ttl=seconds(10),
    derived={"disturbed": _DISTURBED},
    windows=(
        *of(
            "downlink_mbps",
            "last_5s",
            "mean_5s",
            "mean_10s",
            "std_30s",
            "p10_60s",
            "mean_60s",
        ),
        *of("downlink_delay_ms", "mean_5s", "p95_60s"),
        *of("uplink_delay_ms", "mean_3s"),
        *of("round_trip_ms", "last_60s"),
        *of("downlink_lost_packets", "mean_10s"),
        *of("uplink_lost_packets", "mean_10s"),
        *of("packet_loss_ratio", "mean_10s"),
        *of("disturbed", "mean_3s", "mean_10s", "mean_60s"),
    ),
)
