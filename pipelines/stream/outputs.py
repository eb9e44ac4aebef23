"""Where feature rows and refused rows go: the online store, the offline source, the quarantine."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from feature_repo import compute
from feature_repo.store import quiet
from feature_repo.views import STORED
from feature_repo.windows import StaticView, View
from pipelines.stream.checkpoint import synced
from pipelines.stream.times import ARRIVAL, EVENT
from schemas.tables import TABLES

if TYPE_CHECKING:
    from feast import FeatureStore

FEATURES = Path("data/stream/features")  # beside data/features, which belongs to the batch
QUARANTINE = Path("data/stream/quarantine")
STATE = Path(".qos/stream")
Append = Callable[[Path, pa.Table], None]  # a Parquet file of the rows, whole or not at all
_NUMBERED = re.compile(r"(?:.*-)?stream-(?P<name>[0-9a-f]+)-(?P<number>\d+)\.parquet")


class OnlineRows:
    """Writes feature rows to the online store of an opened store, which takes the newest of each key."""

    def __init__(self, store: "FeatureStore") -> None:
        self._config = store.config
        self._online: Any = store._get_provider().online_store
        with quiet():
            self._views: dict[str, Any] = {v.name: v for v in store.list_feature_views()}

    def write(self, view: str, rows: pl.DataFrame) -> None:
        """Writes the rows of a view; writing them again changes nothing."""
        table = rows.rename({ARRIVAL: "created_timestamp"}).to_arrow()
        self._online.write_arrow(self._config, self._views[view], table)


def prepare(features: Path, views: Iterable[View | StaticView] = STORED) -> None:
    """Makes a folder a view that Feast can read from the start: static rows, or none yet."""
    for view in views:
        folder = features / view.name
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(view, StaticView):
            rows = view.rows()
        elif any(folder.rglob("*.parquet")):
            continue
        else:
            clock = TABLES[view.clock_table].create_empty()
            rows = compute.features(TABLES[view.table].create_empty(), clock, view)
        beside = folder / ".first.part"
        rows.write_parquet(beside)
        beside.replace(folder / "first.parquet")


def append_offline(
    append: Append, features: Path, view: str, rows: Iterable[pl.DataFrame], name: str, number: int
) -> int:
    """Adds rows to a view's folder, a file a day; the number of rows.

    Raises `FileExistsError` where commit `number` of state `name` already left its rows.
    """
    table = pl.concat(rows)
    dated = table.with_columns(pl.col(EVENT).dt.date().alias("day"))
    for (day,), part in dated.partition_by("day", as_dict=True, include_key=False).items():
        path = features / view / f"day={day}" / f"stream-{name}-{number}.parquet"
        if path.exists():
            raise FileExistsError(f"{path}: was written before")
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, part.to_arrow())
        synced(path)
    return len(table)


def write_quarantine(
    folder: Path, table: str, rows: Iterable[pl.DataFrame], name: str, number: int
) -> None:
    """Leaves the refused rows of a table, with their place and reason, in a file of the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table}-stream-{name}-{number}.parquet"
    pl.concat(rows, how="diagonal").write_parquet(path)
    synced(path)


def remove_uncommitted(folder: Path, name: str, number: int) -> None:
    """Removes the files below a folder that state `name` left after its commit `number`."""
    for path in folder.rglob("*stream-*.parquet"):
        match = _NUMBERED.fullmatch(path.name)
        if match and match["name"] == name and int(match["number"]) > number:
            path.unlink()
    for path in folder.rglob(f".*stream-{name}-*.part"):  # begun when its writer died
        path.unlink()
