"""Who serves a UE: event A3 with hysteresis and time to trigger, radio-link failure, return."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from nef.simulator.chance import Accesses

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Event = tuple[int, str, Ints, Ints, Ints]

NOBODY = -1
STAY = -1
OUT_OF_SYNC_DB = -8.0  # Qout: 10 % block errors of a hypothetical control channel, TS 38.133, 8.1
DETECTABLE_DBM = -125.0  # a cell below it is not reported, about TS 38.133, table B.2.2-1
LONGEST_S = 30_000  # that a timer counts
FAILURE_AFTER = 3  # seconds out of sync: N310 and T310 of TS 38.331, 5.3.10


@dataclass
class Attachment:
    """State of all UEs between two ticks.

    serving: index of the cell, or NOBODY; before: the cell that a failure took away; weak: seconds
    out of sync; out: seconds without a cell that are left; out_for: such seconds so far; gap_s: what
    a handover takes off the next second; events: (tick, kind, ues, from cells, to cells).
    """

    serving: Ints
    before: Ints
    weak: Ints
    out: Ints
    out_for: Ints
    gap_s: Array
    events: list[Event] = field(default_factory=list)

    @classmethod
    def nobody(cls, ues: int) -> "Attachment":
        """All UEs detached."""
        zeros = np.zeros(ues, dtype=np.int64)
        return cls(
            serving=np.full(ues, NOBODY),
            before=np.full(ues, NOBODY),
            weak=zeros.copy(),
            out=zeros.copy(),
            out_for=zeros.copy(),
            gap_s=np.zeros(ues),
        )

    def take(self, rows: Ints) -> "Attachment":
        """A copy of some UEs' state, without events."""
        names = ("serving", "before", "weak", "out", "out_for", "gap_s")
        return replace(self, events=[], **{name: getattr(self, name)[rows] for name in names})


@dataclass
class A3:
    """Event A3 (TS 38.331, 5.5.4.4): a neighbour better than the serving cell by the hysteresis, and
    so for the time to trigger; each UE and neighbour has a timer of its own.

    held: (ues, cells) seconds for which a cell has been better by the hysteresis; serving: (ues,) for
    which serving cell that counts, another one starts all timers again.
    """

    hysteresis_db: float
    time_to_trigger_s: int
    held: npt.NDArray[np.int16]
    serving: Ints

    @classmethod
    def fresh(cls, ues: int, cells: int, hysteresis_db: float, time_to_trigger_s: int) -> "A3":
        """All timers at 0."""
        held = np.zeros((ues, cells), dtype=np.int16)
        return cls(hysteresis_db, time_to_trigger_s, held, np.full(ues, NOBODY))

    def take(self, rows: Ints) -> "A3":
        """A copy of some UEs' timers."""
        return replace(self, held=self.held[rows], serving=self.serving[rows])

    def targets(self, serving: Ints, measured_dbm: Array) -> Ints:
        """(ues,) where each is to go, or STAY; measured_dbm: (ues, cells). Moves the timers on."""
        self.held[serving != self.serving] = 0
        self.serving = serving.copy()
        real = measured_dbm.dtype.type
        least = measured_dbm[np.arange(serving.size), serving] + real(self.hysteresis_db)
        below = np.nextafter(real(DETECTABLE_DBM), real(-np.inf))
        least = np.where(serving == NOBODY, real(np.inf), np.maximum(least, below))
        np.minimum(self.held + 1, LONGEST_S, out=self.held, casting="unsafe")
        self.held *= measured_dbm > least[:, None]
        ripe = self.held > self.time_to_trigger_s
        target = np.full(serving.size, STAY)
        rows = np.flatnonzero(ripe.any(axis=1))
        target[rows] = np.where(ripe[rows], measured_dbm[rows], -np.inf).argmax(axis=1)
        return target


def attach(state: Attachment, tick: int, measured_dbm: Array, begins: Bools, ends: Bools) -> None:
    """Give a cell to sessions that begin and to those back from an outage; end the others."""
    state.serving[ends] = NOBODY
    state.out[ends] = 0
    waiting = state.out > 0
    state.out[waiting] -= 1
    state.out_for[waiting] += 1
    back = waiting & (state.out == 0) & ~begins
    fresh = begins | back
    if fresh.any():
        best = np.full(state.serving.size, NOBODY)
        best[fresh] = measured_dbm[fresh].argmax(axis=1)
        _log(state, tick - 1, "cell_change", back & (best != state.before), state.before, best)
        state.serving[fresh] = best[fresh]
        state.weak[fresh] = state.out[fresh] = state.out_for[fresh] = 0
        state.gap_s[begins] = 0.0


def move(state: Attachment, tick: int, target: Ints, sinr_db: Array, accesses: Accesses) -> None:
    """Hand over or drop UEs after a tick; target: cell or STAY; sinr_db: of the serving cell, NaN if
    there is none.
    """
    served = state.serving != NOBODY
    state.weak = np.where(served & (sinr_db < OUT_OF_SYNC_DB), state.weak + 1, 0)
    fails = state.weak >= FAILURE_AFTER
    moves = served & (target != STAY) & (target != state.serving) & ~fails
    gap_s = np.where(sinr_db < -4.0, accesses.slow_s, accesses.usual_s)
    state.gap_s = np.where(moves, gap_s, 0.0)

    _log(state, tick, "nr_handover", moves, state.serving, target)
    _log(state, tick, "radio_link_failure", fails, state.serving, np.full_like(target, NOBODY))
    state.before = np.where(fails, state.serving, state.before)
    state.serving = np.where(moves, target, np.where(fails, NOBODY, state.serving))
    state.out = np.where(fails, accesses.lasts_s, state.out)
    state.out_for = np.where(fails, 0, state.out_for)
    state.weak[moves | fails] = 0


def _log(state: Attachment, tick: int, kind: str, who: Bools, source: Ints, target: Ints) -> None:
    ues = np.flatnonzero(who)
    if ues.size:
        state.events.append((tick, kind, ues, source[ues], target[ues]))
