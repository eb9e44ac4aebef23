"""What a UE hears of one candidate cell: the view a cell selector asks for each candidate."""

from feature_repo.windows import View, of, seconds

UE_CELL_LINK = View(
    name="ue_cell_link",
    entity="link",
    keys=("ue_id", "cell_id"),
    table="ue_neighbour",
    description="signal of one candidate cell at one UE",
    ttl=seconds(10),
    windows=(
        *of("rsrp_dbm", "last_5s", "mean_5s"),
        *of("rsrq_db", "last_5s"),
        *of("rsrp_offset_db", "last_5s", "mean_5s"),
    ),
)
