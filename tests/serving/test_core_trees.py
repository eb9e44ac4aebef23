"""The walked trees say what LightGBM says, to the last bit; and what cannot be read is refused."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.errors import QosError
from serving.score import below
from serving.trees import together

ROWS = np.random.default_rng(3)


def booster(objective: str, rounds: int, seed: int, **parameters: Any) -> str:
    random = np.random.default_rng(seed)
    rows = random.normal(0, 2, (600, 4)).round(1)
    rows[random.uniform(size=rows.shape) < 0.2] = np.nan
    rows[:, 3] = random.integers(-2, 3, 600)  # never unknown in training
    value = np.nansum(rows[:, :2], axis=1) + rows[:, 3]
    target = (value > 0) if objective == "binary" else value
    known = {
        "objective": objective, "verbosity": -1, "num_leaves": 9, "min_data_in_leaf": 5,
        "num_threads": 1, "seed": seed, "deterministic": True,
    }  # fmt: skip
    data = lgb.Dataset(rows, target.astype(float), params=known | parameters, free_raw_data=False)
    return str(lgb.train(known | parameters, data, rounds).model_to_string())


TEXTS = [
    booster("binary", 12, 1),
    booster("quantile", 30, 2, alpha=0.1),
    booster("regression", 1, 3),
    booster("binary", 3, 4, num_leaves=2, learning_rate=0.4),
]
PLAIN = [lgb.Booster(model_str=text) for text in TEXTS]
ASK = together(TEXTS)
LIMITS = [
    float(limit)
    for line in TEXTS[0].splitlines()
    if line.startswith("threshold=")
    for limit in line.partition("=")[2].split()
]
VALUES = (
    st.floats(-8, 8)
    | st.just(float("nan"))
    | st.sampled_from([0.0, -0.0, 1e-36, 1e300, -1e300, np.inf, -np.inf])
    | st.sampled_from(LIMITS)
    | st.sampled_from(LIMITS).map(lambda limit: float(np.nextafter(limit, np.inf)))
)


@settings(deadline=None, max_examples=80)
@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 9), st.just(4)), elements=VALUES))
def test_the_same_to_the_last_bit(rows: Any) -> None:
    found = ASK(rows)
    assert found.shape == (len(rows), len(TEXTS))
    for column, one in zip(found.T, PLAIN, strict=True):
        if len(rows):
            np.testing.assert_array_equal(column, one.predict(rows, num_threads=1))


def test_many_rows_and_rows_in_another_order_of_memory() -> None:
    rows = ROWS.normal(0, 3, (257, 4))
    np.testing.assert_array_equal(ASK(np.asfortranarray(rows)), ASK(rows))
    np.testing.assert_array_equal(ASK(rows)[:, 1], PLAIN[1].predict(rows, num_threads=1))


@pytest.mark.parametrize("chosen", [[1], [2], [2, 3], [3, 2, 0]])
def test_whether_the_trees_are_even_or_odd_in_number(chosen: list[int]) -> None:
    rows = ROWS.normal(0, 3, (9, 4))
    found = together([TEXTS[one] for one in chosen])(rows)
    for column, one in zip(found.T, chosen, strict=True):
        np.testing.assert_array_equal(column, PLAIN[one].predict(rows, num_threads=1))


def test_a_constant_booster_is_its_leaf() -> None:
    data = lgb.Dataset(np.zeros((50, 4)), np.full(50, 2.5), params={"verbosity": -1})
    text = lgb.train({"objective": "regression", "verbosity": -1}, data, 2).model_to_string()
    rows = np.zeros((3, 4))
    np.testing.assert_array_equal(
        together([text])(rows)[:, 0], lgb.Booster(model_str=text).predict(rows)
    )


def test_what_cannot_be_read_is_refused() -> None:
    random = np.random.default_rng(1)
    rows, target = random.integers(0, 5, (300, 4)).astype(float), random.normal(size=300)
    plain = {"objective": "regression", "verbosity": -1, "min_data_in_leaf": 5}
    for parameters, kinds, where in (
        ({}, [0, 1], "categorical"),
        ({"zero_as_missing": True}, [], "zero"),
        ({"linear_tree": True}, [], "linear"),
    ):
        known = plain | parameters
        data = lgb.Dataset(
            rows, rows[:, 0] % 2 + target / 9, None, params=known, categorical_feature=kinds
        )
        text = lgb.train(known, data, 3).model_to_string()
        with pytest.raises(QosError, match=where):
            together([text])
    with pytest.raises(QosError, match="not whole"):
        together([TEXTS[0][: len(TEXTS[0]) // 2]])
    wide = TEXTS[0].replace("max_feature_idx=3", "max_feature_idx=32768")
    with pytest.raises(QosError, match=r"32769 features; at most \d+ of 32768"):
        together([wide])
    with pytest.raises(QosError, match="shape"):
        ASK(np.zeros((2, 5)))


@given(
    st.lists(st.floats(0, 1000), min_size=3, max_size=3).map(sorted),
    st.lists(st.floats(0, 1000), min_size=2, max_size=8).map(sorted),
)
def test_a_higher_limit_is_kept_no_less_often(band: list[float], limits: list[float]) -> None:
    bands = np.array([band] * len(limits))
    found = below(bands, np.array(limits))
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0.01) & (found <= 0.99)).all()


def test_the_band_gives_its_own_levels_back() -> None:
    band = np.array([[2.0, 5.0, 9.0]] * 3)
    assert below(band, np.array([2.0, 5.0, 9.0])) == pytest.approx([0.1, 0.5, 0.9])
    assert np.isnan(below(band[:1], np.array([np.nan]))[0])
