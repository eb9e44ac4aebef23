"""Event A3 on the RSRP that is forecast instead of the one that was measured: its policy, its rows."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.rsrp_forecast import Forecast, History
from nef.simulator import closed_loop, handover
from nef.simulator.closed_loop import NOBODY, Choices, PolicyMaker

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TAKEN = 0.15  # of the pairs of each second, to learn from


@dataclass
class Reports:
    """What one run leaves to learn from: features, UE, cell and second of pairs, and all reports."""

    seed: int
    rows: list[Floats] = field(default_factory=list)
    places: list[tuple[Ints, Ints, Ints]] = field(default_factory=list)
    measured_dbm: list[Floats] = field(default_factory=list)

    def learned(self, horizon_s: int) -> tuple[Floats, Floats]:
        """Features and change in dB of each pair with a whole horizon after it."""
        measured = np.array(self.measured_dbm)
        tick, ue, cell = (np.concatenate(part) for part in zip(*self.places, strict=True))
        whole = tick + horizon_s < measured.shape[0]
        tick, ue, cell = tick[whole], ue[whole], cell[whole]
        window = tick[:, None] + 1 + np.arange(horizon_s)
        after = measured[window, ue[:, None], cell[:, None]].mean(axis=1)
        change = (after - measured[tick, ue, cell]).astype(np.float64)
        return np.concatenate(self.rows)[whole], change


def reporting(base: PolicyMaker, reports: Reports) -> PolicyMaker:
    """Another policy, whose run's reports are written down."""

    def maker(ues: int, cells: int) -> closed_loop.Policy:
        follow, history = base(ues, cells), History()
        random = np.random.default_rng(reports.seed)

        def policy(choices: Choices) -> Ints:
            history.see(choices.measured_dbm)
            ue, place = np.nonzero(choices.cell != NOBODY)
            taken = random.random(ue.size) < TAKEN
            ue, cell = ue[taken], choices.cell[ue[taken], place[taken]]
            reports.rows.append(history.features(choices.speed_mps, ue, cell))
            reports.places.append((np.full(ue.size, choices.tick), ue, cell))
            reports.measured_dbm.append(choices.measured_dbm.copy())
            return follow(choices)

        return policy

    return maker


def forecasting(forecast: Forecast, hysteresis_db: float) -> PolicyMaker:
    """Event A3 at once, where the forecast of each candidate's RSRP stands for its report."""

    def maker(ues: int, cells: int) -> closed_loop.Policy:
        rule, history = handover.A3.fresh(ues, cells, hysteresis_db, 0), History()

        def policy(choices: Choices) -> Ints:
            history.see(choices.measured_dbm)
            ue, place = np.nonzero(choices.cell != NOBODY)
            cell = choices.cell[ue, place]
            expected = choices.measured_dbm.copy()
            rows = history.features(choices.speed_mps, ue, cell)
            expected[ue, cell] += forecast.change_db(rows).astype(expected.dtype)
            return rule.targets(choices.serving, expected)

        return policy

    return maker
