"""Several LightGBM boosters asked at once: for few rows as one model, for many each in its own call.

The trees of the boosters stand in turn as the classes of one model, a booster with fewer of them
filled up with trees of a single leaf of 0. What each says is the same to the last bit: its trees are
added in the same order, and the logistic function is the C library's own.
"""

import ctypes
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import lightgbm as lgb
import numpy as np
from lightgbm.basic import _LIB, _safe_call  # type: ignore[attr-defined]
from numpy.typing import NDArray

from schemas.errors import QosError

Floats = NDArray[np.float64]
_EMPTY = (
    "Tree={number}\nnum_leaves=1\nnum_cat=0\nsplit_feature=\nsplit_gain=\nthreshold=\n"
    "decision_type=\nleft_child=\nright_child=\nleaf_value=0\nleaf_weight=\nleaf_count=\n"
    "internal_value=\ninternal_weight=\ninternal_count=\nis_linear=0\nshrinkage=1\n\n\n"
)
_DOUBLE, _ROW_MAJOR, _RAW = 1, 1, 1
_PARAMETERS = b"num_threads=1"
_FEW = 48  # rows, from which on the calls' own cost is less than that of the filling trees
_WORKERS = 2
Predict = Callable[[Floats], Floats]


def merged(texts: Sequence[str]) -> Predict:
    """A function of rows x features (float64, NaN = unknown) that gives rows x boosters.

    Each column is what `Booster.predict` of that text says: a probability of a binary objective, else
    the raw score. Raises `QosError` for boosters that take different features.
    """
    parts = [_parted(text) for text in texts]
    if len({part[0]["feature_names"] for part in parts}) != 1:
        raise QosError(f"{len(texts)} boosters take different features and cannot be asked at once")
    booster = lgb.Booster(model_str=_together(parts))
    alone = [lgb.Booster(model_str=text) for text in texts]
    binary = [_is_binary(head) for head, _ in parts]
    features, count = int(parts[0][0]["max_feature_idx"]) + 1, len(texts)
    ask, handle, exp = _LIB.LGBM_BoosterPredictForMat, booster._handle, math.exp

    def predict(matrix: Floats) -> Floats:
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        rows = len(matrix)
        if matrix.shape != (rows, features):
            raise QosError(f"model: a matrix of shape {matrix.shape}; it takes {features} columns")
        raw = np.empty((rows, count))
        if rows > _FEW:
            found = _pool().map(lambda one: one.predict(matrix, num_threads=1), alone)
            return np.column_stack(list(found))
        length = ctypes.c_int64(0)
        if rows:
            _safe_call(
                ask(
                    handle, ctypes.c_void_p(matrix.ctypes.data), _DOUBLE, ctypes.c_int32(rows),
                    ctypes.c_int32(features), _ROW_MAJOR, _RAW, 0, -1, _PARAMETERS,
                    ctypes.byref(length), ctypes.c_void_p(raw.ctypes.data),
                )
            )  # fmt: skip
        assert length.value == raw.size and booster is not None
        for place, slope in enumerate(binary):
            if slope is not None:
                raw[:, place] = [1.0 / (1.0 + exp(-slope * x)) for x in raw[:, place].tolist()]
        return raw

    return predict


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, "score")


def _parted(text: str) -> tuple[dict[str, str], list[str]]:
    """The header's fields and the text of each tree from its second line on."""
    head, _, rest = text.partition("\nTree=0\n")
    trees, end, _ = rest.partition("end of trees")
    if not rest or not end:
        raise QosError("model: the text of a booster is not whole")
    fields = dict(line.partition("=")[::2] for line in head.splitlines() if "=" in line)
    if fields["num_tree_per_iteration"] != "1" or "average_output" in head:
        raise QosError("model: a booster of one tree a round is needed")
    return fields, re.split(r"\nTree=\d+\n", trees)


def _is_binary(head: dict[str, str]) -> float | None:
    """The slope of the logistic function of a binary objective, else None."""
    found = re.match(r"binary sigmoid:(\S+)", head.get("objective", ""))
    return float(found[1]) if found else None


def _together(parts: list[tuple[dict[str, str], list[str]]]) -> str:
    head, count = parts[0][0], len(parts)
    rounds = max(len(trees) for _, trees in parts)
    blocks = []
    for turn in range(rounds):
        for place, (_, trees) in enumerate(parts):
            number = turn * count + place
            if turn < len(trees):
                blocks.append(f"Tree={number}\n{trees[turn].rstrip()}\n\n\n")
            else:
                blocks.append(_EMPTY.format(number=number))
    sizes = " ".join(str(len(block)) for block in blocks)
    lines = [
        "tree", "version=v4", f"num_class={count}", f"num_tree_per_iteration={count}",
        "label_index=0", f"max_feature_idx={head['max_feature_idx']}",
        f"feature_names={head['feature_names']}", f"feature_infos={head['feature_infos']}",
        f"tree_sizes={sizes}", "", "",
    ]  # fmt: skip
    return "\n".join(lines) + "".join(blocks) + "end of trees\n\nparameters:\nend of parameters\n"
