"""The selector: its features are of the decision time, its probabilities mean what they say."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from models.selector import (
    FEATURES,
    Pairs,
    Settings,
    calibration_error,
    features,
    fit,
    from_files,
    to_files,
)
from schemas.errors import QosError

SMALL = Settings(rounds=30, folds=3)


def pairs(count: int, seed: int = 1) -> Pairs:
    random = np.random.default_rng(seed)
    given = {one.name: random.uniform(0.1, 1.0, count) for one in fields(Pairs)}
    return Pairs(**(given | {
        "rsrp_dbm": random.uniform(-120, -70, count),
        "serving_rsrp_dbm": random.uniform(-120, -70, count),
        "rsrq_db": random.uniform(-20, -5, count),
    }))  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> Any:
    """Requests that are met by chance, more probably the stronger the candidate is."""
    given = pairs(6000)
    matrix = features(given)
    chance = 1.0 / (1.0 + np.exp(-(given.rsrp_dbm - given.serving_rsrp_dbm) / 10.0))
    met = (np.random.default_rng(2).random(6000) < chance).astype(np.int64)
    return matrix, met, np.arange(6000) // 1000, chance


@pytest.fixture(scope="module")
def fitted(rows: Any) -> Any:
    return fit(rows[0][:4000], rows[1][:4000], rows[2][:4000], SMALL, seed=1)


def test_the_features_are_what_they_are_called() -> None:
    one = pairs(50)
    matrix = features(one)
    column = {name: matrix[:, number] for number, name in enumerate(FEATURES)}
    assert matrix.shape == (50, len(FEATURES)) and np.isfinite(matrix).all()
    assert np.array_equal(column["better_db"], one.rsrp_dbm - one.serving_rsrp_dbm)
    for row in range(50):
        prb, users = one.prb_used_ratio[row], one.active_ue_count[row]
        assert column["free_prb_ratio"][row] == max(1 - prb, 1 / (1 + users))
        part = 12 * 10 ** (one.rsrq_db[row] / 10)
        sinr = part / max(1 - part * prb, 1e-3)
        assert column["estimated_sinr_db"][row] == pytest.approx(10 * np.log10(sinr))
        met = one.downlink_mbps[row] / one.requested_downlink_mbps[row]
        assert column["served_ratio"][row] == pytest.approx(met)


def test_what_is_not_known_stays_unknown_and_is_still_answered(fitted: Any) -> None:
    given = pairs(20)
    given.prb_used_ratio[:] = np.nan
    matrix = features(given)
    assert np.isnan(matrix[:, FEATURES.index("free_prb_ratio")]).all()
    likely = fitted.probability(matrix)
    assert ((likely > 0.0) & (likely < 1.0)).all()


def test_its_probabilities_are_near_the_true_ones_on_runs_it_never_saw(
    fitted: Any, rows: Any
) -> None:
    matrix, met, _, chance = (part[4000:] for part in rows)
    likely = fitted.probability(matrix)
    assert calibration_error(likely, met) < 0.05
    assert np.abs(likely - chance).mean() < 0.08
    assert np.corrcoef(likely, chance)[0, 1] > 0.95


def test_the_calibration_error_is_the_obvious_one() -> None:
    random = np.random.default_rng(5)
    likely, met = random.random(500), random.integers(0, 2, 500)
    expected = 0.0
    for number in range(10):
        inside = (likely >= number / 10) & (likely < (number + 1) / 10)
        if inside.any():
            expected += inside.mean() * abs(likely[inside].mean() - met[inside].mean())
    assert calibration_error(likely, met) == pytest.approx(expected)
    assert calibration_error(np.array([1.0, 0.0]), np.array([0, 1])) == 1.0
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, dtype=np.int64)))


def test_the_same_rows_and_seed_give_the_same_bytes(rows: Any) -> None:
    matrix, met, run = (part[:3000] for part in rows[:3])
    one, other = (to_files(fit(matrix, met, run, SMALL, seed=4)) for _ in range(2))
    assert one == other != to_files(fit(matrix, met, run, SMALL, seed=5))


def test_what_was_saved_answers_the_same(fitted: Any, rows: Any) -> None:
    again = from_files(to_files(fitted))
    assert again == fitted
    assert np.array_equal(again.probability(rows[0]), fitted.probability(rows[0]))


@pytest.mark.parametrize("name", ["manifest.json", "trees.txt", "calibration.json"])
def test_a_file_that_lacks_is_named(fitted: Any, name: str) -> None:
    files = to_files(fitted)
    del files[name]
    with pytest.raises(QosError, match=f"lacks '{name}'"):
        from_files(files)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("trees.txt", b"tree", b"treE", "trees.txt: changed or truncated"),
        ("calibration.json", b"isotonic", b"isotonik", "calibration.json: changed or truncated"),
        ("manifest.json", b'"format": 1', b'"format": 2', "format 2; this version reads 1"),
        ("manifest.json", b'"speed_mps"', b'"speed_kmh"', "other features.*'speed_kmh'"),
        ("manifest.json", b"{", b"[", "not a whole manifest"),
        ("manifest.json", b'"fitted"', b'"fitter"', "not a whole manifest"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    fitted: Any, name: str, old: bytes, new: bytes, says: str
) -> None:
    files = to_files(fitted)
    assert old in files[name]
    files[name] = files[name].replace(old, new, 1)
    with pytest.raises(QosError, match=says):
        from_files(files)


def test_a_matrix_of_other_columns_is_refused_and_none_is_answered(fitted: Any) -> None:
    with pytest.raises(QosError, match=r"shape \(2, 3\); it takes"):
        fitted.probability(np.zeros((2, 3)))
    assert fitted.probability(np.zeros((0, len(FEATURES)))).shape == (0,)


def test_too_little_to_learn_from_is_refused(rows: Any) -> None:
    matrix, met, run, _ = (part[:300] for part in rows)
    with pytest.raises(QosError, match="1 runs, at least 3"):
        fit(matrix, met, run, SMALL, seed=1)
    with pytest.raises(QosError, match="both 0 and 1"):
        fit(matrix, met * 0, np.arange(300) % 3, SMALL, seed=1)
