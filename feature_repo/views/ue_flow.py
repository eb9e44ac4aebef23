"""What a QoS flow of a UE got lately."""

from feature_repo.windows import View, of, seconds

UE_FLOW = View(
    name="ue_flow",
    entity="flow",
    keys=("ue_id", "five_qi"),
    table="ue_flow",
    description="rate, delay and loss of a UE's QoS flow over the last seconds",
    ttl=seconds(10),
    windows=(
        *of("downlink_mbps", "last_5s", "mean_5s", "min_10s", "std_10s", "slope_10s"),
        *of("downlink_mbps", "p10_60s", "mean_60s", "share_below_10_30s"),
        *of("uplink_mbps", "mean_5s"),
        *of("downlink_delay_ms", "last_5s", "mean_5s", "p95_60s"),
        *of("uplink_delay_ms", "mean_5s", "max_10s", "mean_60s"),
        *of("jitter_ms", "mean_10s"),
        *of("round_trip_ms", "last_60s"),
        *of("downlink_lost_packets", "mean_10s"),
        *of("uplink_lost_packets", "mean_10s", "mean_60s"),
        *of("packet_loss_ratio", "mean_10s"),
    ),
)
