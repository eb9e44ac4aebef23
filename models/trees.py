"""Trees grown by LightGBM, kept as text: growing them, asking them, writing them down and reading them.

Pure: arrays and bytes in, arrays and bytes out. One thread, so the same rows and seed give the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import QosError, listed

if TYPE_CHECKING:
    import lightgbm as lgb

Floats = NDArray[np.float64]

FORMAT = 1
MANIFEST, TREES = "manifest.json", "trees.txt"
LEAST_ROWS = 5  # of a leaf


@dataclass(frozen=True)
class Trees:
    """Of the model `what`, which takes `columns` in this order; text: as LightGBM writes it."""

    what: str
    columns: tuple[str, ...]
    text: str

    @cached_property
    def booster(self) -> "lgb.Booster":
        """The parsed trees."""
        import lightgbm as lgb

        return lgb.Booster(model_str=self.text)

    def predict(self, matrix: Floats) -> Floats:
        """What they say of each row (NaN: unknown). Raises QosError for another number of columns."""
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns):
            raise QosError(
                f"{self.what}: a matrix of shape {matrix.shape}; it takes {len(self.columns)} "
                f"columns, from {self.columns[0]!r} to {self.columns[-1]!r}"
            )
        if not matrix.shape[0]:
            return np.zeros(0)
        return np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)


def grown(
    what: str, columns: tuple[str, ...], matrix: Floats, target: NDArray[Any],
    parameters: dict[str, Any], rounds: int, seed: int,
) -> Trees:  # fmt: skip
    """The trees of model `what` that learned `target` from the columns of each row.

    parameters: LightGBM's, without those that make the same rows give the same bytes; where there are
    few rows, a leaf holds at least a fiftieth of them instead of `min_data_in_leaf`.
    """
    import lightgbm as lgb

    least = max(LEAST_ROWS, min(parameters["min_data_in_leaf"], len(target) // 50))
    every = parameters | {
        "min_data_in_leaf": least, "seed": seed, "deterministic": True, "force_row_wise": True,
        "num_threads": 1, "verbosity": -1,
    }  # fmt: skip
    data = lgb.Dataset(matrix, target, feature_name=list(columns), params={"verbosity": -1})
    return Trees(what, columns, str(lgb.train(every, data, rounds).model_to_string()))


def to_files(
    trees: Trees, fitted: dict[str, Any], others: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    """The trees as file name to text, with a manifest that has the digest of every file.

    fitted: what they were trained on; others: files beside them.
    """
    content = {TREES: trees.text.encode()} | (others or {})
    manifest = {
        "format": FORMAT,
        "features": list(trees.columns),
        "fitted": fitted,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    }
    return {MANIFEST: json_bytes(manifest)} | content


def from_files(
    files: dict[str, bytes], what: str, columns: Sequence[str], where: str,
    others: Sequence[str] = (),
) -> tuple[Trees, dict[str, Any]]:  # fmt: skip
    """The trees of `to_files`, and what they were trained on; `where` names them in errors.

    Raises QosError if a file is missing, changed or truncated, or is of other columns than these.
    """
    if missing := [name for name in (MANIFEST, TREES, *others) if name not in files]:
        raise QosError(f"{where}: lacks {listed(missing)}")
    try:
        manifest = json.loads(files[MANIFEST])
        version, named, digests = manifest["format"], manifest["features"], manifest["files"]
        named = [str(name) for name in named]
        expected = {name: digests[name] for name in (TREES, *others)}
        fitted = dict(manifest["fitted"])
    except (ValueError, KeyError, TypeError):
        raise QosError(f"{where}/{MANIFEST}: not a whole manifest of a {what}") from None
    if version != FORMAT:
        raise QosError(f"{where}/{MANIFEST}: format {version}; this version reads {FORMAT}")
    if named != list(columns):
        raise QosError(
            f"{where}: trained on other features than this version computes: "
            f"{listed(sorted(set(named) ^ set(columns)) or named)}; train it again"
        )
    for name, digest in expected.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise QosError(f"{where}/{name}: changed or truncated since training")
    return Trees(what, tuple(columns), files[TREES].decode()), fitted


def json_bytes(content: dict[str, Any]) -> bytes:
    """Sorted and indented, a line's end at the end."""
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
