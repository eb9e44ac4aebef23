"""The network that the NEF stands before: the simulator's physics, a second at a time.

UEs, cells and paths may come and go between two seconds; what stays keeps its state.
"""

from collections import deque
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nef.server.faults import Injected, ended, injected, spoiled
from nef.server.ground import (
    PROFILE_OF_5QI,
    Ground,
    along,
    coupling_db,
    nearest_profile,
    plane,
    uplink,
    way,
)
from nef.server.inventory import Scenario, drawn_place
from nef.simulator import (
    chance,
    handover,
    load,
    mobility,
    network,
    radio,
    services,
    topology,
)  # fmt: skip
from nef.simulator.params import MobilityMix, SimulatorParams

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HOLD_S = 10  # event A3 leaves a UE alone so long after somebody else's decision


@dataclass(frozen=True)
class Sample:
    """What a UE got in one second of simulated time.

    cell: index, None without coverage; then delays, jitter, SINR, RSRP and RSRQ are None, loss_ratio
    is 1; load: share of the cell's resource blocks in use.
    """

    second: int
    cell_id: str | None
    gnb_id: str | None
    sinr_db: float | None
    rsrp_dbm: float | None
    rsrq_db: float | None
    load: float | None
    downlink_mbps: float
    uplink_mbps: float
    offered_mbps: float
    downlink_delay_ms: float | None
    uplink_delay_ms: float | None
    jitter_ms: float | None
    loss_ratio: float


@dataclass
class World:
    """Arrays are in the order of scenario.ues and scenario.cells; last: of the last second."""

    params: SimulatorParams
    scenario: Scenario
    automatic: bool = True
    second: int = 0
    random: np.random.Generator = field(repr=False, default_factory=np.random.default_rng)
    index: dict[str, int] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    handovers: int = 0
    state: network.State = field(init=False, repr=False)
    rule: handover.A3 = field(init=False, repr=False)
    holds: Ints = field(init=False, repr=False)
    asking: services.Asking = field(init=False, repr=False)
    along: dict[str, float] = field(init=False, repr=False)
    _middle: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Draws the ground and puts everybody in place."""
        self.random = np.random.default_rng(self.params.seed)
        self.ground = Ground(self.params)
        self.overrides: dict[str, int] = {}
        self.wrong: dict[str, Injected] = {}
        self.over: deque[Injected] = deque(maxlen=1000)
        self.walkers: mobility.Walkers | None = None
        self.measured: Array = np.zeros((0, 0))
        self.received: Array = np.zeros((0, 0))
        self.given: network.Given | None = None
        self.names: list[str] = []
        self._build(None)

    def change(self, scenario: Scenario) -> None:
        """Takes a new scenario; UEs whose cells are still there keep their place and state."""
        old, self.scenario = self.scenario, scenario
        self._build(old)

    def _build(self, old: Scenario | None) -> None:
        new = self.scenario
        gnbs, cells, ues = new.gnbs, new.cells, new.ues
        sites = np.zeros((len(gnbs), 2))
        for row, gnb in enumerate(gnbs):
            sites[row] = plane(gnb.latitude, gnb.longitude)
        number = {gnb.gnb_id: row for row, gnb in enumerate(gnbs)}
        place = np.array([number[cell.gnb_id] for cell in cells], dtype=np.int64)
        azimuth = np.array([cell.azimuth_deg for cell in cells], dtype=np.float64)
        self.plan = topology.Topology(sites, place, azimuth, tuple(c.cell_id for c in cells))
        felt, self.wrong = self.wrong, injected(self.wrong, new.anomalies, self.second)
        self.over.extend(ended(felt, self.wrong, self.second))
        self.ground.keep({gnb.gnb_id for gnb in gnbs})
        spread = np.hypot(*(sites - sites.mean(axis=0)).T).max() if len(gnbs) else 0.0
        self.radius_m = float(spread) + 0.35 * self.params.inter_site_m
        self.centre = sites.mean(axis=0) if len(gnbs) else np.zeros(2)
        same_cells = old is not None and old.cells == cells and old.gnbs == gnbs
        before = self.index if old is not None else {}
        self.names = [ue.supi for ue in ues]
        self.index = {name: row for row, name in enumerate(self.names)}
        rows = np.array([before.get(name, -1) for name in self.names], dtype=np.int64)
        self._place(old, rows)
        kept = (rows >= 0) & same_cells
        fresh = network.State.fresh(len(ues), 1, len(cells))
        if old is not None and kept.any():
            source = rows[kept]
            for one in fields(network.Flow):
                getattr(fresh.flow, one.name)[kept] = getattr(self.state.flow, one.name)[source]
            fresh.rate[kept] = self.state.rate[source]
            for name in ("serving", "before", "weak", "out", "out_for", "gap_s"):
                getattr(fresh.attached, name)[kept] = getattr(self.state.attached, name)[source]
        if same_cells:
            fresh.load = self.state.load
        else:
            draws = np.random.default_rng((self.params.seed, 7))
            self.demand = load.Demand.fresh(1, len(cells), draws)
        self.state = fresh
        self.begins = ~kept
        held = np.zeros((len(ues), len(cells)), dtype=np.int16)
        rule = handover.A3.fresh(
            len(ues), len(cells), self.params.hysteresis_db, self.params.time_to_trigger_s
        )
        if old is not None and kept.any():
            held[kept] = self.rule.held[rows[kept]]
            rule.serving[kept] = self.rule.serving[rows[kept]]
        self.rule = replace(rule, held=held)
        holds = np.full(len(ues), -1, dtype=np.int64)
        if old is not None and (rows >= 0).any():
            holds[rows >= 0] = self.holds[rows[rows >= 0]]
        self.holds = holds
        self.profile = np.array(
            [PROFILE_OF_5QI[self.overrides.get(ue.supi, ue.five_qi)] for ue in ues], dtype=np.int64
        )
        self.senders = network.Senders.of(np.zeros(len(ues), dtype=np.int64), self.profile)
        asking = services.Asking.fresh(self.profile, np.random.default_rng((self.params.seed, 8)))
        if old is not None and len(ues):
            same = (rows >= 0) & (self._asking_profile(rows) == self.profile)
            asking.typical_mbps[same] = self.asking.typical_mbps[rows[same]]
            asking.next += self.second
        self.asking = asking
        self.targets = np.full(len(ues), handover.STAY)
        self.fade: Array | None = None
        self.measured = np.full((len(ues), len(cells)), np.nan)
        self.samples = {n: s for n, s in self.samples.items() if n in self.index and same_cells}
        self.given = None

    def _asking_profile(self, rows: Ints) -> Ints:
        profile = self.asking.profile
        return profile[np.clip(rows, 0, max(profile.size - 1, 0))] if profile.size else rows

    def _place(self, old: Scenario | None, rows: Ints) -> None:
        """Walkers of all; who was there and is asked for no other place stays where it is."""
        ues, was = self.scenario.ues, {} if old is None else {u.supi: u for u in old.ues}
        before = self.walkers
        random = np.random.default_rng((self.params.seed, 9))
        walkers = mobility.begin(
            max(len(ues), 1), self.radius_m, random, MobilityMix.only("static")
        )
        for row, ue in enumerate(ues):
            kind = "static" if ue.mobility == "path" else ue.mobility
            own = np.random.default_rng((self.params.seed, int(ue.supi)))
            one = mobility.begin(1, self.radius_m, own, MobilityMix.only(kind))
            for name in _WALK:
                getattr(walkers, name)[row] = getattr(one, name)[0]
            past = was.get(ue.supi)
            if past is not None and before is not None:
                if past.mobility == ue.mobility:
                    for name in _WALK:
                        getattr(walkers, name)[row] = getattr(before, name)[rows[row]]
                walkers.place[row] = before.place[rows[row]] + self._middle - self.centre
            if past is None or (past.latitude, past.longitude) != (ue.latitude, ue.longitude):
                walkers.place[row] = (
                    drawn_place(ue, self.params.seed, self.radius_m)
                    if ue.latitude is None or ue.longitude is None
                    else plane(ue.latitude, ue.longitude) - self.centre
                )
        self._middle = self.centre
        self.walkers = walkers
        before_m: dict[str, float] = {} if old is None else self.along
        self.along = {name: before_m.get(name, 0.0) for name in self.index}
        self.paths = {path.path_id: way(path) for path in self.scenario.paths}
        self.moves = np.array([ue.moving for ue in ues], dtype=np.bool_)

    def override(self, supi: str, five_qi: int | None) -> None:
        """Gives a UE's traffic the treatment of another 5QI, or its own again."""
        nearest = None if five_qi is None else nearest_profile(five_qi)
        if nearest is None:
            self.overrides.pop(supi, None)
        else:
            self.overrides[supi] = nearest
        row = self.index.get(supi)
        if row is None:
            return
        ue = self.scenario.ues[row]
        self.profile[row] = PROFILE_OF_5QI[self.overrides.get(supi, ue.five_qi)]
        self.senders = network.Senders.of(self.senders.wave, self.profile)
        self.asking.profile = self.profile
        profile = services.PROFILES[self.profile[row]]
        self.asking.typical_mbps[row] = np.sqrt(profile.low_mbps * profile.high_mbps)

    def move_on(self) -> mobility.Tracks:
        """One second of everybody who moves."""
        assert self.walkers is not None
        walkers, count = self.walkers, len(self.names)
        kept = {name: getattr(walkers, name).copy() for name in _WALK}
        made = mobility.advance(walkers, 1, self.random)
        still = ~self.moves
        for name, values in kept.items():
            getattr(walkers, name)[:count][still] = values[:count][still]
        speed = np.where(self.moves, made.speed_mps[0, :count], 0.0)
        place = made.north_m[0, :count], made.east_m[0, :count]
        for row, ue in enumerate(self.scenario.ues):
            if ue.mobility == "path" and ue.path_id in self.paths:
                if self.moves[row]:
                    self.along[ue.supi] += ue.speed_mps
                    speed[row] = ue.speed_mps
                where = along(self.paths[ue.path_id], self.along[ue.supi]) - self.centre
                walkers.place[row] = where
                place[1][row], place[0][row] = where
        return mobility.Tracks(
            place[1][None] + self.centre[0], place[0][None] + self.centre[1], speed[None],
            walkers.kind[:count],
        )  # fmt: skip

    def air(self, tracks: mobility.Tracks) -> radio.Air:
        """What every UE receives of every cell."""
        gnbs = [gnb.gnb_id for gnb in self.scenario.gnbs]
        coupling = coupling_db(self.ground, self.plan, gnbs, tracks.east_m[0], tracks.north_m[0])
        mean = radio.CELL_POWER_DBM - 10.0 * np.log10(12.0 * self.prbs) + coupling
        speed = tracks.speed_mps[0][:, None]
        keep, spread = np.exp(-(0.15 + speed / 2.0)), 1.0 + 2.0 * np.exp(-speed / 3.0)
        fresh = self.random.standard_normal(mean.shape)
        if self.fade is not None:
            fresh = keep * self.fade + np.sqrt(1.0 - keep**2) * fresh
        self.fade = fresh
        error = self.random.normal(0.0, 0.6, mean.shape)
        reported = np.clip(mean + 0.5 * spread * fresh + error, -156.0, -31.0)
        received = 10.0 ** ((mean + spread * fresh) / 10.0)
        return radio.Air(received[None], reported[None], radio.noise_mw(), self.prbs)

    @property
    def prbs(self) -> int:
        """Resource blocks of a carrier."""
        return radio.prb_count(self.params.bandwidth_mhz)

    def step(self) -> None:
        """One second; afterwards `samples` tells what it gave everybody."""
        tick, count = self.second, len(self.names)
        self.second += 1
        if not count or not self.plan.cells:
            self.samples = {name: nothing(tick) for name in self.names}
            if count:
                self.move_on()
            return
        tracks = self.move_on()
        self.tracks = tracks
        air = self.air(tracks)
        seconds = int(self.params.start.timestamp()) + tick
        clock = np.array([seconds])
        mean = self.demand.mean(
            self.params.load, clock % 86_400 / 3600.0, (clock // 86_400 + 3) % 7
        )
        background = self.demand.advance(mean, 1, self.random)
        air, background, self.noise_mw = spoiled(
            self.wrong, tick, self.plan, tracks, air, background
        )
        _, offered = self.asking.advance(tick, 1, self.random)
        attached, rng = self.state.attached, self.random
        attached.events.clear()
        now = network.Now(
            air.received_mw[0], air.measured_dbm[0], offered[0], background.demand[0],
            background.users[0], self.noise_mw,
            None if background.ability is None else background.ability[0],
        )  # fmt: skip
        everybody = np.ones(count, dtype=np.bool_)
        handover.attach(attached, tick, now.measured_dbm, self.begins, ~everybody)
        draws = chance.Seconds.drawn(1, count, rng).at(0)
        given = network.second(
            self.state, self.senders, now, self.begins, everybody, self.prbs, self.params, draws
        )
        self.begins = np.zeros(count, dtype=np.bool_)
        self.given, self.measured, self.received = given, now.measured_dbm, now.received_mw
        self.offered = offered[0]
        self._write(tick, given)
        targets = self.rule.targets(attached.serving, now.measured_dbm)
        free = (self.holds < tick) & self.automatic
        targets = np.where(free, targets, handover.STAY)
        targets = np.where(self.targets != handover.STAY, self.targets, targets)
        self.targets = np.full(count, handover.STAY)
        handover.move(attached, tick, targets, given.sinr_db, draws.accesses())
        self.handovers += sum(len(e[2]) for e in attached.events if e[1] == "nr_handover")

    def _write(self, tick: int, given: network.Given) -> None:
        up, up_delay = uplink(given, self.profile, self.prbs, self.random)
        ids, gnbs = self.plan.cell_ids, self.scenario.cells
        for row, name in enumerate(self.names):
            cell = int(given.serving[row])
            if cell == handover.NOBODY:
                self.samples[name] = nothing(tick, float(self.offered[row]))
                continue
            self.samples[name] = Sample(
                second=tick, cell_id=ids[cell], gnb_id=gnbs[cell].gnb_id,
                sinr_db=float(given.sinr_db[row]), rsrp_dbm=float(given.rsrp_dbm[row]),
                rsrq_db=float(given.rsrq_db[row]), load=float(given.prb_used[0, cell]),
                downlink_mbps=float(given.downlink_mbps[row]), uplink_mbps=float(up[row]),
                offered_mbps=float(self.offered[row]),
                downlink_delay_ms=float(given.downlink_delay_ms[row]),
                uplink_delay_ms=float(up_delay[row]), jitter_ms=float(given.jitter_ms[row]),
                loss_ratio=float(given.loss[row]),
            )  # fmt: skip

    def cells_of(self, supi: str) -> list[dict[str, Any]]:
        """The cells that a UE hears, strongest first: RSRP, RSRQ, SINR if it served, load, users."""
        row, given = self.index[supi], self.given
        if given is None:
            return []
        level, use = self.received[row], self.state.load[0]
        noise = self.noise_mw[row]
        total = float((level * use).sum()) + noise
        sinr = 10.0 * np.log10(level / (total - level * use))
        rsrq = self.measured[row] - 10.0 * np.log10(12.0 * total)
        return [
            {
                "cell_id": self.plan.cell_ids[cell],
                "rsrp_dbm": round(float(self.measured[row, cell]), 2),
                "rsrq_db": round(float(np.clip(rsrq[cell], -43.0, 20.0)), 2),
                "sinr_db": round(float(np.clip(sinr[cell], -23.0, 40.0)), 2),
                "prb_used_ratio": round(float(given.prb_used[0, cell]), 4),
                "active_ue_count": int(given.users[0, cell]),
            }
            for cell in np.argsort(-self.measured[row], kind="stable")
            if self.measured[row, cell] >= handover.DETECTABLE_DBM
        ]

    def place(self, supi: str) -> tuple[float, float, float]:
        """Latitude and longitude in degrees, and m/s."""
        assert self.walkers is not None
        row = self.index[supi]
        here = self.walkers.place[row] + self.centre
        latitude, longitude = topology.geographic(here[:1], here[1:])
        speed = float(self.tracks.speed_mps[0, row]) if self.given is not None else 0.0
        return float(latitude[0]), float(longitude[0]), speed

    def hand_over(self, supi: str, cell_id: str) -> None:
        """Sends a UE to a cell at the end of the next second; event A3 then leaves it alone."""
        row = self.index[supi]
        self.targets[row] = self.plan.cell_ids.index(cell_id)
        self.holds[row] = self.second + HOLD_S

    def stay(self, supi: str) -> None:
        """Event A3 leaves a UE alone for a while: somebody else decided that it stays."""
        self.holds[self.index[supi]] = self.second + HOLD_S

    def a3_target(self, supi: str) -> str | None:
        """Where event A3 would send a UE now; None: nowhere."""
        row = self.index[supi]
        if self.given is None or self.state.attached.serving[row] == handover.NOBODY:
            return None
        ripe = self.rule.held[row] > self.rule.time_to_trigger_s
        if not ripe.any() or self.rule.serving[row] != self.state.attached.serving[row]:
            return None
        return self.plan.cell_ids[int(np.where(ripe, self.measured[row], -np.inf).argmax())]


_WALK = ("kind", "cruise", "place", "heading", "to_go", "stay", "speed", "corner")


def nothing(second: int, offered_mbps: float = 0.0) -> Sample:
    """A second without coverage."""
    return Sample(
        second, None, None, None, None, None, None, 0.0, 0.0, offered_mbps, None, None, None, 1.0
    )
