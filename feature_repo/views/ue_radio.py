"""What a UE hears of its serving cell."""

from feature_repo.windows import View, of, seconds

UE_RADIO = View(
    name="ue_radio",
    entity="ue",
    keys=("ue_id",),
    table="ue_radio",
    description="serving cell radio quality of a UE over the last seconds",
    ttl=seconds(10),
    windows=(
        *of("rsrp_dbm", "last_5s", "mean_5s", "std_10s", "slope_5s", "mean_60s"),
        *of("rsrq_db", "last_5s", "mean_10s"),
        *of("sinr_db", "last_5s", "mean_5s", "min_10s", "slope_10s", "share_below_0_30s"),
        *of("sinr_db", "mean_60s"),
        *of("cqi", "last_5s", "mean_10s"),
        *of("nr_rsrp_dbm", "last_5s", "mean_5s", "slope_5s"),
        *of("nr_rsrq_db", "last_5s"),
        *of("rsrp_dbm", "count_10s"),
    ),
)
