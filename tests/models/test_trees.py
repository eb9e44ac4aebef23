"""Trees: what they say is what LightGBM says, and what was written down comes back or is refused."""

import json

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.trees import Trees, from_files, grown, to_files
from schemas.errors import QosError

COLUMNS = ("a", "b", "c")
GROWING = {
    "objective": "regression", "learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 20,
}  # fmt: skip


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.random.default_rng(4).normal(size=(count, 3))
    return matrix, matrix[:, 0] - 2.0 * (matrix[:, 1] > 0)


def some(count: int = 600) -> Trees:
    return grown("model", COLUMNS, *rows(count), GROWING, 10, seed=1)


SOME = some()
FILES = to_files(SOME, {"rows": 600}, {"beside.json": b"{}"})


def read(files: dict[str, bytes]) -> tuple[Trees, dict[str, int]]:
    return from_files(files, "model", COLUMNS, "kept", ["beside.json"])


def test_they_say_what_lightgbm_says_of_every_row_with_unknowns() -> None:
    matrix, target = rows(600)
    matrix[::7, 1] = np.nan
    found = some().predict(matrix)
    assert np.array_equal(found, lgb.Booster(model_str=some().text).predict(matrix))
    assert np.corrcoef(found, target)[0, 1] > 0.5


@pytest.mark.parametrize(("count", "least"), [(2000, 20), (600, 12), (100, 5)])
def test_a_leaf_holds_no_fewer_rows_than_asked_for_or_a_fiftieth(count: int, least: int) -> None:
    said = some(count)
    leaves = said.booster.trees_to_dataframe().query("left_child.isna()")
    assert leaves["count"].min() >= least
    assert f"[min_data_in_leaf: {least}]" in said.text


def test_what_was_written_down_comes_back() -> None:
    assert read(FILES) == (SOME, {"rows": 600})


@given(st.sampled_from(sorted(FILES)), st.integers(0), st.integers(1, 255))
def test_no_byte_of_the_trees_can_change_unseen(name: str, place: int, by: int) -> None:
    changed = bytearray(FILES[name])
    changed[place % len(changed)] ^= by
    try:
        found, _ = read(FILES | {name: bytes(changed)})
    except QosError as error:
        assert str(error).startswith("kept")
    else:  # what is told of the training bears no digest; the trees are those that were written
        assert name == "manifest.json" and found == SOME


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_lacks_or_is_cut_short_is_named(name: str) -> None:
    rest = {one: data for one, data in FILES.items() if one != name}
    with pytest.raises(QosError, match=f"kept: lacks '{name}'"):
        read(rest)
    with pytest.raises(QosError, match=f"kept/{name}: "):
        read(FILES | {name: FILES[name][:-2]})


@pytest.mark.parametrize("features", [None, 3, ["a", "b"], ["b", "a", "c"], [1, 2, 3]])
def test_trees_of_other_columns_are_refused(features: object) -> None:
    manifest = json.loads(FILES["manifest.json"]) | {"features": features}
    with pytest.raises(QosError, match=r"not a whole manifest of a model|other features"):
        read(FILES | {"manifest.json": json.dumps(manifest).encode()})


def test_a_matrix_of_other_columns_is_refused_and_none_is_answered() -> None:
    with pytest.raises(QosError, match=r"model: a matrix of shape \(2, 2\); it takes 3 columns, "):
        some().predict(np.zeros((2, 2)))
    assert some().predict(np.zeros((0, 3))).shape == (0,)
