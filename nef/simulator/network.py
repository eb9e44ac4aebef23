"""The network second by second: scheduling, queues and handovers of all sessions at once."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nef.simulator import handover, radio, services
from nef.simulator.load import Background
from nef.simulator.params import SimulatorParams

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SHARED_CHANNEL = 0.02  # PRBs that signalling takes in an idle cell
GUARANTEED_MOST = 0.8  # of the PRBs, for guaranteed flows together
ONE_UE_MOST = 0.8
SLOT_MS = 0.5
RADIO_MS = 2.0  # slot alignment, processing and one transmission, TR 38.913, 7.5
HARQ_MS = 4.0  # one retransmission
CONGESTED_MS = 15.0  # in the queue, from which on an elastic sender slows down
PRIORITY_SIGHT = 0.45  # share of the others' load that a guaranteed flow waits for


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
    events: list[tuple[int, str, Ints, Ints, Ints]]

    @classmethod
    def empty(cls, ticks: int, sessions: int, waves: int, cells: int) -> "Trace":
        """All NaN, nobody served."""
        per_cell = {"prb_used", "served_mbps", "users"}
        arrays = {
            f.name: np.full(
                (ticks, waves, cells) if f.name in per_cell else (ticks, sessions), np.nan
            )
            for f in fields(cls)
            if f.name not in ("serving", "events")
        }
        return cls(serving=np.full((ticks, sessions), handover.NOBODY), events=[], **arrays)


def run(
    air: radio.Air,
    background: Background,
    sessions: Sessions,
    offered_mbps: Array,
    params: SimulatorParams,
    random: np.random.Generator,
) -> Trace:
    """The trace of all waves; they share no cell load, each is a network of its own."""
    ticks, count, cells = air.received_mw.shape
    waves = background.demand.shape[1]
    trace = Trace.empty(ticks, count, waves, cells)
    state = handover.Attachment.nobody(count, cells)
    load = np.full((waves, cells), 0.3)
    full_buffer = services.column("full_buffer")[sessions.profile] > 0
    elastic = ~services.GUARANTEED[sessions.profile]
    rate = offered_mbps[0]
    flow = Flow(*(np.zeros(count) for _ in fields(Flow)))
    for tick in range(ticks):
        begins, ends = sessions.first == tick, sessions.last == tick
        handover.attach(state, tick, air.measured_dbm[tick], begins, ends)
        queue_mb = np.where(begins, 0.0, flow.queue_mb)
        rate = adapt(rate, offered_mbps[tick], elastic, flow)
        rate = np.where(begins, offered_mbps[tick], rate)
        active = (sessions.first <= tick) & (tick < sessions.last)
        served = active & (state.serving != handover.NOBODY)
        serving = np.where(served, state.serving, 0)
        sinr, level_mw = radio.sinr_db(
            air.received_mw[tick], serving, load[sessions.wave], air.noise_mw
        )
        sinr = np.where(served, sinr, np.nan)
        cqi = np.where(served, radio.cqi_of(np.nan_to_num(sinr, nan=-99.0)), 0)
        full_mbps = rate_mbps(radio.EFFICIENCY[cqi], params)
        demand_mb = np.where(full_buffer, np.inf, rate + queue_mb)
        slot = sessions.wave * cells + serving
        shares = share_prbs(
            slot, served, services.GUARANTEED[sessions.profile],
            np.minimum(demand_mb / np.maximum(full_mbps, 1e-9), 1.0),
            background.demand[tick].ravel(), background.users[tick].ravel(),
        )  # fmt: skip
        usable = 1.0 - state.gap_s
        capacity = np.where(served, shares.could * full_mbps * usable, 0.0)
        flow = serve(
            full_buffer, rate, queue_mb, capacity,
            services.column("buffer_ms")[sessions.profile], active, random,
        )  # fmt: skip
        busy = shares.busy[slot]
        delays = delay_ms(sessions.profile, sinr, busy, flow.wait_ms, state, random)
        loss = loss_ratio(sessions.profile, sinr, flow, state.gap_s, served, random)

        trace.serving[tick] = np.where(served, state.serving, handover.NOBODY)
        trace.sinr_db[tick] = sinr
        own_dbm = air.measured_dbm[tick][np.arange(count), serving]
        own_mw = 10.0 ** (own_dbm / 10.0)
        trace.rsrp_dbm[tick] = own_dbm
        trace.rsrq_db[tick] = 10.0 * np.log10(own_mw / (12.0 * level_mw))
        trace.rssi_dbm[tick] = 10.0 * np.log10(12.0 * air.prbs * level_mw)
        trace.cqi[tick] = cqi
        trace.downlink_mbps[tick] = flow.sent_mbps * (1.0 - loss)
        trace.capacity_mbps[tick] = np.where(full_buffer, flow.sent_mbps, np.nan)
        trace.downlink_delay_ms[tick], trace.jitter_ms[tick] = delays
        trace.loss[tick] = loss
        trace.prb_used[tick] = shares.busy.reshape(waves, cells)
        own_users = np.bincount(slot, weights=served, minlength=waves * cells)
        trace.users[tick] = background.users[tick] + own_users.reshape(waves, cells)
        served_mbps = np.bincount(slot, weights=flow.sent_mbps * served, minlength=waves * cells)
        usual = rate_mbps(radio.EFFICIENCY[9], params) * shares.others
        trace.served_mbps[tick] = (served_mbps + usual).reshape(waves, cells)

        load = np.clip(0.5 * load + 0.5 * shares.busy.reshape(waves, cells), 0.0, 1.0)
        state.serving[sessions.last == tick + 1] = handover.NOBODY
        handover.decide(
            state, tick, air.measured_dbm[tick], sinr,
            params.hysteresis_db, params.time_to_trigger_s, random,
        )  # fmt: skip
    trace.events = state.events
    return trace


def rate_mbps(efficiency: Array, params: SimulatorParams) -> Array:
    """Mbps of a whole carrier at a spectral efficiency in bit/s/Hz."""
    return np.asarray(efficiency * params.bandwidth_mhz * radio.GUARD * radio.USER_SHARE)


@dataclass(frozen=True)
class Shares:
    """Shares of PRBs. could: what a UE may have, (ues,); busy, others: used by all, by others."""

    could: Array
    busy: Array
    others: Array


def share_prbs(
    slot: Ints, served: Bools, guaranteed: Bools, want: Array, others: Array, users: Array
) -> Shares:
    """Guaranteed flows first, then equal shares; what somebody leaves is for who wants more.

    slot: cell of each UE; want: share of its PRBs each UE could use, 0..1; others, users: the
    background's wanted share and UEs of each cell. One round of water filling.
    """
    cells = others.size

    def total(values: Array) -> Array:
        return np.bincount(slot, weights=values, minlength=cells).astype(np.float64)

    want = np.where(served, np.minimum(want, ONE_UE_MOST), 0.0)
    first = np.where(guaranteed, want, 0.0)
    scale = np.minimum(1.0, GUARANTEED_MOST / np.maximum(total(first), 1e-9))
    first = first * scale[slot]
    rest = np.maximum(1.0 - SHARED_CHANNEL - total(first), 0.0)
    equal = served & ~guaranteed
    fair = rest / np.maximum(users + total(equal.astype(np.float64)), 1.0)
    base = np.where(equal, np.minimum(want, fair[slot]), 0.0)
    others_base = np.minimum(others, users * fair)
    left = np.maximum(rest - total(base) - others_base, 0.0)
    unmet, others_unmet = np.where(equal, want - base, 0.0), others - others_base
    ratio = np.minimum(1.0, left / np.maximum(total(unmet) + others_unmet, 1e-9))
    got = first + base + unmet * ratio[slot]
    others_got = others_base + others_unmet * ratio
    busy = np.minimum(SHARED_CHANNEL + total(got) + others_got, 1.0)
    # what nobody wants now is there for all alike, should they send more than they meant to
    spare = np.maximum(1.0 - busy, 0.0) / np.maximum(total(served.astype(np.float64)), 1.0)
    could = np.where(served, np.minimum(got + spare[slot], ONE_UE_MOST), 0.0)
    return Shares(could=could, busy=busy, others=others_got)


@dataclass(frozen=True)
class Flow:
    """sent_mbps, wait_ms in the queue, dropped share 0..1, queue_mb left: each (ues,)."""

    sent_mbps: Array
    wait_ms: Array
    dropped: Array
    queue_mb: Array


def serve(
    full_buffer: Bools,
    offered: Array,
    queue_mb: Array,
    capacity: Array,
    buffer_ms: Array,
    active: Bools,
    random: np.random.Generator,
) -> Flow:
    """One second of a fluid queue before each UE.

    A full-buffer sender always has data: its congestion control fills the buffer, loses, and backs
    off, and is slow to follow a fall of the capacity. The others send what they offer.
    """
    room_mb = np.maximum(capacity, 0.5) * buffer_ms / 1000.0
    grows = queue_mb + random.uniform(0.0, 0.08, capacity.size) * room_mb
    elastic = np.where(active, grows, 0.0)
    pending = np.where(full_buffer, elastic + capacity, queue_mb + np.where(active, offered, 0.0))
    sent = np.minimum(capacity, pending)
    waiting = pending - sent
    over = np.maximum(waiting - room_mb, 0.0)
    dropped = np.clip(over / np.maximum(pending, 1e-9), 0.0, 1.0)
    dropped = np.where(full_buffer, np.minimum(dropped, 0.03), dropped)
    backed_off = np.where(over > 0.0, 0.5 * room_mb, waiting)
    left = np.where(full_buffer, backed_off, np.minimum(waiting, room_mb))
    wait_ms = 1000.0 * 0.5 * (np.minimum(waiting, 3.0 * room_mb) + queue_mb)
    wait_ms = np.minimum(wait_ms / np.maximum(capacity, 0.2), 3.0 * buffer_ms)
    return Flow(sent, wait_ms, dropped, left)


def adapt(rate: Array, wanted: Array, elastic: Bools, flow: Flow) -> Array:
    """Mbps that applications send next, after what became of their last second.

    The elastic ones fall back below what got through once it queued or was lost, and come back
    slowly, as delay-based congestion control does (RFC 8836); the others send what they want.
    """
    congested = (flow.wait_ms > CONGESTED_MS) | (flow.dropped > 0.01)
    slower = np.clip(0.85 * flow.sent_mbps, 0.05 * wanted, wanted)
    faster = np.minimum(wanted, 1.1 * rate + 0.2)
    return np.where(elastic, np.where(congested, slower, faster), wanted)


def delay_ms(
    profile: Ints,
    sinr: Array,
    busy: Array,
    wait_ms: Array,
    state: handover.Attachment,
    random: np.random.Generator,
) -> tuple[Array, Array]:
    """One-way downlink delay and its variation in ms; without a cell, the outage so far."""
    blocks = 0.08 + 0.6 / (1.0 + np.exp((np.nan_to_num(sinr, nan=-20.0) + 2.0) / 1.5))
    harq = HARQ_MS * blocks / (1.0 - blocks)
    sight = np.where(services.GUARANTEED[profile], PRIORITY_SIGHT, 1.0) * np.minimum(busy, 0.97)
    scheduling = SLOT_MS * sight / (1.0 - sight)
    interruption = 1000.0 * state.gap_s * np.minimum(1.0, 2.0 * state.gap_s + 0.1)
    core = services.column("core_ms")[profile] * np.exp(random.normal(0.0, 0.1, profile.size))
    mean = core + RADIO_MS + harq + scheduling + wait_ms + interruption
    mean = np.where(np.isnan(sinr), 1000.0 * np.maximum(state.out_for, 1), mean)
    noise = np.exp(random.normal(0.0, 0.25, profile.size))
    jitter = (0.3 + 0.4 * harq + 0.5 * scheduling + 0.1 * wait_ms + 0.3 * interruption) * noise
    return mean, np.where(np.isnan(sinr), np.nan, jitter)


def loss_ratio(
    profile: Ints,
    sinr: Array,
    flow: Flow,
    gap_s: Array,
    served: Bools,
    random: np.random.Generator,
) -> Array:
    """Share of a second's packets that are lost, 0..1; all of them without a cell."""
    residual = 1e-5 + 0.10 / (1.0 + np.exp((np.nan_to_num(sinr, nan=-20.0) + 5.5) / 1.2))
    share = np.clip(residual + flow.dropped + 0.3 * gap_s, 0.0, 1.0)
    bits = 8.0 * services.column("packet_bytes")[profile]
    packets = np.maximum(1, np.rint(flow.sent_mbps * 1e6 / bits)).astype(np.int64)
    return np.where(served, random.binomial(packets, share) / packets, 1.0)
