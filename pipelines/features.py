"""Reads what `aggregate` wrote."""

from pathlib import Path

import polars as pl

from feature_repo.windows import StaticView, View
from schemas.errors import QosError


def read_view(features: Path, view: View | StaticView) -> pl.DataFrame:
    """All feature rows of one view; raises `QosError` where its folder is missing."""
    folder = features / view.name
    if not folder.is_dir():
        raise QosError(f"{folder}: not found; `dvc repro aggregate` makes it")
    return pl.read_parquet(folder / "**" / "*.parquet", hive_partitioning=False)
