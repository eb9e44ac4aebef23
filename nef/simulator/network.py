"""One second of the network: scheduling, queues, delay and loss of all sessions at once."""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from nef.simulator import handover, radio, services
from nef.simulator.chance import Chance
from nef.simulator.params import SimulatorParams

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

IDLE_LOAD = 0.3
SHARED_CHANNEL = 0.02  # PRBs that signalling takes in an idle cell
GUARANTEED_MOST = 0.8  # of the PRBs, for guaranteed flows together
ONE_UE_MOST = 0.8
SLOT_MS = 0.5
RADIO_MS = 2.0  # slot alignment, processing and one transmission, TR 38.913, 7.5
HARQ_MS = 4.0  # one retransmission
CONGESTED_MS = 15.0  # in the queue, from which on an elastic sender slows down
PRIORITY_SIGHT = 0.45  # share of the others' load that a guaranteed flow waits for


@dataclass(frozen=True)
class Senders:
    """What never changes of the UEs: wave, the network each belongs to; and their profile's traits."""

    wave: Ints
    profile: Ints
    full_buffer: Bools
    guaranteed: Bools
    buffer_ms: Array
    core_ms: Array
    packet_bits: Array

    @classmethod
    def of(cls, wave: Ints, profile: Ints) -> "Senders":
        """Looks the traits up."""
        return cls(
            wave, profile, services.column("full_buffer")[profile] > 0,
            services.GUARANTEED[profile], services.column("buffer_ms")[profile],
            services.column("core_ms")[profile], 8.0 * services.column("packet_bytes")[profile],
        )  # fmt: skip

    def take(self, rows: Ints, wave: Ints) -> "Senders":
        """Those of some UEs, in networks `wave`."""
        parts = {f.name: getattr(self, f.name)[rows] for f in fields(self)}
        return Senders(**(parts | {"wave": wave}))


@dataclass(frozen=True)
class Now:
    """One second's circumstances. received_mw, measured_dbm: (ues, cells); offered_mbps: (ues,);
    demand, users: (waves, cells); noise_mw: of one resource element, of all or of each UE; ability:
    (waves, cells) by which a cell's rate is multiplied, 0 for one that serves nobody; or None.
    """

    received_mw: Array
    measured_dbm: Array
    offered_mbps: Array
    demand: Array
    users: Array
    noise_mw: float | Array
    ability: Array | None = None

    def take(self, rows: Ints, waves: Ints) -> "Now":
        """Those of some UEs and networks."""
        noise = self.noise_mw[rows] if isinstance(self.noise_mw, np.ndarray) else self.noise_mw
        ability = None if self.ability is None else self.ability[waves]
        return Now(
            self.received_mw[rows], self.measured_dbm[rows], self.offered_mbps[rows],
            self.demand[waves], self.users[waves], noise, ability,
        )  # fmt: skip


@dataclass
class State:
    """All that one second leaves to the next. load: (waves, cells) smoothed share of used PRBs."""

    attached: handover.Attachment
    load: Array
    rate: Array
    flow: "Flow"

    @classmethod
    def fresh(cls, ues: int, waves: int, cells: int) -> "State":
        """Nobody is served, all cells have a light load."""
        flow = Flow(*(np.zeros(ues) for _ in fields(Flow)))
        load = np.full((waves, cells), IDLE_LOAD)
        return cls(handover.Attachment.nobody(ues), load, np.zeros(ues), flow)

    def take(self, rows: Ints, waves: Ints) -> "State":
        """A copy of some UEs' and networks' state."""
        flow = Flow(*(getattr(self.flow, f.name)[rows] for f in fields(Flow)))
        return State(self.attached.take(rows), self.load[waves], self.rate[rows], flow)


@dataclass(frozen=True)
class Given:
    """What one second gave: each (ues,), but prb_used and served_mbps (waves, cells). NaN: no cell."""

    serving: Ints
    sinr_db: Array
    rsrp_dbm: Array
    rsrq_db: Array
    rssi_dbm: Array
    cqi: Ints
    downlink_mbps: Array
    capacity_mbps: Array
    downlink_delay_ms: Array
    jitter_ms: Array
    loss: Array
    prb_used: Array
    served_mbps: Array
    users: Array


def second(
    state: State, senders: Senders, now: Now, begins: Bools, active: Bools, prbs: int,
    params: SimulatorParams, chance: Chance,
) -> Given:  # fmt: skip
    """Serves everybody for one second and moves `state` on, but for who serves whom next."""
    attached, every = state.attached, np.arange(active.size)
    waves, cells = now.demand.shape
    queue_mb = np.where(begins, 0.0, state.flow.queue_mb)
    rate = adapt(state.rate, now.offered_mbps, ~senders.guaranteed, state.flow)
    rate = np.where(begins, now.offered_mbps, rate)
    served = active & (attached.serving != handover.NOBODY)
    serving = np.where(served, attached.serving, 0)
    sinr, level_mw = radio.sinr_db(now.received_mw, serving, state.load, senders.wave, now.noise_mw)
    sinr = np.where(served, sinr, np.nan)
    cqi = np.where(served, radio.cqi_of(np.nan_to_num(sinr, nan=-99.0)), 0)
    full_mbps = rate_mbps(radio.EFFICIENCY[cqi], params)
    slot = senders.wave * cells + serving
    if now.ability is not None:
        full_mbps = full_mbps * now.ability.ravel()[slot]
    demand_mb = np.where(senders.full_buffer, np.inf, rate + queue_mb)
    shares = share_prbs(
        slot, served, senders.guaranteed,
        np.minimum(demand_mb / np.maximum(full_mbps, 1e-9), 1.0),
        now.demand.ravel(), now.users.ravel(),
    )  # fmt: skip
    capacity = np.where(served, shares.could * full_mbps * (1.0 - attached.gap_s), 0.0)
    flow = serve(
        senders.full_buffer, rate, queue_mb, capacity, senders.buffer_ms, active, chance.grows()
    )
    delays = delay_ms(senders, sinr, shares.busy[slot], flow.wait_ms, attached, *chance.delays())
    packets, share = losses(senders.packet_bits, sinr, flow, attached.gap_s)
    loss = np.where(served, chance.lost(packets, share) / packets, 1.0)

    busy = shares.busy.reshape(waves, cells)
    own_users = np.bincount(slot, weights=served, minlength=waves * cells)
    sent = np.bincount(slot, weights=flow.sent_mbps * served, minlength=waves * cells)
    usual = rate_mbps(radio.EFFICIENCY[9], params) * shares.others
    if now.ability is not None:
        usual = usual * now.ability.ravel()
    own_dbm = now.measured_dbm[every, serving]
    state.load = np.clip(0.5 * state.load + 0.5 * busy, 0.0, 1.0)
    state.rate, state.flow = rate, flow
    return Given(
        serving=np.where(served, attached.serving, handover.NOBODY),
        sinr_db=sinr,
        rsrp_dbm=own_dbm,
        rsrq_db=10.0 * np.log10(10.0 ** (own_dbm / 10.0) / (12.0 * level_mw)),
        rssi_dbm=10.0 * np.log10(12.0 * prbs * level_mw),
        cqi=cqi,
        downlink_mbps=flow.sent_mbps * (1.0 - loss),
        capacity_mbps=np.where(senders.full_buffer, flow.sent_mbps, np.nan),
        downlink_delay_ms=delays[0],
        jitter_ms=delays[1],
        loss=loss,
        prb_used=busy,
        served_mbps=(sent + usual).reshape(waves, cells),
        users=now.users + own_users.reshape(waves, cells),
    )


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
    grow: Array,
) -> Flow:
    """One second of a fluid queue before each UE.

    grow: (ues,) what a full-buffer sender adds to its buffer, as a share of it. Such a sender always
    has data: its congestion control fills the buffer, loses, and backs off, and is slow to follow a
    fall of the capacity. The others send what they offer.
    """
    room_mb = np.maximum(capacity, 0.5) * buffer_ms / 1000.0
    grows = queue_mb + grow * room_mb
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
    senders: Senders,
    sinr: Array,
    busy: Array,
    wait_ms: Array,
    state: handover.Attachment,
    core_noise: Array,
    jitter_noise: Array,
) -> tuple[Array, Array]:
    """One-way downlink delay and its variation in ms; without a cell, the outage so far."""
    blocks = 0.08 + 0.6 / (1.0 + np.exp((np.nan_to_num(sinr, nan=-20.0) + 2.0) / 1.5))
    harq = HARQ_MS * blocks / (1.0 - blocks)
    sight = np.where(senders.guaranteed, PRIORITY_SIGHT, 1.0) * np.minimum(busy, 0.97)
    scheduling = SLOT_MS * sight / (1.0 - sight)
    interruption = 1000.0 * state.gap_s * np.minimum(1.0, 2.0 * state.gap_s + 0.1)
    core = senders.core_ms * np.exp(core_noise)
    mean = core + RADIO_MS + harq + scheduling + wait_ms + interruption
    mean = np.where(np.isnan(sinr), 1000.0 * np.maximum(state.out_for, 1), mean)
    noise = np.exp(jitter_noise)
    jitter = (0.3 + 0.4 * harq + 0.5 * scheduling + 0.1 * wait_ms + 0.3 * interruption) * noise
    return mean, np.where(np.isnan(sinr), np.nan, jitter)


def losses(packet_bits: Array, sinr: Array, flow: Flow, gap_s: Array) -> tuple[Ints, Array]:
    """Packets that a second sends, at least 1, and with which probability each is lost."""
    residual = 1e-5 + 0.10 / (1.0 + np.exp((np.nan_to_num(sinr, nan=-20.0) + 5.5) / 1.2))
    share = np.clip(residual + flow.dropped + 0.3 * gap_s, 0.0, 1.0)
    packets = np.maximum(1, np.rint(flow.sent_mbps * 1e6 / packet_bits)).astype(np.int64)
    return packets, share
