"""How a UE moves; where it is stays out of the features."""

from feature_repo.windows import View, of, seconds

UE_MOTION = View(
    name="ue_motion",
    entity="ue",
    keys=("ue_id",),
    table="ue_motion",
    description="speed of a UE over the last seconds",
    ttl=seconds(10),
    windows=of("speed_mps", "mean_5s", "mean_60s"),
)
