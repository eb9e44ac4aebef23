"""Asked against observed, at the request: above 0 the flow lately got better than what is asked."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from feature_repo.views.ue_flow import UE_FLOW
from feature_repo.windows import Feature, OnDemandView

Column = NDArray[np.float64]

REQUEST = ("requested_downlink_mbps", "requested_delay_ms", "requested_loss_ratio")
OBSERVED = (
    "flow_downlink_mbps_mean_5s",
    "flow_downlink_delay_ms_mean_5s",
    "flow_packet_loss_ratio_mean_10s",
)
INPUTS = (*REQUEST, *OBSERVED)


def compute(inputs: Mapping[str, Column]) -> dict[str, Column]:
    """The declared features from columns of equal length (float64, NaN: unknown, and so the margin)."""
    return {
        "request_downlink_mbps": inputs["requested_downlink_mbps"] + 0.0,
        "request_delay_ms": inputs["requested_delay_ms"] + 0.0,
        "qos_downlink_margin_mbps": (
            inputs["flow_downlink_mbps_mean_5s"] - inputs["requested_downlink_mbps"]
        ),
        "qos_delay_margin_ms": (
            inputs["requested_delay_ms"] - inputs["flow_downlink_delay_ms_mean_5s"]
        ),
        "qos_loss_margin_ratio": (
            inputs["requested_loss_ratio"] - inputs["flow_packet_loss_ratio_mean_10s"]
        ),
    }


def _feature(
    name: str, description: str, unit: str, low: float, high: float, column: str
) -> Feature:
    return Feature(
        name, "qos_margin", description, unit, low, high, "3GPP TS 23.501, 5.7", column,
        "on_demand", None,
    )  # fmt: skip


QOS_MARGIN = OnDemandView(
    name="qos_margin",
    description="what the request asks against what its flow lately got",
    views=(UE_FLOW,),
    request=REQUEST,
    declared=(
        _feature(
            "request_downlink_mbps", "downlink rate asked for", "Mbps", 0, 10_000,
            "request.requested_downlink_mbps",
        ),
        _feature(
            "request_delay_ms", "one-way delay asked for, at most", "ms", 0, 60_000,
            "request.requested_delay_ms",
        ),
        _feature(
            "qos_downlink_margin_mbps", "mean downlink rate of 5s less the rate asked for",
            "Mbps", -10_000, 10_000, "ue_flow.downlink_mbps",
        ),
        _feature(
            "qos_delay_margin_ms", "delay asked for less the mean downlink delay of 5s",
            "ms", -60_000, 60_000, "ue_flow.downlink_delay_ms",
        ),
        _feature(
            "qos_loss_margin_ratio", "loss asked for less the mean loss ratio of 10s",
            "1", -1, 1, "ue_flow.packet_loss_ratio",
        ),
    ),
    compute=compute,
    on_frame="feature_repo.frames.qos_margin",
)  # fmt: skip
