"""Handovers and radio failures of a UE, counted each time it reports radio."""

import polars as pl

from feature_repo.windows import Derived, View, of, seconds
from schemas.tables import FAILURE_KINDS, HANDOVER_KINDS


def _is(kinds: tuple[str, ...], description: str) -> Derived:
    """1 where the event is one of the kinds, null elsewhere: so that counting counts these."""
    return Derived(
        expression=pl.when(pl.col("kind").cast(pl.String).is_in(kinds)).then(1.0),
        description=description,
        unit="1",
        low=1.0,
        high=1.0,
        source="3GPP TS 38.331, 5.3 and 5.5",
    )


UE_EVENT = View(
    name="ue_event",
    entity="ue",
    keys=("ue_id",),
    table="network_event",
    clock="ue_radio",
    description="handovers and radio link failures of a UE",
    ttl=seconds(10),
    derived={
        "handover": _is(HANDOVER_KINDS, "handover of any kind"),
        "link_failure": _is(FAILURE_KINDS, "radio link or secondary cell group failure"),
    },
    windows=(
        *of("handover", "count_3s", "count_10s", "count_5m", "since_s_5m"),
        *of("link_failure", "since_s_5m"),
    ),
)
