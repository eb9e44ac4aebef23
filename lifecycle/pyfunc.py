"""How MLflow loads a registered bundle (its MLmodel's `loader_module`): plain text, no pickle."""

from pathlib import Path
from typing import Any

import pandas as pd

from lifecycle.bundles import load
from models.bundle import Bundle


class BundleModel:
    """A bundle with the interface of an MLflow pyfunc."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`<task>_probability` and, for a continuous target, `<task>_p10`, `_p50`, `_p90` a row.

        data: the bundle's feature columns in any order, null or NaN = unknown.
        """
        features = data[self.bundle.features].to_numpy(dtype="float64", na_value=float("nan"))
        answer: dict[str, Any] = {}
        for task in sorted(self.bundle.tasks):
            probability, band = self.bundle.predict(task, features)
            answer[f"{task}_probability"] = probability
            if band is not None:
                for place, name in enumerate(("p10", "p50", "p90")):
                    answer[f"{task}_{name}"] = band[:, place]
        return pd.DataFrame(answer, index=data.index)


def _load_pyfunc(path: str) -> BundleModel:
    return BundleModel(load(Path(path)))
