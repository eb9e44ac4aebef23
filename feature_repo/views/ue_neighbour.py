"""The best of what a UE hears besides its serving cell; an offset above 0 is stronger than it."""

import polars as pl

from feature_repo.windows import View, of, seconds

UE_NEIGHBOUR = View(
    name="ue_neighbour",
    entity="ue",
    keys=("ue_id",),
    table="ue_neighbour",
    clock="ue_radio",
    description="strongest neighbour cells of a UE, against its serving cell (event A3's offset)",
    ttl=seconds(10),
    where=pl.col("rank") > 0,
    windows=(
        *of("rsrp_offset_db", "max_1s", "mean_3s", "slope_3s"),
        *of("nr_rsrp_offset_db", "max_1s", "mean_3s", "slope_3s"),
    ),
)
