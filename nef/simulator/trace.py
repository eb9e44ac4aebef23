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


@dataclass(frozen=True)
class Seen:
    """What a handover rule may know after a second: `now` and what the second `given`.

    serving: (ues,) cell or NOBODY; prb_used, users: (waves, cells) of `given` are the cells' reports.
    """

    tick: int
    serving: Ints
    senders: network.Senders
    now: network.Now
    given: network.Given


Policy = Callable[[Seen], Ints]  # (ues,) to which cell each is to go, or handover.STAY
Watch = Callable[[Seen, network.State, Ints], None]  # the last is where the policy sends whom


@dataclass
class Running:
    """A network between two stretches of time; sessions: with ticks from its very beginning."""

    params: SimulatorParams
    sessions: Sessions
    senders: network.Senders
    state: network.State
    policy: Policy

    @classmethod
    def fresh(
        cls, params: SimulatorParams, sessions: Sessions, waves: int, cells: int,
        policy: Policy | None = None,
    ) -> "Running":  # fmt: skip
        """Nobody is served yet; without a policy it is event A3 as params have it."""
        count = sessions.wave.size
        if policy is None:
            rule = handover.A3.fresh(count, cells, params.hysteresis_db, params.time_to_trigger_s)
            policy = following(rule)
        senders = network.Senders.of(sessions.wave, sessions.profile)
        return cls(params, sessions, senders, network.State.fresh(count, waves, cells), policy)


def following(rule: handover.A3) -> Policy:
    """The policy of a rule's timers."""
    return lambda seen: rule.targets(seen.serving, seen.now.measured_dbm)


def run(
    running: Running,
    first: int,
    air: radio.Air,
    background: Background,
    offered_mbps: Array,
    chances: Callable[[int], chance.Chance],
    watch: Watch | None = None,
) -> Trace:
    """The trace of a stretch that begins at tick `first`, of all waves; they share no cell load, each
    is a network of its own. chances: the draws of each second of the stretch, counted from 0.

    watch: is called after each second, when it is known who goes where, before they go.
    """
    ticks, count, cells = air.received_mw.shape
    trace = Trace.empty(ticks, count, background.demand.shape[1], cells)
    state, sessions = running.state, running.sessions
    attached = state.attached
    attached.events = trace.events
    for number in range(ticks):
        tick, draws = first + number, chances(number)
        now = at(number, air, background, offered_mbps)
        begins = sessions.first == tick
        handover.attach(attached, tick, now.measured_dbm, begins, sessions.last == tick)
        active = (sessions.first <= tick) & (tick < sessions.last)
        given = network.second(
            state, running.senders, now, begins, active, air.prbs, running.params, draws
        )
        trace.write(number, given)
        attached.serving[sessions.last == tick + 1] = handover.NOBODY
        seen = Seen(tick, attached.serving, running.senders, now, given)
        targets = running.policy(seen)
        accesses = draws.accesses()
        if watch is not None:
            watch(seen, state, targets)
        handover.move(attached, tick, targets, given.sinr_db, accesses)
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
