"""Ways that somebody recorded: read from a file, laid over the plane, followed to and fro."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator.topology import plane
from schemas.errors import QosError

Array = npt.NDArray[np.float64]

COLUMNS = ("trace_id", "event_timestamp", "latitude_deg", "longitude_deg")


@dataclass(frozen=True)
class Trail:
    """place_m: (points, 2) east and north about the trail's middle; at_s: (points,) rising from 0."""

    at_s: Array
    place_m: Array

    @property
    def seconds(self) -> float:
        """How long it takes from one end to the other."""
        return float(self.at_s[-1])

    def at(self, seconds: Array) -> Array:
        """(n, 2) places, straight between points; beyond the end the way goes back, and so on."""
        there = seconds % (2.0 * self.seconds)
        there = np.minimum(there, 2.0 * self.seconds - there)
        return np.column_stack(
            [np.interp(there, self.at_s, self.place_m[:, axis]) for axis in (0, 1)]
        )


def read_trails(file: str) -> tuple[Trail, ...]:
    """One trail for each trace_id of a CSV or Parquet file with the columns of COLUMNS.

    Raises QosError for a missing file or column, a place that is none, or a trace that is too short.
    """
    path = Path(file)
    if not path.is_file():
        raise QosError(f"simulator.trace_file: {file}: not found; CSV or Parquet is asked for")
    rows = (
        pl.read_parquet(path)
        if path.suffix == ".parquet"
        else pl.read_csv(path, try_parse_dates=True)
    )
    if missing := sorted(set(COLUMNS) - set(rows.columns)):
        raise QosError(f"{file}: missing columns {missing}; a trace has {list(COLUMNS)}")
    return trails(rows, file)


def trails(rows: pl.DataFrame, where: str = "traces") -> tuple[Trail, ...]:
    """Trails of rows with COLUMNS, in order of trace_id; each is centred on its middle."""
    wrong = rows.filter(
        ~pl.col("latitude_deg").is_between(-90, 90).fill_null(value=False)
        | ~pl.col("longitude_deg").is_between(-180, 180).fill_null(value=False)
        | pl.col("event_timestamp").is_null()
    )
    if wrong.height:
        raise QosError(
            f"{where}: {wrong.height} rows are no place on earth at a time; "
            f"first {wrong.select(COLUMNS).row(0)}"
        )
    made = []
    for (name,), way in rows.sort("event_timestamp").group_by("trace_id", maintain_order=True):
        one = way.unique("event_timestamp", keep="first", maintain_order=True)
        if one.height < 2:
            raise QosError(f"{where}: trace {name!r} has {one.height} place; two are needed")
        time = one["event_timestamp"].cast(pl.Datetime("us")).to_physical().to_numpy() / 1e6
        east, north = plane(one["latitude_deg"].to_numpy(), one["longitude_deg"].to_numpy())
        place = np.column_stack([east, north])
        made.append((str(name), Trail(time - time[0], place - place.mean(axis=0))))
    return tuple(trail for _, trail in sorted(made, key=lambda pair: pair[0]))
