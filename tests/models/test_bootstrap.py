"""Every weighted statistic against scikit-learn or two slow loops; sessions are redrawn whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from models import bootstrap as bs


def rows(seed: int, count: int = 200, sessions: int = 7, ties: bool = True):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    session = random.integers(0, sessions, count)
    label = random.integers(0, 2, count)
    score = random.normal(size=count) + label
    return label, np.round(score, 1) if ties else score, session


def drawn(session: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Row numbers of a resample, sessions repeated as drawn: the slow way."""
    return np.concatenate(
        [np.flatnonzero(session == s) for s, times in enumerate(weights) for _ in range(int(times))]
    )


@given(st.integers(0, 10_000), st.booleans())
def test_weighted_auc_is_the_auc_of_the_repeated_rows(seed: int, ties: bool) -> None:
    label, score, session = rows(seed, ties=ties)
    weights = bs.resample_weights(7, 4, seed)
    found = bs.auc_of(bs.pair_counts(label, score, session, 7), weights)
    for row, value in zip(weights, found, strict=True):
        chosen = drawn(session, row)
        if len(np.unique(label[chosen])) == 2:
            assert value == pytest.approx(roc_auc_score(label[chosen], score[chosen]))
        else:
            assert np.isnan(value)


@given(st.integers(0, 10_000), st.booleans())
def test_weighted_average_precision_is_that_of_the_repeated_rows(seed: int, ties: bool) -> None:
    label, score, session = rows(seed, ties=ties)
    weights = bs.resample_weights(7, 4, seed)
    found = bs.average_precision_of(label, score, session, weights, chunk=3)
    for row, value in zip(weights, found, strict=True):
        chosen = drawn(session, row)
        if label[chosen].any():
            expected = average_precision_score(label[chosen], score[chosen])
            assert value == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_weighted_calibration_error_is_that_of_the_repeated_rows(seed: int) -> None:
    label, score, session = rows(seed)
    probability = 1 / (1 + np.exp(-score))
    weights = bs.resample_weights(7, 4, seed)
    found = bs.calibration_error_of(label, probability, session, weights)
    for row, value in zip(weights, found, strict=True):
        chosen = drawn(session, row)
        total = 0.0
        for low in range(10):
            inside = [i for i in chosen if low / 10 <= probability[i] < (low + 1) / 10]
            if inside:
                gap = np.mean(probability[inside]) - np.mean(label[inside])
                total += len(inside) * abs(gap)
        assert value == pytest.approx(total / len(chosen))


def test_weighted_mean_is_the_mean_of_the_repeated_rows() -> None:
    _, score, session = rows(3)
    weights = bs.resample_weights(7, 50, 3)
    found = bs.mean_of(score, session, weights)
    expected = [score[drawn(session, row)].mean() for row in weights]
    np.testing.assert_allclose(found, expected)


def test_resamples_draw_as_many_sessions_as_there_are_and_repeat_with_the_seed() -> None:
    weights = bs.resample_weights(9, 100, 4)
    assert (weights.sum(axis=1) == 9).all()
    assert (weights == bs.resample_weights(9, 100, 4)).all()
    assert (weights != bs.resample_weights(9, 100, 5)).any()


def test_the_interval_of_correlated_rows_is_wider_by_session_than_by_row() -> None:
    random = np.random.default_rng(0)
    session = np.repeat(np.arange(20), 100)
    values = random.normal(size=20)[session] + 0.1 * random.normal(size=2000)
    by_session = bs.interval(bs.mean_of(values, session, bs.resample_weights(20, 500, 1)))
    by_row = bs.interval(bs.mean_of(values, np.arange(2000), bs.resample_weights(2000, 500, 1)))
    assert by_session is not None and by_row is not None
    assert by_session[1] - by_session[0] > 5 * (by_row[1] - by_row[0])


def test_an_interval_of_mostly_undefined_values_is_none() -> None:
    assert bs.interval(np.array([np.nan] * 6 + [0.5] * 4)) is None
    assert bs.interval(np.array([np.nan] * 4 + [0.5] * 6)) == (0.5, 0.5)
