"""The forecast learns, knows what it does not see, and is the same to the bit each time."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.forecaster import Forecast, Rows, Settings, TaskModel, dev_loss, fit_task
from models.search import search

NAMES = ["radio_a", "radio_b", "history", "noise"]
SETTINGS = Settings(rounds=60, folds=3)


def world(seed: int, sessions: int = 12, length: int = 100) -> Rows:
    """A value driven by radio_a and history; the last third of the sessions is dev."""
    random = np.random.default_rng(seed)
    count = sessions * length
    session = np.repeat(np.arange(sessions), length)
    features = random.normal(size=(count, 4))
    value = np.exp(1.5 + 0.4 * features[:, 0] + 0.8 * features[:, 2] + random.normal(0, 0.5, count))
    features[random.uniform(size=features.shape) < 0.05] = np.nan
    return Rows(
        features, (value > 5).astype(np.int64), session, session >= sessions * 2 // 3, value
    )


@pytest.fixture(scope="module")
def model() -> TaskModel:
    return fit_task(world(1), NAMES, NAMES[:2], SETTINGS, seed=3)


def test_it_ranks_unseen_sessions_and_radio_alone_ranks_them_less_well(model: TaskModel) -> None:
    unseen, forecast = world(2), Forecast(model)
    auc = roc_auc_score(unseen.label, forecast.probability(unseen.features))
    radio = roc_auc_score(unseen.label, forecast.radio_score(unseen.features[:, :2]))
    assert auc > 0.85
    assert 0.6 < radio < auc - 0.05


def test_its_band_holds_what_it_promises_on_unseen_sessions_and_never_crosses(
    model: TaskModel,
) -> None:
    unseen = world(2, sessions=40)
    band = Forecast(model).band(unseen.features)
    assert band is not None and unseen.value is not None
    inside = (unseen.value >= band[:, 0]) & (unseen.value <= band[:, 2])
    assert inside.mean() == pytest.approx(SETTINGS.coverage, abs=0.04)
    assert (np.diff(band, axis=1) >= 0).all() and band.min() >= 0


def test_a_row_of_which_nothing_is_known_still_gets_an_answer(model: TaskModel) -> None:
    nothing = np.full((1, 4), np.nan)
    forecast = Forecast(model)
    assert 0 < forecast.probability(nothing)[0] < 1
    assert np.isfinite(forecast.band(nothing)).all()  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(model: TaskModel) -> None:
    alone = dataclasses.replace(SETTINGS, workers=1)
    assert fit_task(world(1), NAMES, NAMES[:2], alone, seed=3) == model
    assert fit_task(world(1), NAMES, NAMES[:2], SETTINGS, seed=4) != model


def test_a_task_without_values_or_radio_has_neither_band_nor_twin() -> None:
    rows = dataclasses.replace(world(1), value=None)
    fitted = fit_task(rows, NAMES, [], SETTINGS, seed=3)
    assert (fitted.quantiles, fitted.bands, fitted.radio) == ((), None, None)
    assert Forecast(fitted).band(rows.features) is None
    assert Forecast(fitted).radio_score(rows.features) is None


def test_a_search_is_never_worse_on_dev_and_repeats_with_its_seed() -> None:
    start = Settings(rounds=20, learning_rate=0.02, leaves=4)
    found = search([world(1)], NAMES, start, trials=4, seed=5)
    assert found == search([world(1)], NAMES, start, trials=4, seed=5)
    assert dev_loss(world(1), NAMES, found, 5) <= dev_loss(world(1), NAMES, start, 5)
    assert found != start
