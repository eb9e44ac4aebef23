"""LightGBM boosters laid out as one flat array and walked by compiled code, all of them in one pass.

A value is first replaced by its rank among the thresholds of its feature, so that a node is one whole
number and all of a bundle's models fit the processor's cache. A walk takes no branch that depends on a
value, and four rows take two trees at a time. What each booster says is the same to the last bit: its
trees are added in their order, and the logistic function is the C library's.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from schemas.errors import QosError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Predict = Callable[[Floats], Floats]
_ABREAST = 4  # rows that walk at once
_RANK_BITS, _COLUMN_BITS, _NODE_BITS = 24, 16, 23
_TOP = (1 << _RANK_BITS) - 1  # above every rank: of what is unknown and goes right
_ZERO = float(np.float32(1e-35))  # LightGBM takes what is no further from 0 for 0
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_ZERO, _MISSING_NAN = 1, 2, 1, 2


@dataclass(frozen=True)
class Forest:
    """Boosters in turn, one entry a node, a tree's nodes breadth first and children side by side.

    node: place of the left child, which the right one follows, column of the ranks and rank of the
    threshold, from the highest bit to the lowest; a greater rank goes right, a leaf leads to itself.
    value: of a leaf. roots, depth, booster: one entry a tree, an even number of them. limits: the
    distinct thresholds in order, those of feature k from place begin[k] on. count: of boosters.
    """

    node: Ints
    value: Floats
    roots: Ints
    depth: Ints
    booster: Ints
    limits: Floats
    begin: Ints
    count: int


def together(texts: Sequence[str]) -> Predict:
    """A function of rows x features (float64, NaN = unknown) that gives rows x boosters.

    Each column is what `Booster.predict` of that text says: a probability of a binary objective, else
    the raw score. Raises `QosError` for boosters that take different features, have categorical splits
    or linear leaves, treat zero as missing, or have more nodes than are counted here (8 million).
    """
    parts = [_parted(text) for text in texts]
    if len({head["feature_names"] for head, _ in parts}) != 1:
        raise QosError(f"{len(texts)} boosters take different features and cannot be asked at once")
    forest = _forest(parts)
    slopes = [_slope(head) for head, _ in parts]
    trees = (forest.node, forest.value, forest.roots, forest.depth, forest.booster)
    features, exp = len(forest.begin) - 1, math.exp

    def predict(matrix: Floats) -> Floats:
        if matrix.ndim != 2 or matrix.shape[1] != features:
            raise QosError(f"model: a matrix of shape {matrix.shape}; {features} columns")
        full = -(-len(matrix) // _ABREAST) * _ABREAST
        ranks = np.zeros((full, 2 * features), np.int32)
        _rank(np.ascontiguousarray(matrix), forest.limits, forest.begin, ranks)
        filled = np.zeros((full, forest.count))
        _walk(ranks, *trees, filled)
        raw = filled[: len(matrix)]
        for place, slope in enumerate(slopes):
            if slope is not None:
                raw[:, place] = [1.0 / (1.0 + exp(-slope * x)) for x in raw[:, place].tolist()]
        return raw

    predict(np.full((1, features), np.nan))  # compiles
    return predict


def _ranked(matrix: Any, limits: Any, begin: Any, ranks: Any) -> None:
    """How many thresholds lie below each value, twice: unknown is lowest there and highest here."""
    for row in range(matrix.shape[0]):
        for feature in range(matrix.shape[1]):
            value, low = matrix[row, feature], begin[feature]
            if value != value:
                ranks[row, 2 * feature + 1] = _TOP
                continue
            if abs(value) <= _ZERO:
                value = 0.0
            rest = begin[feature + 1] - low
            while rest > 0:
                half = rest >> 1
                if limits[low + half] < value:
                    low += half + 1
                    rest -= half + 1
                else:
                    rest = half
            ranks[row, 2 * feature] = ranks[row, 2 * feature + 1] = low - begin[feature]


def _walked(
    ranks: Any, node: Any, value: Any, roots: Any, depth: Any, booster: Any, raw: Any
) -> None:
    for tree in range(0, len(roots), 2):
        one, two = booster[tree], booster[tree + 1]
        for row in range(0, len(ranks), 4):
            a = b = c = d = roots[tree]
            e = f = g = h = roots[tree + 1]
            for _ in range(max(depth[tree], depth[tree + 1])):
                a, b = _step(ranks, row, node[a]), _step(ranks, row + 1, node[b])
                c, d = _step(ranks, row + 2, node[c]), _step(ranks, row + 3, node[d])
                e, f = _step(ranks, row, node[e]), _step(ranks, row + 1, node[f])
                g, h = _step(ranks, row + 2, node[g]), _step(ranks, row + 3, node[h])
            raw[row, one] += value[a]
            raw[row + 1, one] += value[b]
            raw[row + 2, one] += value[c]
            raw[row + 3, one] += value[d]
            raw[row, two] += value[e]
            raw[row + 1, two] += value[f]
            raw[row + 2, two] += value[g]
            raw[row + 3, two] += value[h]


def _stepped(ranks: Any, row: Any, node: Any) -> Any:
    column = (node >> _RANK_BITS) & ((1 << _COLUMN_BITS) - 1)
    return (node >> (_RANK_BITS + _COLUMN_BITS)) + (ranks[row, column] > (node & _TOP))


_rank: Any = numba.njit(nogil=True)(_ranked)
_step: Any = numba.njit(inline="always")(_stepped)
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
    if len(roots) % 2:  # one more of a single leaf that adds nothing
        roots.append(len(columns[0]))
        depth.append(0)
        booster.append(booster[-1])
        for whole, nothing in zip(columns, (0, np.nan, roots[-1], -0.0), strict=True):
            whole.append(nothing)
    column, left = (np.array(columns[at], np.int64) for at in (0, 2))
    features = int(parts[0][0]["max_feature_idx"]) + 1
    if len(left) >= 1 << _NODE_BITS or 2 * features > 1 << _COLUMN_BITS:
        raise QosError(
            f"model: {len(left)} nodes of {features} features; at most {1 << _NODE_BITS} of "
            f"{1 << (_COLUMN_BITS - 1)} can be walked at once"
        )
    rank, limits, begin = _ranks(column // 2, np.array(columns[1]), features)
    return Forest(
        left << (_RANK_BITS + _COLUMN_BITS) | column << _RANK_BITS | rank, np.array(columns[3]),
        np.array(roots), np.array(depth), np.array(booster), limits, begin, len(parts),
    )  # fmt: skip


def _ranks(feature: Ints, threshold: Floats, features: int) -> tuple[Ints, Floats, Ints]:
    """Each node's rank of its threshold, `Forest.limits` and `Forest.begin`; NaN: a leaf."""
    rank, inner = np.full(len(feature), _TOP), ~np.isnan(threshold)
    limits = []
    for one in range(features):
        here = inner & (feature == one)
        limits.append(np.unique(threshold[here]))
        rank[here] = np.searchsorted(limits[-1], threshold[here])
    return rank, np.concatenate(limits), np.cumsum([0, *map(len, limits)])


def _nodes(tree: dict[str, str], start: int) -> tuple[Any, ...]:
    """column, threshold (NaN: a leaf), left, value of a tree whose root is number `start`; its depth."""
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
                threshold.append(math.nan)
                left.append(here)
                value.append(leaves[~node])
                continue
            limit, kind = float(inner["threshold"][node]), int(inner["decision_type"][node])
            column.append(2 * int(inner["split_feature"][node]) + _nan_right(kind, limit))
            threshold.append(limit)
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
