"""The network over a stretch of time: every second served, then handed over, then written down."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nef.simulator import chance, handover, network, radio
from nef.simulator.load import Background
from nef.simulator.params import SimulatorParams

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PER_CELL = frozenset({"prb_used", "served_mbps", "users"})


@dataclass(frozen=True)
class Sessions:
    """wave, profile, first and last tick of each session (last is beyond its last row)."""

    wave: Ints
    profile: Ints
    first: Ints
    last: Ints


@dataclass
class Trace:
    """What happened: (ticks, sessions) unless said otherwise; NaN where there was no cell.

    serving: cell index or -1; delays in ms; loss 0..1; capacity NaN while the application was
    the limit; prb_used and served_mbps: (ticks, waves, cells).
    """

    serving: Ints
    sinr_db: Array
    rsrp_dbm: Array
    rsrq_db: Array
    rssi_dbm: Array
    cqi: Array
    downlink_mbps: Array
    capacity_mbps: Array
    downlink_delay_ms: Array
    jitter_ms: Array
    loss: Array
    prb_used: Array
    served_mbps: Array
    users: Array
    events: list[handover.Event]

    @classmethod
    def empty(cls, ticks: int, sessions: int, waves: int, cells: int) -> "Trace":
        """All NaN, nobody served."""
        arrays = {
            f.name: np.full(
                (ticks, waves, cells) if f.name in PER_CELL else (ticks, sessions), np.nan
            )
            for f in fields(cls)
            if f.name not in ("serving", "events")
        }
        return cls(serving=np.full((ticks, sessions), handover.NOBODY), events=[], **arrays)

    def write(self, tick: int, given: network.Given) -> None:
        """Puts down one second."""
        for one in fields(given):
            getattr(self, one.name)[tick] = getattr(given, one.name)


# Called after every second, before anybody is handed over, with its tick, the state, what was met and
# given, where the rule sends whom, the rule itself (its timers moved on), and the draws.
Watch = Callable[
    [int, network.State, network.Now, network.Given, Ints, handover.A3, chance.Drawn], None
]


def run(
    air: radio.Air,
    background: Background,
    sessions: Sessions,
    offered_mbps: Array,
    params: SimulatorParams,
    random: np.random.Generator,
    watch: Watch | None = None,
) -> Trace:
    """The trace of all waves; they share no cell load, each is a network of its own."""
    ticks, count, cells = air.received_mw.shape
    waves = background.demand.shape[1]
    trace = Trace.empty(ticks, count, waves, cells)
    state = network.State.fresh(count, waves, cells)
    state.rate = offered_mbps[0]
    senders = network.Senders.of(sessions.wave, sessions.profile)
    rule = handover.A3.fresh(count, cells, params.hysteresis_db, params.time_to_trigger_s)
    draws = chance.Drawn(random, count)
    for tick in range(ticks):
        now = at(tick, air, background, offered_mbps)
        begins, ends = sessions.first == tick, sessions.last == tick
        rule.restart(handover.attach(state.attached, tick, now.measured_dbm, begins, ends))
        active = (sessions.first <= tick) & (tick < sessions.last)
        given = network.second(state, senders, now, begins, active, air.prbs, params, draws)
        trace.write(tick, given)
        state.attached.serving[sessions.last == tick + 1] = handover.NOBODY
        targets = rule.targets(state.attached.serving, now.measured_dbm)
        accesses = draws.accesses()
        if watch is not None:
            watch(tick, state, now, given, targets, rule, draws)
        moves, fails = handover.move(state.attached, tick, targets, given.sinr_db, accesses)
        rule.restart(moves | fails)
    trace.events = state.attached.events
    return trace


def at(tick: int, air: radio.Air, background: Background, offered_mbps: Array) -> network.Now:
    """One second's circumstances."""
    noise: float | Array = air.noise_mw
    if air.interference_mw is not None:
        noise = air.noise_mw + air.interference_mw[tick]
    return network.Now(
        received_mw=air.received_mw[tick],
        measured_dbm=air.measured_dbm[tick],
        offered_mbps=offered_mbps[tick],
        demand=background.demand[tick],
        users=background.users[tick],
        noise_mw=noise,
        ability=None if background.ability is None else background.ability[tick],
    )
