"""The band holds what it promises where rows are alike, and its edges never cross."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models import conformal as con


def narrow_band(seed: int, count: int) -> tuple[con.Floats, con.Floats]:
    """Values of a spread that the raw quantiles underestimate, by half where they are wide."""
    random = np.random.default_rng(seed)
    spread = random.choice([0.2, 2.0], count)
    middle = random.normal(3, 1, count)
    value = middle + spread * random.normal(size=count)
    claimed = 1.2816 * spread * np.where(spread > 1, 0.5, 0.9)
    return np.column_stack([middle - claimed, middle, middle + claimed]), value


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_the_band_covers_what_it_promises_in_every_class_of_width(coverage: float) -> None:
    bands = con.fit_bands(*narrow_band(1, 5000), coverage, classes=4)
    raw, value = narrow_band(2, 20_000)
    moved = con.adjusted(bands, raw)
    inside = (value >= moved[:, 0]) & (value <= moved[:, 2])
    wide = raw[:, 2] - raw[:, 0] > 1
    assert inside.mean() == pytest.approx(coverage, abs=0.02)
    assert inside[wide].mean() == pytest.approx(coverage, abs=0.03)
    assert inside[~wide].mean() == pytest.approx(coverage, abs=0.03)


def test_too_few_rows_for_classes_share_one_amount() -> None:
    bands = con.fit_bands(*narrow_band(1, con.LEAST_ROWS - 1), 0.8, classes=5)
    assert bands.edges == () and len(bands.low) == len(bands.high) == 1


quantiles = arrays(np.float64, (8, 3), elements=st.floats(-5, 5)).map(
    lambda raw: np.sort(raw, axis=1)
)


@given(quantiles, st.lists(st.floats(-4, 4), min_size=6, max_size=6), st.booleans())
def test_quantiles_never_cross_whatever_the_amounts(
    raw: np.ndarray,
    amounts: list[float],
    floored: bool,
) -> None:
    bands = con.Bands(
        0.8, (0.5, 2.0), tuple(amounts[:3]), tuple(amounts[3:]), 0.0 if floored else None
    )
    moved = con.adjusted(bands, raw)
    assert (np.diff(moved, axis=1) >= 0).all()
    assert not floored or moved.min() >= 0


def test_a_quantity_that_was_never_negative_is_not_forecast_negative() -> None:
    raw, value = narrow_band(1, 1000)
    assert con.fit_bands(raw, value - value.min(), 0.8, 1).floor == 0.0
    assert con.fit_bands(raw, value - value.min() - 0.1, 0.8, 1).floor is None


def test_bands_survive_json_to_the_bit() -> None:
    bands = con.fit_bands(*narrow_band(1, 2000), 0.8, classes=3)
    assert con.from_json(json.loads(json.dumps(con.to_json(bands)))) == bands
