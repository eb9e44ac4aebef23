"""How UEs move: eight models, all UEs at once, in stretches of time as long as the caller likes."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from nef.simulator.params import MobilityMix, SimulatorParams
from nef.simulator.traces import Trail, read_trails

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KINDS = (
    "static", "linear", "waypoint", "manhattan", "l_shaped", "random_direction", "group", "trace",
)  # fmt: skip
STATIC, LINEAR, WAYPOINT, MANHATTAN, L_SHAPED, RANDOM_DIRECTION, GROUP, TRACE = range(len(KINDS))
BLOCK_M = 100.0  # of the Manhattan grid
GROUP_SIZE = 6
GROUP_REACH_M = 25.0  # of a member from the middle of its group
GROUP_MEMORY_S = 20.0
_SPEEDS_MPS = (
    (0.0, 0.0), (8.0, 25.0), (0.8, 6.0), (5.0, 14.0), (5.0, 20.0), (3.0, 15.0), (0.0, 0.0),
    (0.0, 0.0),
)  # fmt: skip


@dataclass(frozen=True)
class Tracks:
    """east_m, north_m, speed_mps: (ticks, sessions); kind: (sessions,) index into KINDS."""

    east_m: Array
    north_m: Array
    speed_mps: Array
    kind: Ints


@dataclass
class Walkers:
    """Where all are between two ticks; places relative to the middle of the disc they stay in.

    to_go: m left to the next turn; stay: s left of a pause; corner: who has yet to turn an L;
    middle: the walkers that the groups gather around, leader: (ues,) whose middle a UE follows.
    """

    radius_m: float
    kind: Ints
    cruise: Array
    place: Array
    heading: Array
    to_go: Array
    stay: Array
    speed: Array
    corner: npt.NDArray[np.bool_]
    more: np.random.Generator = field(repr=False)
    offset: Array | None = None
    leader: Ints | None = None
    middle: "Walkers | None" = None
    trails: tuple[Trail, ...] = ()
    trail: Ints | None = None
    since_s: Array | None = None


def tracks(
    sessions: int,
    ticks: int,
    centre: Array,
    radius_m: float,
    random: np.random.Generator,
    mix: MobilityMix | None = None,
    trails: tuple[Trail, ...] = (),
) -> Tracks:
    """Positions each second within a disc; who reaches its rim is turned back into it."""
    walkers = begin(sessions, radius_m, random, mix or MobilityMix(), trails)
    return moved(advance(walkers, ticks, random), centre)


def moved(made: Tracks, centre: Array) -> Tracks:
    """The same tracks about another middle (east, north in m)."""
    return replace(made, east_m=made.east_m + centre[0], north_m=made.north_m + centre[1])


def trails_of(params: SimulatorParams) -> tuple[Trail, ...]:
    """The recorded ways of params.trace_file; none if it names no file."""
    return read_trails(params.trace_file) if params.trace_file else ()


def begin(
    ues: int,
    radius_m: float,
    random: np.random.Generator,
    mix: MobilityMix,
    trails: tuple[Trail, ...] = (),
) -> Walkers:
    """Everybody's first place, kind and speed. `random` also makes a stream for rarer draws."""
    more = random.spawn(1)[0]
    kind = random.choice(len(KINDS), size=ues, p=mix.shares)
    limits = np.array(_SPEEDS_MPS)[kind]
    cruise = random.uniform(limits[:, 0], limits[:, 1])
    reach = radius_m * np.sqrt(random.uniform(0.0, 0.9, ues))
    bearing = random.uniform(0.0, 2.0 * np.pi, ues)
    place = np.column_stack([reach * np.cos(bearing), reach * np.sin(bearing)])
    manhattan, shaped = kind == MANHATTAN, kind == L_SHAPED
    place[manhattan] = np.round(place[manhattan] / BLOCK_M) * BLOCK_M
    heading = random.uniform(0.0, 2.0 * np.pi, ues)
    heading[manhattan] = np.round(heading[manhattan] / (np.pi / 2)) * (np.pi / 2)
    to_go = np.where(manhattan, BLOCK_M, random.uniform(30.0, 200.0, ues))
    to_go[shaped] = more.uniform(0.2, 0.8, int(shaped.sum())) * radius_m
    walkers = Walkers(
        radius_m, kind, cruise, place, heading, to_go, np.zeros(ues), cruise.copy(), shaped, more
    )
    _gather(walkers)
    if trails and (kind == TRACE).any():
        walkers.trails = trails
        walkers.trail = more.integers(0, len(trails), ues)
        lasts = np.array([trail.seconds for trail in trails])[walkers.trail]
        walkers.since_s = more.uniform(0.0, lasts)
    return walkers


def _gather(walkers: Walkers) -> None:
    members = np.flatnonzero(walkers.kind == GROUP)
    if not members.size:
        return
    groups = -(-members.size // GROUP_SIZE)
    inner = max(walkers.radius_m - GROUP_REACH_M, 1.0)
    walkers.middle = begin(groups, inner, walkers.more, MobilityMix.only("waypoint"))
    walkers.leader = np.zeros(walkers.kind.size, dtype=np.int64)
    walkers.leader[members] = np.arange(members.size) % groups
    walkers.offset = walkers.more.normal(0.0, GROUP_REACH_M / 3.0, (walkers.kind.size, 2))


def advance(walkers: Walkers, ticks: int, random: np.random.Generator) -> Tracks:
    """The next `ticks` seconds of everybody, about the origin; `walkers` is left at their end."""
    ues, w = walkers.kind.size, walkers
    manhattan, waypoint = w.kind == MANHATTAN, w.kind == WAYPOINT
    straight = w.kind == RANDOM_DIRECTION
    path, speeds = np.empty((ticks, ues, 2)), np.empty((ticks, ues))
    for tick in range(ticks):
        path[tick], moving = w.place, w.stay <= 0.0
        w.speed = np.clip(w.speed + random.normal(0.0, 0.05, ues) * w.cruise, 0.0, 1.3 * w.cruise)
        speeds[tick] = np.where(moving, w.speed, 0.0)
        step = np.where(manhattan, np.minimum(speeds[tick], w.to_go), speeds[tick])
        w.place = w.place + step[:, None] * _toward(w.heading)
        w.to_go, w.stay = w.to_go - step, w.stay - 1.0
        turn = random.uniform(0.0, 2.0 * np.pi, ues)
        quarter = random.choice([-np.pi / 2, 0.0, 0.0, np.pi / 2], size=ues)
        leg, pause = random.uniform(30.0, 200.0, ues), random.uniform(0.0, 20.0, ues)
        arrived = moving & (w.to_go <= 1e-9)
        at_crossing, at_waypoint, at_corner = (
            arrived & manhattan,
            arrived & waypoint,
            arrived & w.corner,
        )
        w.heading = np.where(at_crossing, w.heading + quarter, w.heading)
        w.heading = np.where(at_waypoint, turn, w.heading)
        w.heading = np.where(at_corner, w.heading + np.sign(turn - np.pi) * np.pi / 2, w.heading)
        w.corner = w.corner & ~at_corner
        red_light = at_crossing & (turn < 1.2)
        w.stay = np.where(at_waypoint | red_light, pause, w.stay)
        w.to_go = np.where(arrived, np.where(manhattan, BLOCK_M, leg), w.to_go)
        outward = (w.place * _toward(w.heading)).sum(axis=1) > 0.0
        beyond = outward & (np.hypot(w.place[:, 0], w.place[:, 1]) > w.radius_m)
        back = np.arctan2(-w.place[:, 1], -w.place[:, 0]) + (turn - np.pi) / 3.0
        w.heading = np.where(beyond, np.where(manhattan, w.heading + np.pi, back), w.heading)
        w.to_go = np.where(beyond & manhattan & ~arrived, BLOCK_M - w.to_go, w.to_go)
        at_rim = beyond & straight
        if at_rim.any():
            low, high = _SPEEDS_MPS[RANDOM_DIRECTION]
            w.stay = np.where(at_rim, pause, w.stay)
            w.cruise = np.where(at_rim, w.more.uniform(low, high, ues), w.cruise)
            w.speed = np.where(at_rim, w.cruise, w.speed)
    _follow_middles(w, path, speeds)
    _follow_trails(w, path, speeds)
    return Tracks(path[..., 0], path[..., 1], speeds, w.kind)


def _toward(heading: Array) -> Array:
    return np.column_stack([np.cos(heading), np.sin(heading)])


def _follow_middles(w: Walkers, path: Array, speeds: Array) -> None:
    """Groups: the middle's way and an offset that each member keeps for some time."""
    if w.middle is None or w.leader is None or w.offset is None:
        return
    members = np.flatnonzero(w.kind == GROUP)
    middle = advance(w.middle, path.shape[0], w.more)
    keep = np.exp(-1.0 / GROUP_MEMORY_S)
    around = np.column_stack([middle.east_m[-1], middle.north_m[-1]])
    for tick in range(path.shape[0]):
        around = np.column_stack([middle.east_m[tick], middle.north_m[tick]])
        path[tick, members] = around[w.leader[members]] + _within(w.offset[members])
        fresh = w.more.normal(0.0, GROUP_REACH_M / 3.0, w.offset.shape)
        w.offset = keep * w.offset + np.sqrt(1.0 - keep**2) * fresh
    w.place[members] = w.middle.place[w.leader[members]] + _within(w.offset[members])
    _speeds_of_steps(path, speeds, members, w.place)


def _within(offset: Array) -> Array:
    length = np.hypot(offset[:, 0], offset[:, 1])[:, None]
    return np.asarray(offset * np.minimum(1.0, GROUP_REACH_M / np.maximum(length, 1e-9)))


def _follow_trails(w: Walkers, path: Array, speeds: Array) -> None:
    """Recorded ways, to and fro, from the time in them that each UE has reached."""
    if w.trail is None or w.since_s is None:
        return
    ticks = path.shape[0]
    followers = np.flatnonzero(w.kind == TRACE)
    for ue in followers:
        at = w.trails[w.trail[ue]].at(w.since_s[ue] + np.arange(ticks + 1))
        path[:, ue], w.place[ue] = at[:-1], at[-1]
    w.since_s = w.since_s + ticks
    _speeds_of_steps(path, speeds, followers, w.place)


def _speeds_of_steps(path: Array, speeds: Array, who: Ints, then: Array) -> None:
    steps = np.diff(path[:, who], axis=0, append=then[None, who])
    speeds[:, who] = np.hypot(steps[..., 0], steps[..., 1])
