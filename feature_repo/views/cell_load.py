"""How busy a cell says it is."""

from datetime import timedelta

from feature_repo.windows import View, of

CELL_LOAD = View(
    name="cell_load",
    entity="cell",
    keys=("cell_id",),
    table="cell_load",
    description="resource use of a cell as it reports it",
    ttl=timedelta(minutes=5),
    windows=(
        *of("prb_used_ratio", "last_1m", "mean_5m"),
        *of("active_ue_count", "mean_1m"),
    ),
)
