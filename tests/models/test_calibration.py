"""Calibration repairs distorted probabilities, keeps their order and survives JSON unchanged."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import calibration as cal
from models.bootstrap import calibration_error_of
from schemas.errors import QosError


def distorted(
    seed: int = 0, count: int = 4000
) -> tuple[cal.Floats, np.ndarray[tuple[int], np.dtype[np.int64]], cal.Floats]:
    """Over-confident raw probabilities of 0/1 labels."""
    random = np.random.default_rng(seed)
    logit = random.normal(0, 1, count)
    label = (random.uniform(size=count) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return 1 / (1 + np.exp(-3 * logit - 1)), label, np.ones(count)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_repairs_a_distorted_score_on_rows_it_has_not_seen(kind: cal.Kind) -> None:
    raw, label, weight = distorted()
    fitted = cal.fit_calibration(raw[:2000], label[:2000], kind, weight[:2000])
    once, session = np.ones((1, 1)), np.zeros(2000, dtype=np.int64)
    before = calibration_error_of(label[2000:], raw[2000:], session, once)[0]
    after = calibration_error_of(label[2000:], cal.calibrated(fitted, raw[2000:]), session, once)[0]
    assert before > 0.12
    assert after < 0.04


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.sampled_from(["platt", "isotonic"]))
def test_calibrated_probabilities_keep_the_order_and_stay_inside(
    scores: list[float], kind: cal.Kind
) -> None:
    raw, label, weight = distorted(count=500)
    fitted = cal.fit_calibration(raw, label, kind, weight)
    answer = cal.calibrated(fitted, np.sort(np.array(scores)))
    assert (np.diff(answer) >= 0).all()
    assert answer.min() >= cal.EDGE and answer.max() <= 1 - cal.EDGE


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_survives_json_to_the_bit(kind: cal.Kind) -> None:
    raw, label, weight = distorted()
    fitted = cal.fit_calibration(raw, label, kind, weight)
    back = cal.from_json(json.loads(json.dumps(cal.to_json(fitted))))
    assert back == fitted
    assert (cal.calibrated(back, raw) == cal.calibrated(fitted, raw)).all()


def test_a_score_that_points_the_wrong_way_becomes_the_class_rate() -> None:
    raw, label, weight = distorted()
    fitted = cal.fit_calibration(1 - raw, label, "platt", weight)
    np.testing.assert_allclose(cal.calibrated(fitted, raw), label.mean(), rtol=1e-6)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(QosError, match=r"'beta' is not known; allowed: \['platt', 'isotonic'\]"):
        cal.from_json({"kind": "beta"})
