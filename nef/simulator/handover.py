"""Who serves a UE: event A3 with hysteresis and time to trigger, radio-link failure, return."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NOBODY = -1
OUT_OF_SYNC_DB = -8.0  # Qout: 10 % block errors of a hypothetical control channel, TS 38.133, 8.1
DETECTABLE_DBM = -125.0  # a cell below it is not reported, about TS 38.133, table B.2.2-1
FAILURE_AFTER = 3  # seconds out of sync: N310 and T310 of TS 38.331, 5.3.10


@dataclass
class Attachment:
    """State of all UEs between two ticks.

    serving: index of the cell, or NOBODY; before: the cell that a failure took away; held:
    (ues, cells) seconds for which a cell has been better by the hysteresis; weak: seconds out of
    sync; out: seconds without a cell that are left; out_for: such seconds so far; gap_s: what a
    handover takes off the next second; events: (tick, kind, ues, from cells, to cells).
    """

    serving: Ints
    before: Ints
    held: Ints
    weak: Ints
    out: Ints
    out_for: Ints
    gap_s: Array
    events: list[tuple[int, str, Ints, Ints, Ints]] = field(default_factory=list)

    @classmethod
    def nobody(cls, ues: int, cells: int) -> "Attachment":
        """All UEs detached."""
        zeros = np.zeros(ues, dtype=np.int64)
        return cls(
            serving=np.full(ues, NOBODY),
            before=np.full(ues, NOBODY),
            held=np.zeros((ues, cells), dtype=np.int64),
            weak=zeros.copy(),
            out=zeros.copy(),
            out_for=zeros.copy(),
            gap_s=np.zeros(ues),
        )


def attach(state: Attachment, tick: int, measured_dbm: Array, begins: Bools, ends: Bools) -> None:
    """Give a cell to sessions that begin and to those back from an outage; end the others."""
    state.serving[ends] = NOBODY
    state.out[ends] = 0
    best = measured_dbm.argmax(axis=1)
    state.serving[begins] = best[begins]
    state.held[begins] = 0
    state.weak[begins] = state.out[begins] = state.out_for[begins] = 0
    state.gap_s[begins] = 0.0
    waiting = state.out > 0
    state.out[waiting] -= 1
    state.out_for[waiting] += 1
    back = waiting & (state.out == 0)
    _log(state, tick - 1, "cell_change", back & (best != state.before), state.before, best)
    state.serving[back] = best[back]
    state.held[back] = state.weak[back] = 0
    state.out_for[back] = 0


def decide(
    state: Attachment,
    tick: int,
    measured_dbm: Array,
    sinr_db: Array,
    hysteresis_db: float,
    time_to_trigger_s: int,
    random: np.random.Generator,
) -> None:
    """Hand over or drop UEs after a tick; sinr_db: of the serving cell, NaN if there is none.

    Event A3 (TS 38.331, 5.5.4.4): a neighbour better than the serving cell by the hysteresis, and
    so for the time to trigger; each UE and neighbour has a timer of its own.
    """
    served = state.serving != NOBODY
    every = np.arange(served.size)
    own = measured_dbm[every, state.serving]
    better = (measured_dbm > (own + hysteresis_db)[:, None]) & (measured_dbm >= DETECTABLE_DBM)
    state.held = np.where(better & served[:, None], state.held + 1, 0)
    ripe = state.held > time_to_trigger_s
    target = np.where(ripe, measured_dbm, -np.inf).argmax(axis=1)

    state.weak = np.where(served & (sinr_db < OUT_OF_SYNC_DB), state.weak + 1, 0)
    fails = state.weak >= FAILURE_AFTER
    lasts = random.integers(2, 5, served.size)  # without a cell for one row less
    usual, slow = random.uniform(0.03, 0.08, served.size), random.uniform(0.2, 0.7, served.size)
    moves = served & ripe.any(axis=1) & ~fails
    state.gap_s = np.where(moves, np.where(sinr_db < -4.0, slow, usual), 0.0)

    _log(state, tick, "nr_handover", moves, state.serving, target)
    _log(state, tick, "radio_link_failure", fails, state.serving, np.full_like(target, NOBODY))
    state.before = np.where(fails, state.serving, state.before)
    state.serving = np.where(moves, target, np.where(fails, NOBODY, state.serving))
    state.out = np.where(fails, lasts, state.out)
    state.out_for = np.where(fails, 0, state.out_for)
    state.held[moves | fails] = 0
    state.weak[moves | fails] = 0


def _log(state: Attachment, tick: int, kind: str, who: Bools, source: Ints, target: Ints) -> None:
    ues = np.flatnonzero(who)
    if ues.size:
        state.events.append((tick, kind, ues, source[ues], target[ues]))
