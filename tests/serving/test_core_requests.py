"""What is taken and what is refused, and that a NEF's own question is taken as it is."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.requests import EXAMPLE, MOST_CANDIDATES, BatchRequest, PredictRequest

NEF = {
    "ue_id": "imsi-001010000000001",
    "event_timestamp": "2026-03-04T10:00:00.250000+00:00",
    "five_qi": 9,
    "connected_to": "00101-000001001",
    "speed_mps": 1.4,
    "observed_qos": {
        "downlink_mbps": 12.5,
        "downlink_delay_ms": 21.0,
        "jitter_ms": 2.5,
        "packet_loss_ratio": 0.0,
    },
    "candidates": [
        {
            "cell_id": "00101-000001001",
            "rsrp_dbm": -97.5,
            "rsrq_db": -12.25,
            "sinr_db": 4.5,
            "prb_used_ratio": 0.5,
            "active_ue_count": 7,
        }
    ],
}


def read(**changed: Any) -> PredictRequest:
    return PredictRequest.model_validate_json(json.dumps(NEF | changed))


def test_a_nefs_question_is_taken_as_it_is() -> None:
    found = read()
    assert found.candidates is not None and found.observed_qos is not None
    assert found.candidates[0].active_ue_count == 7
    assert found.observed_qos.downlink_delay_ms == 21.0


def test_the_example_of_the_documentation_is_taken() -> None:
    assert PredictRequest.model_validate_json(json.dumps(EXAMPLE)).service_class == "embb"


def candidates(**changed: Any) -> dict[str, Any]:
    return {"candidates": [NEF["candidates"][0] | changed]}  # type: ignore[index]


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"latitude_deg": 38.0, "longitude_deg": 23.7}, "latitude_deg"),
        ({"position_m": 38.0}, "position_m"),
        ({"speed_mps": -1.0}, "speed_mps"),
        ({"ue_id": ""}, "ue_id"),
        ({"ue_id": "a" * 129}, "ue_id"),
        ({"ue_id": 7}, "ue_id"),
        ({"five_qi": 11}, ""),
        ({"five_qi": True}, "five_qi"),
        ({"service_class": "gaming"}, "service_class"),
        ({"priority": 0}, "priority"),
        ({"priority": 11}, "priority"),
        ({"event_timestamp": "2026-03-04T10:00:00"}, "event_timestamp"),
        ({"thresholds": {}}, "thresholds"),
        ({"observed_qos": {"downlink_mbps": math.nan}}, "observed_qos.downlink_mbps"),
        ({"observed_qos": {"downlink_mbps": math.inf}}, "observed_qos.downlink_mbps"),
        ({"observed_qos": {"downlink_mbps": "12"}}, "observed_qos.downlink_mbps"),
        ({"observed_qos": {"throughput": 12}}, "observed_qos.throughput"),
        ({"features": {"ue_rsrp_dbm_last_5s": math.nan}}, "features.ue_rsrp_dbm_last_5s"),
        (candidates(rsrp_dbm=97.5), "candidates.0.rsrp_dbm"),
        (candidates(prb_used_ratio=50), "candidates.0.prb_used_ratio"),
        (candidates(cell_id=None), "candidates.0.cell_id"),
        ({"candidates": NEF["candidates"] * 2}, ""),  # type: ignore[operator]
        ({"candidates": [{"cell_id": str(n)} for n in range(10_000)]}, "candidates"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(changed: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(**changed)
    assert place in [".".join(map(str, one["loc"])) for one in refused.value.errors()]


def test_as_many_candidates_as_are_allowed() -> None:
    found = read(candidates=[{"cell_id": str(n)} for n in range(MOST_CANDIDATES)])
    assert len(found.candidates or ()) == MOST_CANDIDATES


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValidationError):
        BatchRequest.model_validate({"requests": []})


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_anything_else_is_refused_and_nothing_else_raises(content: Any) -> None:
    with pytest.raises(ValidationError):
        PredictRequest.model_validate_json(json.dumps(content))
