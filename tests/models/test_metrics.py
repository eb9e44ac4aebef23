"""Metrics are right on rows one can count, honest about what is undefined, and never NaN."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, mean_pinball_loss, roc_auc_score

from models import metrics as m

KEYS = {
    "rows", "auc", "auc_low", "auc_high", "auc_persistence", "gain", "gain_low", "gain_high",
    "auc_radio_only", "band_coverage", "ece", "brier",
}  # fmt: skip


def judged(seed: int = 0, sessions: int = 12, rows: int = 100, skill: float = 2.0) -> m.Judged:
    random = np.random.default_rng(seed)
    count = sessions * rows
    label = random.integers(0, 2, count)
    score = skill * (label - 0.5) + random.normal(size=count)
    value = random.normal(size=count)
    return m.Judged(
        label=label,
        session=np.repeat(np.arange(sessions), rows),
        probability=1 / (1 + np.exp(-score)),
        radio=score + random.normal(size=count),
        persistence=label + random.normal(0, 2, count),
        class_rate=0.5,
        value=value,
        band=np.tile([-1.2816, 0.0, 1.2816], (count, 1)),
        persistence_value=value + 1,
    )


def test_points_equal_those_of_scikit_learn() -> None:
    rows = judged()
    found = m.judge(rows, resamples=50, seed=1)
    assert found.keys() >= KEYS
    assert found["auc"] == pytest.approx(roc_auc_score(rows.label, rows.probability))
    assert found["auc_persistence"] == pytest.approx(roc_auc_score(rows.label, rows.persistence))
    assert found["auc_radio_only"] == pytest.approx(roc_auc_score(rows.label, rows.radio))
    assert found["gain"] == pytest.approx(found["auc"] - found["auc_persistence"])
    assert found["brier"] == pytest.approx(brier_score_loss(rows.label, rows.probability))
    losses = [
        mean_pinball_loss(rows.value, rows.band[:, k], alpha=level)  # type: ignore[index]
        for k, level in enumerate(m.QUANTILES)
    ]
    assert found["pinball"] == pytest.approx(np.mean(losses))
    assert found["band_coverage"] == pytest.approx(0.8, abs=0.03)
    assert found["mae_persistence"] == pytest.approx(1)
    assert found["reasons"] == {}


def test_intervals_hold_their_point_and_repeat_with_the_seed() -> None:
    found = m.judge(judged(), resamples=200, seed=1)
    for name in ("auc", "gain", "brier", "ece", "ap", "pinball", "band_coverage"):
        assert found[f"{name}_low"] < found[name] <= found[f"{name}_high"] + 0.02, name
    assert found == m.judge(judged(), resamples=200, seed=1)
    assert found["auc_low"] != m.judge(judged(), resamples=200, seed=2)["auc_low"]


def test_a_model_that_is_persistence_gains_exactly_nothing() -> None:
    rows = judged()
    found = m.judge(dataclasses.replace(rows, persistence=rows.probability), 100, 1)
    assert (found["gain"], found["gain_low"], found["gain_high"]) == (0, 0, 0)
    assert found["verdict"].startswith("No gain over persistence is shown")


@pytest.mark.parametrize(
    ("skill", "says"), [(4.0, "Better than persistence"), (-1.0, "Worse than persistence")]
)
def test_the_verdict_says_plainly_which_is_better(skill: float, says: str) -> None:
    assert m.judge(judged(skill=skill), 100, 1)["verdict"].startswith(says)


def test_the_gain_is_taken_on_the_rows_that_have_a_past() -> None:
    rows = judged()
    past = rows.persistence.copy()
    past[::3] = np.nan
    found = m.judge(dataclasses.replace(rows, persistence=past), 20, 1)
    known = np.isfinite(past)
    expected = roc_auc_score(rows.label[known], rows.probability[known]) - roc_auc_score(
        rows.label[known], past[known]
    )
    assert found["rows_with_persistence"] == known.sum()
    assert found["gain"] == pytest.approx(expected)


def test_one_class_leaves_ranking_metrics_null_with_a_reason_and_the_others_whole() -> None:
    rows = dataclasses.replace(judged(), label=np.ones(1200, dtype=np.int64))
    found = m.judge(rows, 50, 1)
    for name in ("auc", "auc_persistence", "auc_radio_only", "gain", "gain_low"):
        assert found[name] is None
    assert found["reasons"]["auc"] == "only one class among the rows"
    assert found["brier"] is not None and found["ece"] is not None
    assert found["verdict"] == (
        "No gain over persistence can be stated: only one class among the rows."
    )


def test_few_sessions_give_points_but_no_interval() -> None:
    found = m.judge(judged(sessions=4), 50, 1)
    assert found["auc"] is not None and found["auc_low"] is None
    assert found["reasons"]["gain_low"] == "4 sessions; an interval needs at least 5"
    assert "unproven" in found["verdict"]


def test_a_task_without_value_or_persistence_or_radio_says_so() -> None:
    rows = dataclasses.replace(
        judged(), value=None, band=None, persistence_value=None, radio=None,
        persistence=np.full(1200, np.nan),
    )  # fmt: skip
    found = m.judge(rows, 50, 1)
    assert found["band_coverage"] is None and found["gain"] is None
    assert found["reasons"]["band_coverage"] == "the task has no continuous target"
    assert found["reasons"]["gain"] == "no row has a persistence score"
    assert found["reasons"]["auc_radio_only"] == "the source has no radio features"


@given(st.integers(0, 999), st.integers(1, 8), st.integers(1, 6), st.sampled_from([0, 1, None]))
def test_no_metric_is_ever_nan(seed: int, sessions: int, rows: int, only: int | None) -> None:
    every = judged(seed, sessions, rows)
    if only is not None:
        every = dataclasses.replace(every, label=np.full(len(every.label), only))
    found = m.judge(every, 10, 1)
    json.dumps(found, allow_nan=False)
    assert {name for name in found["reasons"] if found[name] is not None} == set()


def test_the_confusion_matrix_counts_every_row_once() -> None:
    label = np.array([1, 1, 1, 0, 0])
    found = m.confusion(label, np.array([0.9, 0.5, 0.1, 0.7, 0.2]))
    assert found == {
        "threshold": 0.5, "true_positive": 2, "false_negative": 1, "false_positive": 1,
        "true_negative": 1, "precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3),
    }  # fmt: skip
    assert m.confusion(label, np.zeros(5))["precision"] is None
