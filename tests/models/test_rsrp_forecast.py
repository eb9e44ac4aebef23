"""The forecast of RSRP: its features are of the past alone, and it learns what there is to learn."""

import numpy as np
import pytest

from models import selector
from models.calibration import Calibration, fit_calibration
from models.rsrp_forecast import (
    DEPTH_S,
    FEATURES,
    SLOW,
    Forecast,
    History,
    Settings,
    fit,
    from_files,
    to_files,
)
from models.trees import Trees
from schemas.errors import QosError

SMALL = Settings(rounds=60, rows_per_leaf=20)


def walk(seconds: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return -90.0 + np.cumsum(random.normal(0.0, 2.0, (seconds, 3, 4)), axis=0)


def told(levels: np.ndarray, ue: int, cell: int) -> list[float]:
    """The features of the last second, as one loop says."""
    one = [float(level) for level in levels[:, ue, cell]]
    last = [one[max(len(one) - 1 - back, 0)] for back in range(DEPTH_S)]
    mean = one[0]
    for level in one[1:]:
        mean += SLOW * (level - mean)
    return [
        last[0], last[0] - last[1], last[1] - last[2], last[0] - last[3], last[0] - mean,
        max(last) - last[0], last[0] - min(last), 1.5 * ue,
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [1, 2, 4, 5, 9])
def test_features_are_those_of_the_last_reports(seconds: int) -> None:
    levels, history = walk(seconds), History()
    for level in levels:
        history.see(level)
    ue, cell = np.array([0, 2, 2]), np.array([3, 0, 1])
    found = history.features(1.5 * np.arange(3.0), ue, cell)
    expected = [told(levels, int(u), int(c)) for u, c in zip(ue, cell, strict=True)]
    assert found.shape == (3, len(FEATURES))
    assert np.allclose(found, expected)


def learned(count: int = 4000) -> tuple[np.ndarray, np.ndarray, Forecast]:
    random = np.random.default_rng(3)
    matrix = random.normal(0.0, 5.0, (count, len(FEATURES)))
    change = 0.8 * matrix[:, FEATURES.index("below_most_db")] + random.normal(0.0, 0.5, count)
    return matrix, change, fit(matrix, change, SMALL, seed=1)


def test_it_learns_and_the_same_rows_give_the_same_bytes() -> None:
    matrix, change, forecast = learned()
    left = change - forecast.change_db(matrix)
    assert left.var() < 0.1 * change.var()
    assert learned()[2].trees == forecast.trees
    assert forecast.fitted == {"rows": 4000, "horizon_s": 5, "seed": 1}
    assert forecast.change_db(matrix[:0]).shape == (0,)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(QosError, match="no second"):
        History().features(np.zeros(1), np.array([0]), np.array([0]))
    with pytest.raises(QosError, match="0 rows"):
        fit(np.zeros((0, len(FEATURES))), np.zeros(0), SMALL, seed=1)
    _, _, forecast = learned(200)
    with pytest.raises(QosError, match="takes 8 columns"):
        forecast.change_db(np.zeros((2, 3)))


def test_what_was_saved_forecasts_the_same() -> None:
    matrix, _, forecast = learned(500)
    again = from_files(to_files(forecast))
    assert again == forecast
    assert np.array_equal(again.change_db(matrix), forecast.change_db(matrix))
    assert sorted(to_files(forecast)) == ["manifest.json", "trees.txt"]


def test_the_files_of_another_model_are_refused() -> None:
    other = selector.Selector(
        Trees(selector.WHAT, selector.FEATURES, "tree"), fit_platt(), {"rows": 1}
    )
    with pytest.raises(QosError, match="kept: trained on other features than this version"):
        from_files(selector.to_files(other), "kept")


def fit_platt() -> Calibration:
    return fit_calibration(np.array([0.2, 0.8]), np.array([0, 1]), "platt", np.ones(2))
