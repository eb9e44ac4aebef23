"""Ranges from the contract to the score: what comes in, what is computed, what is forecast."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from feature_repo import compute
from feature_repo.views import STATIC, WINDOWED
from models.forecaster import Forecast, Rows, Settings, TaskModel, fit_task
from pipelines.admit import split
from schemas.tables import TABLES, raw_dtypes
from tests.conftest import World
from tests.models.frames import FEATURES, RADIO, plausible_frame

START = datetime(2024, 3, 1, tzinfo=UTC)


def _bounded() -> Iterator[tuple[str, str]]:
    for table, contract in TABLES.items():
        for name, column in contract.columns().items():
            if column.dtype.is_numeric() and getattr(column, "min", None) is not None:
                yield table, name


BOUNDED = list(_bounded())
each_bound = pytest.mark.parametrize(("table", "column"), BOUNDED)


def _limits(table: str, column: str) -> tuple[float, float]:
    found: Any = TABLES[table].columns()[column]
    return found.min, found.max


def _row(table: str, number: int = 0) -> dict[str, Any]:
    """A row in the middle of every range."""
    row: dict[str, Any] = {"source_file": "f.csv", "source_line": number + 2}
    for name, column in TABLES[table].columns().items():
        known: Any = column
        if name.endswith("_timestamp"):
            row[name] = START + timedelta(seconds=number)
        elif isinstance(column.dtype, pl.Enum):
            row[name] = column.dtype.categories[-1]
        elif column.dtype.is_numeric():
            row[name] = 9 if getattr(known, "is_in", None) else (known.min + known.max) // 2
        else:
            row[name] = "a"
    return row


def _raw(table: str, *changes: dict[str, Any]) -> pl.DataFrame:
    rows = [_row(table, number) | change for number, change in enumerate(changes)]
    return pl.DataFrame(rows, schema=raw_dtypes(table))


def test_qos_every_measured_quantity_has_a_bound_to_break() -> None:
    assert {table for table, _ in BOUNDED} == set(TABLES)
    floats = {(t, n) for t, c in TABLES.items() for n, k in c.columns().items()
              if k.dtype == pl.Float64}  # fmt: skip
    assert floats <= set(BOUNDED) and len(floats) > 30


@pytest.mark.parametrize("table", TABLES)
def test_qos_rows_in_range_are_admitted(table: str) -> None:
    numbers = [name for known, name in BOUNDED if known == table]
    rows = [{}, *({name: end} for name in numbers for end in _limits(table, name))]
    admitted, refused = split(table, _raw(table, *rows))
    assert refused.to_dicts() == [] and len(admitted) == len(rows)


@pytest.mark.parametrize("table", TABLES)
def test_qos_what_was_not_measured_is_admitted_as_null(table: str) -> None:
    nulls = [{n: None} for n, c in TABLES[table].columns().items() if c.nullable]
    admitted, refused = split(table, _raw(table, {}, *nulls))
    assert refused.is_empty() and len(admitted) == len(nulls) + 1


@each_bound
def test_qos_each_violated_bound_is_named(table: str, column: str) -> None:
    low, high = _limits(table, column)
    step = 1 if TABLES[table].columns()[column].dtype == pl.Int64 else 1e-3
    beyond = [{column: low - step}, {}, {column: high + step}]
    admitted, refused = split(table, _raw(table, *beyond))
    assert admitted["source_line"].to_list() == [3]
    assert refused["source_line"].to_list() == [2, 4]
    below, above = refused["reason"]
    for said, bound in ((below, low), (above, high)):
        assert said.startswith(f"{table}.{column}") and f"{bound:g}" in said, said
    assert below != above


@pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
def test_qos_features_of_a_simulated_network_keep_to_their_ranges(
    small_world: World, view: Any
) -> None:
    found = compute.features(
        small_world.table(view.table), small_world.table(view.clock_table), view
    )
    assert len(found) > 0
    for feature in view.features():
        low = -np.inf if feature.low is None else feature.low
        high = np.inf if feature.high is None else feature.high
        known = found[feature.name].drop_nulls()
        assert known.is_finite().all() and known.is_between(low, high).all(), feature.name


@pytest.mark.parametrize("view", STATIC, ids=lambda view: view.name)
def test_qos_class_features_keep_to_their_ranges(view: Any) -> None:
    for feature in view.features():
        assert view.rows()[feature.name].is_between(feature.low, feature.high).all(), feature.name


@pytest.fixture(scope="module")
def model() -> TaskModel:
    frame = plausible_frame(sessions=9, rows=60)
    session = frame["session_id"].rank("dense").to_numpy().astype(np.int64) - 1
    rows = Rows(
        frame.select(FEATURES).to_numpy(),
        frame["label"].to_numpy().astype(np.int64),
        session,
        session >= 6,
        frame["label_value"].to_numpy(),
    )
    return fit_task(rows, FEATURES, RADIO, Settings(rounds=10, folds=2), seed=1)


def _requests() -> dict[str, np.ndarray[Any, Any]]:
    """What may come: plain rows, nothing known, and values far from all that was learnt."""
    plain = plausible_frame(sessions=3, seed=9).select(FEATURES).to_numpy()
    random = np.random.default_rng(2)
    holes = np.where(random.random(plain.shape) < 0.5, np.nan, plain)
    unknown = np.full((3, len(FEATURES)), np.nan)
    extreme = random.choice([-1e6, 0.0, 1e6], size=(200, len(FEATURES)))
    return {"plain": plain, "holes": holes, "unknown": unknown, "extreme": extreme}


@pytest.mark.parametrize("kind", _requests())
def test_qos_scoring_gives_probabilities_and_ordered_quantiles(model: TaskModel, kind: str) -> None:
    asked, forecast = _requests()[kind], Forecast(model)
    probability = forecast.probability(asked)
    assert probability.shape == (len(asked),)
    assert ((probability >= 0) & (probability <= 1)).all()
    band = forecast.band(asked)
    assert band is not None and band.shape == (len(asked), 3)
    assert np.isfinite(band).all()
    assert (band[:, 0] <= band[:, 1]).all() and (band[:, 1] <= band[:, 2]).all()
