"""Whether the served rows still look like those that the model learnt from.

Training leaves its distribution in the model: every tree of the classifier says how many training rows
came to each of its nodes. Served rows are sent down the same trees. The score is the population
stability index (PSI, the sum of Kullback-Leibler divergences both ways) between the two distributions
over a tree's leaves, averaged over the trees; 0: the same, above 0.25 is commonly called a shift, and
there is no upper bound. By the chain rule it is a sum over the nodes, so each feature has its part.

Only rows of serving cells count, as the model learnt on those alone.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from serving.domain import TASK
from serving.record import DecisionRecord

Floats = NDArray[np.float64]
WINDOW = 2000  # served rows that are looked at
LEAST = 200  # fewer say nothing
_HALF = 0.5  # added to each side of a node, so that an empty one is finite


@dataclass(frozen=True)
class Shift:
    """score: PSI, 0 or more; parts: by feature, summing to the score; rows: served ones."""

    score: float
    parts: dict[str, float]
    rows: int


@dataclass(frozen=True)
class _Tree:
    """One entry an inner node: its feature, training rows of both sides, and leaves under each side
    (nodes x leaves)."""

    feature: NDArray[np.int64]
    left: Floats
    right: Floats
    under_left: NDArray[np.bool_]
    under_right: NDArray[np.bool_]


class Reference:
    """The training rows of a bundle's classifier, as its trees tell them."""

    def __init__(self, bundle: Bundle, task: str = TASK) -> None:
        """Parses the classifier; takes a moment."""
        self.digest, self.names = bundle.digest, tuple(bundle.features)
        self._booster = lgb.Booster(model_str=bundle.tasks[task].classifier)
        dumped = self._booster.dump_model()["tree_info"]
        self._trees = [_tree(one["tree_structure"], one["num_leaves"]) for one in dumped]

    def shift(self, rows: Floats) -> Shift:
        """Of served rows (rows x features, NaN = unknown) against training."""
        leaves = np.asarray(self._booster.predict(rows, pred_leaf=True, num_threads=1), np.int64)
        leaves = leaves.reshape(len(rows), len(self._trees))
        parts = np.zeros(len(self.names))
        for place, tree in enumerate(self._trees):
            if len(tree.feature):
                count = tree.under_left.shape[1]
                served = np.bincount(leaves[:, place], minlength=count).astype(np.float64)
                np.add.at(parts, tree.feature, _divergence(tree, served) / len(self._trees))
        found = dict(zip(self.names, parts.tolist(), strict=True))
        return Shift(float(parts.sum()), found, len(rows))


def _divergence(tree: _Tree, served: Floats) -> Floats:
    """What each node adds to the PSI of a tree; served: rows by leaf."""
    left, right = tree.under_left @ served, tree.under_right @ served
    return _one_way(tree.left, tree.right, left, right) + _one_way(
        left, right, tree.left, tree.right
    )


def _one_way(left: Floats, right: Floats, other_left: Floats, other_right: Floats) -> Floats:
    """The share of rows that reach each node times the divergence of how they part from how the others
    do; the first node is the root, which all reach."""
    here = (left + _HALF) / (left + right + 2 * _HALF)
    there = (other_left + _HALF) / (other_left + other_right + 2 * _HALF)
    reached = (left + right) / max(left[0] + right[0], 1.0)
    parted = here * np.log(here / there) + (1 - here) * np.log((1 - here) / (1 - there))
    return np.asarray(reached * parted)


def _tree(root: dict[str, Any], leaves: int) -> _Tree:
    """Laid out, the root first."""
    nodes = list(_inner(root))
    under = [[_leaves(node[side]) for node in nodes] for side in ("left_child", "right_child")]
    marks = np.zeros((2, len(nodes), leaves), dtype=np.bool_)
    counts = np.zeros((2, len(nodes)))
    for side, name in enumerate(("left_child", "right_child")):
        for place, node in enumerate(nodes):
            marks[side, place, under[side][place]] = True
            counts[side, place] = _count(node[name])
    feature = np.array([node["split_feature"] for node in nodes], dtype=np.int64)
    return _Tree(feature, counts[0], counts[1], marks[0], marks[1])


def _inner(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "split_feature" in node:
        yield node
        yield from _inner(node["left_child"])
        yield from _inner(node["right_child"])


def _leaves(node: dict[str, Any]) -> list[int]:
    if "split_feature" not in node:
        return [int(node.get("leaf_index", 0))]
    return _leaves(node["left_child"]) + _leaves(node["right_child"])


def _count(node: dict[str, Any]) -> float:
    return float(node.get("internal_count", node.get("leaf_count", 0)))


class Drift:
    """The latest served rows of one model, and how they have shifted. `take` is told every decision by
    the thread that writes them down; `look` may be called from any."""

    def __init__(self, every_s: float = 10.0) -> None:
        """every_s: the least time between two measures."""
        self._every_s, self._after = every_s, 0.0
        self._rows: deque[Floats] = deque(maxlen=WINDOW)
        self._reference: Reference | None = None
        self._shift: Shift | None = None
        self._lock = threading.Lock()

    def look(self, bundle: Bundle) -> Shift | None:
        """The newest measure of this model; None before there are enough rows."""
        with self._lock:
            known = self._reference is not None and self._reference.digest == bundle.digest
            return self._shift if known else None

    def take(self, record: DecisionRecord, bundle: Bundle) -> None:
        """A decision; bundle: of the model that answers now. One of another model is left out."""
        if not record.scored or record.connected_to not in record.cells:
            return
        if record.model_digest != bundle.digest:
            return
        with self._lock:
            if self._reference is None or self._reference.digest != bundle.digest:
                self._reference, self._shift, self._after = Reference(bundle), None, 0.0
                self._rows.clear()
            self._rows.append(record.vectors[record.cells.index(record.connected_to)].copy())
            if len(self._rows) >= LEAST and time.monotonic() >= self._after:
                self._shift = self._reference.shift(np.stack(self._rows))
                self._after = time.monotonic() + self._every_s
