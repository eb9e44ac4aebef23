"""LightGBM boosters laid out as flat arrays and walked by compiled code, all of them in one pass.

A walk takes no branch that depends on a value, and all rows take a tree before the next one, so that a
few rows cost less than the library's own calls, and many a fifth of them. What each booster says is the
same to the last bit: its trees are added in their order, and the logistic function is the C library's.
"""

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from schemas.errors import QosError

Floats = NDArray[np.float64]
Predict = Callable[[Floats], Floats]
_ABREAST = 4  # rows that walk at once
_LARGEST = sys.float_info.max  # a threshold of inf lets all known values go left
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_ZERO, _MISSING_NAN = 1, 2, 1, 2


@dataclass(frozen=True)
class Forest:
    """Boosters in turn, one entry a node, a tree's nodes breadth first and children side by side.

    column: of the widened matrix (see `_widened`); threshold: a value above it goes right; left: place
    of the left child, the right one follows it, a leaf leads to itself; value: of a leaf. roots, depth,
    booster: one entry a tree. features, count: of columns and of boosters.
    """

    column: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    value: Floats
    roots: NDArray[np.int64]
    depth: NDArray[np.int64]
    booster: NDArray[np.int64]
    features: int
    count: int


def together(texts: Sequence[str]) -> Predict:
    """A function of rows x features (float64, NaN = unknown) that gives rows x boosters.

    Each column is what `Booster.predict` of that text says: a probability of a binary objective, else
    the raw score. Raises `QosError` for boosters that take different features, have categorical splits
    or linear leaves, or treat zero as missing.
    """
    parts = [_parted(text) for text in texts]
    if len({head["feature_names"] for head, _ in parts}) != 1:
        raise QosError(f"{len(texts)} boosters take different features and cannot be asked at once")
    forest = _forest(parts)
    slopes = [_slope(head) for head, _ in parts]
    arrays = (
        forest.column, forest.threshold, forest.left, forest.value, forest.roots, forest.depth,
        forest.booster,
    )  # fmt: skip
    exp = math.exp

    def predict(matrix: Floats) -> Floats:
        if matrix.ndim != 2 or matrix.shape[1] != forest.features:
            raise QosError(f"model: a matrix of shape {matrix.shape}; {forest.features} columns")
        wide = _widened(matrix)
        filled = np.zeros((len(wide), forest.count))
        _walk(wide, *arrays, filled)
        raw = filled[: len(matrix)]
        for place, slope in enumerate(slopes):
            if slope is not None:
                raw[:, place] = [1.0 / (1.0 + exp(-slope * x)) for x in raw[:, place].tolist()]
        return raw

    predict(np.full((1, forest.features), np.nan))  # compiles
    return predict


def _widened(matrix: Floats) -> Floats:
    """Each feature twice, unknown as lowest and as highest value; rows filled up to a multiple of 4."""
    rows, features = matrix.shape
    wide = np.empty((-(-rows // _ABREAST) * _ABREAST, 2 * features))
    wide[rows:] = 0.0
    unknown = np.isnan(matrix)
    wide[:rows, 0::2] = np.where(unknown, -np.inf, matrix)
    wide[:rows, 1::2] = np.where(unknown, np.inf, matrix)
    return wide


def _walked(
    wide: Any, column: Any, threshold: Any, left: Any, value: Any, roots: Any, depth: Any,
    booster: Any, raw: Any,
) -> None:  # fmt: skip
    for tree in range(len(roots)):
        root, place = roots[tree], booster[tree]
        for row in range(0, len(wide), 4):
            a = b = c = d = root
            for _ in range(depth[tree]):
                a = left[a] + (wide[row, column[a]] > threshold[a])
                b = left[b] + (wide[row + 1, column[b]] > threshold[b])
                c = left[c] + (wide[row + 2, column[c]] > threshold[c])
                d = left[d] + (wide[row + 3, column[d]] > threshold[d])
            raw[row, place] += value[a]
            raw[row + 1, place] += value[b]
            raw[row + 2, place] += value[c]
            raw[row + 3, place] += value[d]


_walk: Any = numba.njit(nogil=True)(_walked)


def _parted(text: str) -> tuple[dict[str, str], list[str]]:
    """The header's fields and the text of each tree from its second line on."""
    head, _, rest = text.partition("\nTree=0\n")
    trees, end, _ = rest.partition("end of trees")
    if not rest or not end:
        raise QosError("model: the text of a booster is not whole")
    fields = _fields(head)
    if fields["num_tree_per_iteration"] != "1" or "average_output" in head:
        raise QosError("model: a booster of one tree a round is needed")
    return fields, re.split(r"\nTree=\d+\n", trees)


def _fields(block: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)


def _slope(head: dict[str, str]) -> float | None:
    """Of the logistic function of a binary objective, else None."""
    found = re.match(r"binary sigmoid:(\S+)", head.get("objective", ""))
    return float(found[1]) if found else None


def _forest(parts: list[tuple[dict[str, str], list[str]]]) -> Forest:
    columns: list[list[Any]] = [[], [], [], []]
    roots, depth, booster = [], [], []
    for number, (_, trees) in enumerate(parts):
        for tree in trees:
            start = len(columns[0])
            *made, levels = _nodes(_fields(tree), start)
            for whole, values in zip(columns, made, strict=True):
                whole.extend(values)
            roots.append(start)
            depth.append(levels)
            booster.append(number)
    column, threshold, left, value = columns
    return Forest(
        np.array(column, np.int32), np.array(threshold), np.array(left, np.int32), np.array(value),
        np.array(roots, np.int64), np.array(depth, np.int64), np.array(booster, np.int64),
        int(parts[0][0]["max_feature_idx"]) + 1, len(parts),
    )  # fmt: skip


def _nodes(tree: dict[str, str], start: int) -> tuple[Any, ...]:
    """column, threshold, left, value of a tree whose root is number `start`, and its depth."""
    if tree.get("is_linear", "0") != "0":
        raise QosError("model: a tree has linear leaves, which are not read")
    leaves = [float(x) for x in tree["leaf_value"].split()]
    inner = {
        name: tree[name].split() if len(leaves) > 1 else []
        for name in ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    }
    column: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    value: list[float] = []
    level, depth, known = [0 if len(leaves) > 1 else -1], 0, 1
    while True:
        after: list[int] = []
        for node in level:
            here = start + len(left)
            if node < 0:
                column.append(0)
                threshold.append(math.inf)
                left.append(here)
                value.append(leaves[~node])
                continue
            limit, kind = float(inner["threshold"][node]), int(inner["decision_type"][node])
            column.append(2 * int(inner["split_feature"][node]) + _nan_right(kind, limit))
            threshold.append(min(limit, _LARGEST))
            left.append(start + known)
            value.append(0.0)
            after += [int(inner["left_child"][node]), int(inner["right_child"][node])]
            known += 2
        if not after:
            return column, threshold, left, value, depth
        level, depth = after, depth + 1


def _nan_right(kind: int, threshold: float) -> bool:
    """Where an unknown value goes: as the split learnt, or as 0 where it never saw one."""
    missing = kind >> 2 & 3
    if kind & _CATEGORICAL or missing == _MISSING_ZERO:
        raise QosError("model: a split is categorical or takes zero for missing; neither is read")
    if missing == _MISSING_NAN:
        return not kind & _DEFAULT_LEFT
    return threshold < 0.0
