"""Shadowing is a field: normal, correlated over distance, the same on each visit."""

from typing import Any

import numpy as np
import pytest

from nef.simulator import fields


@pytest.fixture(scope="module")
def field() -> Any:
    return fields.gaussian_fields(6, 50.0, 2000.0, np.random.default_rng(3))


def test_it_is_standard_normal(field: Any) -> None:
    assert field.maps.mean() == pytest.approx(0.0, abs=0.1)
    assert field.maps.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("cells", [1, 5, 10])
def test_its_correlation_falls_exponentially_with_distance(field: Any, cells: Any) -> None:
    moved = np.roll(field.maps, cells, axis=2)
    expected = np.exp(-cells * fields.STEP_M / 50.0)
    assert (field.maps * moved).mean() == pytest.approx(expected, abs=0.05)


def test_grid_points_are_exact_and_between_them_lies_the_mean(field: Any) -> None:
    corner = field.origin_m[0]
    at = field.at(np.array([corner, corner + 5.0, corner + 10.0]), np.full(3, corner))
    assert at[0] == pytest.approx(field.maps[:, 0, 0])
    assert at[2] == pytest.approx(field.maps[:, 0, 1])
    assert at[1] == pytest.approx((at[0] + at[2]) / 2.0)


def test_sites_are_correlated_by_one_half() -> None:
    independent = np.random.default_rng(4).standard_normal((50_000, 3))
    sites = fields.site_correlated(independent)
    correlation: Any = np.corrcoef(sites.T)
    assert correlation[0, 1] == pytest.approx(0.5, abs=0.02)
    assert sites.std(axis=0) == pytest.approx(np.ones(2), abs=0.02)
