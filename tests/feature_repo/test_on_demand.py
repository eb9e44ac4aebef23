"""The margin between what is asked and what was seen, by hand and over both forms of a frame."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.frames import qos_margin
from feature_repo.views.qos_margin import INPUTS, OBSERVED, QOS_MARGIN, REQUEST, compute
from feature_repo.views.ue_flow import UE_FLOW
from schemas.tables import TABLES

NAN = math.nan


def margins(**inputs: float) -> dict[str, float]:
    columns = {name: np.array([inputs.get(name, NAN)]) for name in INPUTS}
    return {name: float(values[0]) for name, values in compute(columns).items()}


def test_more_than_asked_is_above_zero_and_less_is_below() -> None:
    asked = {
        "requested_downlink_mbps": 10.0, "requested_delay_ms": 50.0, "requested_loss_ratio": 0.01,
    }  # fmt: skip
    good = margins(
        **asked,
        flow_downlink_mbps_mean_5s=12.5,
        flow_downlink_delay_ms_mean_5s=20.0,
        flow_packet_loss_ratio_mean_10s=0.0,
    )
    assert good == {
        "request_downlink_mbps": 10.0, "request_delay_ms": 50.0, "qos_downlink_margin_mbps": 2.5,
        "qos_delay_margin_ms": 30.0, "qos_loss_margin_ratio": 0.01,
    }  # fmt: skip
    bad = margins(
        **asked,
        flow_downlink_mbps_mean_5s=4.0,
        flow_downlink_delay_ms_mean_5s=75.0,
        flow_packet_loss_ratio_mean_10s=0.26,
    )
    assert bad["qos_downlink_margin_mbps"] == -6.0
    assert bad["qos_delay_margin_ms"] == -25.0
    assert bad["qos_loss_margin_ratio"] == -0.25


@pytest.mark.parametrize("place", range(3))
def test_a_margin_is_unknown_where_either_side_is_and_the_others_are_not(place: int) -> None:
    known = dict.fromkeys(INPUTS, 0.5)
    names = ["qos_downlink_margin_mbps", "qos_delay_margin_ms", "qos_loss_margin_ratio"]
    for missing in (REQUEST[place], OBSERVED[place]):
        found = margins(**(known | {missing: NAN}))
        unknown = {name for name in names if math.isnan(found[name])}
        assert unknown == {names[place]}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.none() | st.floats(0, 1e4), min_size=6, max_size=6), max_size=8))
def test_the_frame_form_gives_what_the_column_form_gives(rows: list[list[float | None]]) -> None:
    index = range(100, 100 + len(rows))
    frame = pd.DataFrame(rows, columns=list(INPUTS), index=index, dtype="Float64")
    columns = {
        name: np.array([NAN if row[i] is None else row[i] for row in rows], dtype=np.float64)
        for i, name in enumerate(INPUTS)
    }
    found = qos_margin(frame)
    assert list(found.index) == list(index)
    assert list(found.columns) == [feature.name for feature in QOS_MARGIN.features()]
    for name, values in compute(columns).items():
        np.testing.assert_array_equal(found[name].to_numpy(), values)


def test_it_computes_what_it_declares_from_what_is_there() -> None:
    declared = {feature.name for feature in QOS_MARGIN.features()}
    assert set(margins()) == declared
    assert set(OBSERVED) <= {feature.name for feature in UE_FLOW.features()}
    assert set(REQUEST) <= set(TABLES["qos_request"].columns())


def test_qos_margins_of_admitted_values_keep_to_their_ranges() -> None:
    asks = TABLES["qos_request"].columns()
    seen = {feature.name: (feature.low, feature.high) for feature in UE_FLOW.features()}
    ends = {name: (asks[name].min, asks[name].max) for name in REQUEST}  # type: ignore[attr-defined]
    ends |= {name: seen[name] for name in OBSERVED}
    corners = np.array(np.meshgrid(*(ends[name] for name in INPUTS))).reshape(len(INPUTS), -1)
    found = compute(dict(zip(INPUTS, corners.astype(float), strict=True)))
    for feature in QOS_MARGIN.features():
        assert feature.low is not None and feature.high is not None
        values = found[feature.name]
        assert (values.min(), values.max()) == (feature.low, feature.high), feature.name
