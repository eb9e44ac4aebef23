"""Nothing is registered without evidence, and the reason names all that is missing."""

import copy
from typing import Any

import pytest

from lifecycle.evidence import REQUIRED, refusal

MANIFEST = {"digest": "d1", "tasks": {"throughput": {"band": True}, "handover": {"band": False}}}


def whole() -> dict[str, Any]:
    numbers = dict.fromkeys(REQUIRED, 0.5) | {"bundle": "d1", "reasons": {}}
    return {"throughput": numbers | {"band_coverage": 0.8, "pinball": 1.0}, "handover": numbers}


def test_whole_evidence_is_no_reason_to_refuse() -> None:
    assert refusal(MANIFEST, whole(), require_gain=True) is None


@pytest.mark.parametrize("name", [*REQUIRED, "band_coverage", "pinball"])
@pytest.mark.parametrize("value", [None, float("nan"), "0.5", True])
def test_each_missing_number_is_a_reason(name: str, value: object) -> None:
    metrics = whole()
    metrics["throughput"][name] = value
    said = refusal(MANIFEST, metrics, require_gain=False)
    assert said is not None and said.startswith(f"throughput: no {name}")


def test_the_reason_of_a_null_is_passed_on() -> None:
    metrics = whole()
    metrics["handover"] |= {"auc": None, "reasons": {"auc": "only one class"}}
    said = refusal(MANIFEST, metrics, require_gain=True)
    assert said == "handover: no auc (auc: only one class)"


@pytest.mark.parametrize("low", [0.0, -0.01])
def test_a_gain_whose_interval_includes_zero_counts_only_if_it_is_required(low: float) -> None:
    metrics = copy.deepcopy(whole())
    metrics["handover"]["gain_low"] = low
    said = refusal(MANIFEST, metrics, require_gain=True)
    assert said is not None and "handover: gain over persistence +0.5000" in said
    assert refusal(MANIFEST, metrics, require_gain=False) is None
    assert refusal(MANIFEST, metrics, ("throughput",), require_gain=True) is None


def test_every_fault_is_named_at_once() -> None:
    metrics = whole()
    del metrics["handover"]
    metrics["throughput"]["bundle"] = "d2"
    said = refusal(MANIFEST, metrics, require_gain=True)
    assert said == "handover: not judged; throughput: judged with another bundle"
    said = refusal(MANIFEST, whole(), ("coverage",), require_gain=True)
    assert said == "coverage: not in the bundle, which has ['handover', 'throughput']"
