"""What a UE hears of its serving cell."""

import polars as pl

from feature_repo.windows import Derived, View, of, seconds

_ON_NR = Derived(
    expression=(pl.col("rat").cast(pl.String) == "NR").cast(pl.Float64),
    description="1 where the UE reports 5G NR, 0 where an older technology, null: not known",
    unit="1",
    low=0.0,
    high=1.0,
    source="3GPP TS 23.501, 5.3.2.3",
)

UE_RADIO = View(
    name="ue_radio",
    entity="ue",
    keys=("ue_id",),
    table="ue_radio",
    description="serving cell radio quality of a UE over the last seconds",
    ttl=seconds(10),
    derived={"on_nr": _ON_NR},
    windows=(
        *of("rsrp_dbm", "last_5s", "mean_10s", "std_10s", "slope_3s"),
        *of("rsrq_db", "last_5s", "mean_10s", "slope_3s"),
        *of("sinr_db", "last_5s", "mean_10s", "min_10s", "share_below_0_30s"),
        *of("cqi", "mean_10s"),
        *of("nr_rsrp_dbm", "last_5s", "std_10s"),
        *of("nr_rsrq_db", "last_5s", "slope_3s"),
        *of("on_nr", "mean_5s", "mean_60s"),
    ),
)
