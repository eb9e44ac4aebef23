"""Fits the forecast of one task: calibrated classifier, p10/p50/p90 band, radio-only classifier.

Pure: arrays in, models out; the same arrays, settings and seed give the same bytes. Null features
are NaN, which LightGBM sends to the better side of each split.

Dev tells when to stop; the final classifiers are then fitted on train and dev together, for that many
rounds, and calibrated by cross-fitting over all their sessions: each session is scored by models that
did not see it, as a session of tomorrow will be. The quantile models stay as train made them, and dev
gives their conformal amounts: amounts from cross-fitted models, which see fewer sessions than the
final ones, made the band too wide (by 2 to 5 points of coverage on three sources).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration, Kind, calibrated, fit_calibration
from models.conformal import Bands, adjusted, fit_bands
from models.metrics import QUANTILES

if TYPE_CHECKING:
    import lightgbm as lgb

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """How the trees grow and how the forecast is calibrated."""

    learning_rate: float = 0.1
    leaves: int = 31
    rows_per_leaf: int = 200  # at least; fewer on frames under 10,000 rows
    feature_share: float = 0.3  # of the features, drawn for each tree
    row_share: float = 0.7  # of the rows, drawn for each tree
    l2: float = 10.0
    bins: int = 63  # of each feature; 255 took twice the time for the same dev loss
    rounds: int = 300  # at most
    patience: int = 30  # rounds without a better dev loss before it stops
    folds: int = 6  # of sessions, for calibration
    calibration: Kind = "platt"
    coverage: float = 0.8  # of the band between p10 and p90
    width_classes: int = 5  # of the raw band, each with its own conformal amounts
    workers: int = 2  # threads; each fit uses one, so the result does not depend on them


@dataclass(frozen=True)
class Rows:
    """Train and dev rows of one task, one entry a row.

    features: float64, NaN = unknown; label 0/1; value: continuous target or None, NaN = unknown;
    session: number of the session; dev: true for rows of dev.
    """

    features: Floats
    label: Ints
    session: Ints
    dev: NDArray[np.bool_]
    value: Floats | None = None


@dataclass(frozen=True)
class TaskModel:
    """The fitted forecast of one task, its boosters as LightGBM text."""

    classifier: str
    calibration: Calibration
    radio: str | None = None
    quantiles: tuple[str, ...] = ()
    bands: Bands | None = None
    fitted: dict[str, Any] = field(default_factory=dict)  # rounds and dev losses, for the manifest


@dataclass(frozen=True)
class _Objective:
    """What one booster learns, from which columns."""

    name: str
    parameters: dict[str, Any]
    columns: NDArray[np.int64]
    target: Floats
    usable: NDArray[np.bool_]


@dataclass(frozen=True)
class _Stopped:
    """A booster fitted on train alone, and when dev said to stop."""

    rounds: int
    loss: float
    text: str


def fit_task(
    rows: Rows, names: list[str], radio: list[str], settings: Settings, seed: int
) -> TaskModel:
    """The forecast fitted to `rows`; `names` are the feature columns, `radio` some of them."""
    objectives = _objectives(rows, names, radio)
    with ThreadPoolExecutor(settings.workers) as pool:
        found = pool.map(
            lambda objective: _stopped(objective, rows, names, settings, seed), objectives
        )
        stopped = {objective.name: one for objective, one in zip(objectives, found, strict=True)}
        classifiers = [o for o in objectives if o.name in ("classifier", "radio")]
        texts = pool.map(
            lambda o: _fit(o, rows, o.usable, names, stopped[o.name].rounds, settings, seed),
            classifiers,
        )
        final = {o.name: text for o, text in zip(classifiers, texts, strict=True)}
        rounds = stopped["classifier"].rounds
        unseen = _unseen(objectives[0], rows, names, rounds, settings, seed, pool.map)
    quantiles = tuple(stopped[n].text for n in _quantile_names()) if "p50" in stopped else ()
    return TaskModel(
        classifier=final["classifier"],
        calibration=fit_calibration(
            unseen, rows.label, settings.calibration, np.ones(len(rows.label))
        ),
        radio=final.get("radio"),
        quantiles=quantiles,
        bands=_bands(rows, quantiles, settings) if quantiles else None,
        fitted={
            name: {"rounds": one.rounds, "dev_loss": one.loss} for name, one in stopped.items()
        },
    )


class Forecast:
    """A task model ready to answer; boosters are parsed once."""

    def __init__(self, model: TaskModel) -> None:
        self.model = model
        self.classifier = _booster(model.classifier)
        self.radio = _booster(model.radio) if model.radio else None
        self.quantiles = [_booster(text) for text in model.quantiles]

    def probability(self, features: Floats) -> Floats:
        """Calibrated probability of the task's event for each row of features (NaN = unknown)."""
        return calibrated(self.model.calibration, _predict(self.classifier, features))

    def band(self, features: Floats) -> Floats | None:
        """p10, p50, p90 of the continuous target (rows x 3, its unit), or None without one."""
        if not self.quantiles or self.model.bands is None:
            return None
        return np.sinh(adjusted(self.model.bands, _sorted_quantiles(self.quantiles, features)))

    def radio_score(self, radio_features: Floats) -> Floats | None:
        """Score of the classifier that sees radio features only, or None without one."""
        return None if self.radio is None else _predict(self.radio, radio_features)


def dev_loss(rows: Rows, names: list[str], settings: Settings, seed: int) -> float:
    """Least log loss on dev of the classifier fitted on train alone; what a search minimises."""
    return _stopped(_objectives(rows, names, [])[0], rows, names, settings, seed).loss


def predict_text(model: str, features: Floats) -> Floats:
    """What the booster in LightGBM's text form says for each row."""
    return _predict(_booster(model), features)


def _objectives(rows: Rows, names: list[str], radio: list[str]) -> list[_Objective]:
    every = np.arange(len(names))
    all_rows = np.ones(len(rows.label), dtype=bool)
    label = rows.label.astype(np.float64)
    binary = {"objective": "binary", "metric": "binary_logloss"}
    found = [_Objective("classifier", binary, every, label, all_rows)]
    if rows.value is not None:
        known = np.isfinite(rows.value)
        scaled = np.arcsinh(np.where(known, rows.value, 0.0))
        found += [
            _Objective(
                name,
                {"objective": "quantile", "metric": "quantile", "alpha": level},
                every,
                scaled,
                known,
            )
            for name, level in zip(_quantile_names(), QUANTILES, strict=True)
        ]
    if radio:
        place = {name: number for number, name in enumerate(names)}
        columns = np.array([place[name] for name in radio])
        found.append(_Objective("radio", binary, columns, label, all_rows))
    return found


def _quantile_names() -> tuple[str, ...]:
    return tuple(f"p{round(level * 100)}" for level in QUANTILES)


def _parameters(objective: _Objective, rows: int, settings: Settings, seed: int) -> dict[str, Any]:
    return objective.parameters | {
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": max(5, min(settings.rows_per_leaf, rows // 50)),
        "feature_fraction": settings.feature_share,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "lambda_l2": settings.l2,
        "max_bin": settings.bins,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _dataset(
    objective: _Objective,
    rows: Rows,
    chosen: NDArray[np.bool_],
    names: list[str],
    parameters: dict[str, Any],
    reference: "lgb.Dataset | None" = None,
) -> "lgb.Dataset":
    import lightgbm as lgb

    return lgb.Dataset(
        rows.features[chosen][:, objective.columns],
        objective.target[chosen],
        feature_name=[names[number] for number in objective.columns],
        reference=reference,
        params=parameters,
        free_raw_data=True,
    )


def _stopped(
    objective: _Objective, rows: Rows, names: list[str], settings: Settings, seed: int
) -> _Stopped:
    """Fitted on train alone for as many rounds as made the dev loss least."""
    import lightgbm as lgb

    train, dev = objective.usable & ~rows.dev, objective.usable & rows.dev
    parameters = _parameters(objective, int(train.sum()), settings, seed)
    data = _dataset(objective, rows, train, names, parameters)
    booster = lgb.train(
        parameters,
        data,
        settings.rounds,
        valid_sets=[_dataset(objective, rows, dev, names, parameters, data)],
        callbacks=[lgb.early_stopping(settings.patience, verbose=False)],
    )
    rounds = max(1, booster.best_iteration)
    loss = booster.best_score["valid_0"][objective.parameters["metric"]]
    return _Stopped(rounds, float(loss), str(booster.model_to_string(num_iteration=rounds)))


def _fit(
    objective: _Objective,
    rows: Rows,
    chosen: NDArray[np.bool_],
    names: list[str],
    rounds: int,
    settings: Settings,
    seed: int,
) -> str:
    """The booster's text after a given number of rounds on the chosen rows."""
    import lightgbm as lgb

    parameters = _parameters(objective, int(chosen.sum()), settings, seed)
    data = _dataset(objective, rows, chosen, names, parameters)
    return str(lgb.train(parameters, data, rounds).model_to_string())


def _unseen(
    classifier: _Objective,
    rows: Rows,
    names: list[str],
    rounds: int,
    settings: Settings,
    seed: int,
    mapped: Callable[..., Any],
) -> Floats:
    """What classifiers that did not see a row's session say of it."""
    sessions = np.unique(rows.session)
    folds = min(settings.folds, len(sessions))
    fold = np.searchsorted(sessions, rows.session) % folds

    def one(number: int) -> Floats:
        chosen = classifier.usable & (fold != number)
        text = _fit(classifier, rows, chosen, names, rounds, settings, seed)
        return predict_text(text, rows.features[fold == number])

    unseen = np.full(len(rows.label), np.nan)
    for number, said in enumerate(mapped(one, range(folds))):
        unseen[fold == number] = said
    return unseen


def _bands(rows: Rows, quantiles: tuple[str, ...], settings: Settings) -> Bands:
    """Conformal amounts from dev, which the quantile models did not learn from."""
    assert rows.value is not None  # quantiles were fitted, so there is a target
    dev = rows.dev & np.isfinite(rows.value)
    boosters = [_booster(text) for text in quantiles]
    raw = _sorted_quantiles(boosters, rows.features[dev])
    return fit_bands(raw, np.arcsinh(rows.value[dev]), settings.coverage, settings.width_classes)


def _booster(text: str) -> "lgb.Booster":
    """The parsed trees. (Who only reads or moves a bundle need not import the library.)"""
    import lightgbm as lgb

    return lgb.Booster(model_str=text)


def _sorted_quantiles(boosters: "list[lgb.Booster]", features: Floats) -> Floats:
    return np.sort(np.column_stack([_predict(booster, features) for booster in boosters]), axis=1)


def _predict(booster: "lgb.Booster", features: Floats) -> Floats:
    return np.asarray(booster.predict(features, num_threads=1), dtype=np.float64)
