"""What a request makes of the store's values, one value at a time: slow and obvious."""

import math
from typing import Any

from feature_repo.services import SERVICES
from serving.vectors import ADDED, OF_SERVING_CELL, OVERRIDDEN, SUBSTITUTED, Question

OF_UE = {
    feature.name
    for view in next(one for one in SERVICES if one.name == "qos_v1").members()
    if view.name in ("ue_radio", "ue_neighbour")
    for feature in view.features()
}


def filled(one: Question, row: int, feature: str, value: float, status: int) -> tuple[float, int]:
    """A feature of one of the question's rows: its value and where it comes from."""
    said, request = one.reported[row], one.request
    serving = row == one.serving
    if not serving and feature in OF_UE:
        value, status = math.nan, OF_SERVING_CELL
    reported: Any = _reported(one, row).get(feature)
    if reported is not None:
        of_ue = feature.startswith("ue_")
        return reported, SUBSTITUTED if of_ue and not serving else OVERRIDDEN
    got = request.observed_qos
    added: Any = {
        "cell_active_ue_count_mean_1m": None if said is None else said.active_ue_count,
        "ue_speed_mps_mean_5s": request.speed_mps,
        "flow_downlink_mbps_mean_5s": None if got is None else got.downlink_mbps,
        "flow_downlink_delay_ms_mean_5s": None if got is None else got.downlink_delay_ms,
        "flow_packet_loss_ratio_mean_10s": None if got is None else got.packet_loss_ratio,
    }.get(feature)
    if added is not None and math.isnan(value):
        return added, ADDED
    return value, status


def _reported(one: Question, row: int) -> dict[str, float | None]:
    said, got = one.reported[row], one.request.observed_qos
    found = {"flow_downlink_mbps_last_5s": None if got is None else got.downlink_mbps}
    if said is None:
        return found
    found |= {
        "ue_rsrp_dbm_last_5s": said.rsrp_dbm,
        "ue_rsrq_db_last_5s": said.rsrq_db,
        "ue_sinr_db_last_5s": said.sinr_db,
        "cell_prb_used_ratio_last_1m": said.prb_used_ratio,
    }
    others = [
        other.rsrp_dbm
        for at, other in enumerate(one.reported)
        if at != row and other is not None and other.rsrp_dbm is not None
    ]
    if row != one.serving and said.rsrp_dbm is not None and others:
        found["ue_rsrp_offset_db_max_1s"] = max(others) - said.rsrp_dbm
    return found
