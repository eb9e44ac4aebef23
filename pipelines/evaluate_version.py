"""Judges a registered version on any frame.

    python -m pipelines.evaluate_version --model qos@champion --frame … --services … \\
        --out-metrics … --out-plots …

Not a stage: it asks the registry, which is outside of DVC. Its parameters are those of `evaluate`.
"""

from pathlib import Path

import polars as pl

from lifecycle.registry import load_version, open_registry, tracking_uri
from pipelines import stage
from pipelines.evaluate import Evaluation, Params, judge_bundle
from pipelines.params import PARAMS_FILE, read_params
from pipelines.train import read_service


def evaluate_version(frame: pl.DataFrame, model: str, services: Path) -> Evaluation:
    """Metrics and plots of `name@alias` or `name/version` on the sessions it was not trained with.

    The frame may come from another source, as long as it holds the features of the same catalog.
    """
    params = read_params(PARAMS_FILE, "evaluate", Params)
    bundle = load_version(open_registry(tracking_uri()), model)
    return judge_bundle(bundle, frame, read_service(services)["catalog_hash"], params)


if __name__ == "__main__":
    stage.run(evaluate_version)
