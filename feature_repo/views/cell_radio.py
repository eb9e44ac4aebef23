"""What all UEs of a cell hear of it, each minute."""

from datetime import timedelta

from feature_repo.windows import View, of

CELL_RADIO = View(
    name="cell_radio",
    entity="cell",
    keys=("cell_id",),
    table="ue_radio",
    description="radio quality that the UEs of a cell report",
    ttl=timedelta(minutes=15),
    tick=timedelta(minutes=1),
    windows=(
        *of("rsrp_dbm", "mean_5m"),
        *of("sinr_db", "mean_5m", "p10_15m"),
    ),
)
