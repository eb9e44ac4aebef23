"""What a cell gave over the last day and week, each hour in which somebody used it."""

from datetime import timedelta

from feature_repo.windows import View, of

CELL_HISTORY = View(
    name="cell_history",
    entity="cell",
    keys=("cell_id",),
    table="ue_flow",
    description="what a cell's flows got over the last day and week",
    ttl=timedelta(days=28),
    tick=timedelta(hours=1),
    windows=(
        *of("downlink_capacity_mbps", "mean_1d", "mean_7d"),
        *of("downlink_delay_ms", "p95_1d"),
    ),
)
