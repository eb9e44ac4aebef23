"""What applications want: one profile a 5QI, their requests, and the traffic they then offer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.five_qi import FIVE_QIS

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MEASURABLE_LOSS = 0.01  # no shorter window can tell a smaller share of lost packets
HOLD_TICKS = 12  # an application keeps offering what it asked for this long
REQUEST_EVERY_S = (5, 10)
HEADROOM = 1.25  # offered over requested


@dataclass(frozen=True)
class Profile:
    """A 5QI's traffic: requested downlink from low to high Mbps, its packets, its anchor's delay.

    uplink_ratio: uplink offered for each Mbps downlink; core_ms: one way from gNB to the anchor;
    buffer_ms: how long the sender lets data wait before it drops them.
    """

    five_qi: int
    share: float
    low_mbps: float
    high_mbps: float
    uplink_ratio: float
    packet_bytes: float
    core_ms: float
    buffer_ms: float
    full_buffer: bool = False


PROFILES = (
    Profile(1, 0.10, 0.05, 0.15, 1.0, 160, 12.0, 400.0),
    Profile(2, 0.17, 2.0, 9.0, 0.5, 1000, 12.0, 600.0),
    Profile(7, 0.20, 2.0, 12.0, 0.1, 1200, 8.0, 600.0),
    Profile(9, 0.28, 3.0, 40.0, 0.05, 1400, 10.0, 90.0, full_buffer=True),
    Profile(80, 0.15, 2.5, 14.0, 0.1, 1200, 1.5, 150.0),
    Profile(82, 0.10, 0.3, 2.0, 1.0, 250, 0.8, 100.0),
    Profile(10, 0.0, 0.01, 0.2, 3.0, 200, 15.0, 900.0),  # machines; as many as SimulatorParams says
)


def column(name: str) -> Array:
    """One attribute of all profiles as an array, to be indexed by the session's profile."""
    return np.array([float(getattr(profile, name)) for profile in PROFILES])


GUARANTEED = np.array([FIVE_QIS[p.five_qi].resource_type != "Non-GBR" for p in PROFILES])


@dataclass(frozen=True)
class Requests:
    """session, tick: (requests,) after which row it was made; after_s: 0..1 s later; mbps."""

    session: Ints
    tick: Ints
    after_s: Array
    mbps: Array

    def take(self, kept: npt.NDArray[np.bool_]) -> "Requests":
        """Some of them."""
        return Requests(self.session[kept], self.tick[kept], self.after_s[kept], self.mbps[kept])

    def then(self, others: "Requests") -> "Requests":
        """These and then others."""
        return Requests(
            np.concatenate([self.session, others.session]),
            np.concatenate([self.tick, others.tick]),
            np.concatenate([self.after_s, others.after_s]),
            np.concatenate([self.mbps, others.mbps]),
        )


def choose(sessions: int, random: np.random.Generator, mmtc_share: float = 0.0) -> Ints:
    """(sessions,) index into PROFILES; mmtc_share of them are machines, the last profile."""
    shares = column("share")
    shares = (1.0 - mmtc_share) * shares / shares.sum()
    shares[-1] += mmtc_share
    return random.choice(len(PROFILES), size=sessions, p=shares)


def requests(profile: Ints, first: Ints, last: Ints, random: np.random.Generator) -> Requests:
    """Every 5 to 10 s of each session a request; the wish of a session varies about its own mean.

    first, last: the ticks of a session's first row and of its last.
    """
    low, high = column("low_mbps")[profile], column("high_mbps")[profile]
    typical = np.exp(random.uniform(np.log(low), np.log(high)))
    most = int((last - first).max() // REQUEST_EVERY_S[0]) + 1
    gaps = random.integers(REQUEST_EVERY_S[0], REQUEST_EVERY_S[1] + 1, (profile.size, most))
    ticks = first[:, None] + np.cumsum(gaps, axis=1)
    wish = typical[:, None] * np.exp(random.normal(0.0, 0.4, ticks.shape))
    wish = np.clip(wish, 0.5 * low[:, None], 1.5 * high[:, None])
    after = random.uniform(0.05, 0.9, ticks.shape)
    session, number = np.nonzero(ticks < last[:, None])
    return Requests(session, ticks[session, number], after[session, number], wish[session, number])


def offered_mbps(asked: Requests, profile: Ints, ticks: int, random: np.random.Generator) -> Array:
    """(ticks, sessions) Mbps an application sends: a little over the most it asked for lately."""
    wanted = np.zeros((ticks, profile.size))
    for back in range(HOLD_TICKS):
        tick = np.minimum(asked.tick + 1 + back, ticks - 1)
        np.maximum.at(wanted, (tick, asked.session), asked.mbps)
    idle = 0.3 * column("low_mbps")[profile]
    variation = np.exp(random.normal(0.0, 0.08, wanted.shape))
    return np.asarray(HEADROOM * np.maximum(wanted, idle) * variation)


@dataclass
class Asking:
    """UEs that go on asking: typical_mbps of each, next: (ues,) tick of the next request; recent: the
    requests that still hold.
    """

    profile: Ints
    typical_mbps: Array
    next: Ints
    recent: Requests

    @classmethod
    def fresh(cls, profile: Ints, random: np.random.Generator) -> "Asking":
        """Everybody's first request comes within 10 s."""
        low, high = column("low_mbps")[profile], column("high_mbps")[profile]
        typical = np.exp(random.uniform(np.log(low), np.log(high)))
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        first = random.integers(0, REQUEST_EVERY_S[1] + 1, profile.size)
        return cls(profile, typical, first, Requests(none, none, nothing, nothing))

    def advance(
        self, start: int, ticks: int, random: np.random.Generator
    ) -> tuple[Requests, Array]:
        """The requests of a stretch of time, in order of their tick, and (ticks, ues) Mbps offered."""
        low, high = column("low_mbps")[self.profile], column("high_mbps")[self.profile]
        asked: list[tuple[Ints, Ints, Array, Array]] = []
        while (who := np.flatnonzero(self.next < start + ticks)).size:
            wish = self.typical_mbps[who] * np.exp(random.normal(0.0, 0.4, who.size))
            wish = np.clip(wish, 0.5 * low[who], 1.5 * high[who])
            asked.append((who, self.next[who], random.uniform(0.05, 0.9, who.size), wish))
            gaps = random.integers(REQUEST_EVERY_S[0], REQUEST_EVERY_S[1] + 1, who.size)
            self.next[who] += gaps
        session, tick, after, mbps = (
            np.concatenate(part) if part else np.zeros(0)
            for part in (zip(*asked, strict=True) if asked else [()] * 4)
        )
        order = np.lexsort((session, tick))
        fresh = Requests(
            session[order].astype(np.int64), tick[order].astype(np.int64), after[order], mbps[order]
        )
        held = self.recent.then(fresh)
        wanted = np.zeros((ticks, self.profile.size))
        for back in range(HOLD_TICKS):
            tick = held.tick + 1 + back - start
            here = (tick >= 0) & (tick < ticks)
            np.maximum.at(wanted, (tick[here], held.session[here]), held.mbps[here])
        kept = held.tick + HOLD_TICKS >= start + ticks
        self.recent = held.take(kept)
        variation = np.exp(random.normal(0.0, 0.08, wanted.shape))
        offered = HEADROOM * np.maximum(wanted, 0.3 * low) * variation
        return fresh, offered
