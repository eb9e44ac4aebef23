"""How a cell's RSRP goes on over the next seconds, learned from that of the last ones.

Pure: arrays in, dB out. Every report of a cell is followed by others, so nobody has to be sent
anywhere to learn this. The same rows and seed give the same bytes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import trees
from models.trees import Trees, grown
from schemas.errors import QosError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Levels = NDArray[np.float32] | Floats

WHAT = "rsrp_forecast"
DEPTH_S = 5  # reports that are looked at
SLOW = 0.05  # of the newest second, in the mean of long
FEATURES = (
    "rsrp_dbm", "gained_db", "gained_before_db", "gained_3s_db", "above_mean_db", "below_most_db",
    "above_least_db", "speed_mps",
)  # fmt: skip


@dataclass
class History:
    """The last reports of one run, the newest first, and their mean of long: (ues, cells) in dBm."""

    recent: list[Levels] = field(default_factory=list)
    mean_dbm: Levels | None = None

    def see(self, measured_dbm: Levels) -> None:
        """One more second."""
        self.recent = [measured_dbm, *self.recent[: DEPTH_S - 1]]
        old = measured_dbm if self.mean_dbm is None else self.mean_dbm
        self.mean_dbm = old + SLOW * (measured_dbm - old)

    def features(self, speed_mps: Floats, ue: Ints, cell: Ints) -> Floats:
        """(pairs, FEATURES) of UEs and cells; before there is a whole history, its oldest counts.

        Raises QosError before the first second.
        """
        if self.mean_dbm is None:
            raise QosError(f"{WHAT}: no second was seen, at least 1 is asked for")
        past = np.stack(
            [self.recent[min(back, len(self.recent) - 1)][ue, cell] for back in range(DEPTH_S)]
        ).astype(np.float64)
        now = past[0]
        return np.column_stack(
            [
                now, now - past[1], past[1] - past[2], now - past[3],
                now - self.mean_dbm[ue, cell], past.max(axis=0) - now, now - past.min(axis=0),
                speed_mps[ue],
            ]
        )  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How the trees grow. horizon_s: seconds over whose mean RSRP is forecast."""

    horizon_s: int = 5
    rounds: int = 200
    learning_rate: float = 0.08
    leaves: int = 31
    rows_per_leaf: int = 200


@dataclass(frozen=True)
class Forecast:
    """The trees, and what they were trained on."""

    trees: Trees
    fitted: dict[str, Any]

    def change_db(self, matrix: Floats) -> Floats:
        """Of each row of `History.features`: the mean of the next seconds less the newest report.

        Raises QosError for another number of columns.
        """
        return self.trees.predict(matrix)


def fit(matrix: Floats, change_db: Floats, settings: Settings, seed: int) -> Forecast:
    """The forecast learned from reports. change_db: what came of each row.

    Raises QosError where there are no rows.
    """
    if not len(change_db):
        raise QosError(f"{WHAT}: 0 rows, at least 1 is asked for")
    parameters = {
        "objective": "regression", "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves, "min_data_in_leaf": settings.rows_per_leaf,
    }  # fmt: skip
    learned = grown(WHAT, FEATURES, matrix, change_db, parameters, settings.rounds, seed)
    told = {"rows": len(change_db), "horizon_s": settings.horizon_s, "seed": seed}
    return Forecast(learned, told)


def to_files(forecast: Forecast) -> dict[str, bytes]:
    """The forecast as file name to text; `from_files` reads it back."""
    return trees.to_files(forecast.trees, forecast.fitted)


def from_files(files: dict[str, bytes], where: str = WHAT) -> Forecast:
    """The forecast in `files`; `where` names it in errors.

    Raises QosError if a file is missing, changed or truncated, or is of other features than these.
    """
    return Forecast(*trees.from_files(files, WHAT, FEATURES, where))
