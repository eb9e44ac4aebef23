"""One network that runs on, stretch by stretch of time, with every UE in it: bounded memory, fast.

Nothing of what a stretch brings (ways, air, load, wishes, draws) depends on what the network or a
policy does, so that any two policies meet the same city, and the next stretch is made while the last
one runs.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from nef.simulator import anomalies, chance, load, mobility, radio, services, topology, trace
from nef.simulator.ground import Ground
from nef.simulator.params import SimulatorParams
from schemas.errors import QosError

Array = npt.NDArray[np.float64]

STRETCH_S = 32
_PARTS = ("plan", "mobility", "ground", "air", "load", "services", "network")


def city_params(ues: int, sites: int, seconds: int, **others: object) -> SimulatorParams:
    """Params of a city: one wave, one session of each UE, over all the time."""
    fixed = {"concurrent": ues, "sessions": 1, "minutes": seconds / 60.0}
    return SimulatorParams(ues=ues, sites=sites, **(fixed | others))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stretch:
    """Some seconds of a city from tick `first` on; asked: with ticks from the very beginning."""

    first: int
    tracks: mobility.Tracks
    air: radio.Air
    background: load.Background
    asked: services.Requests
    offered_mbps: Array
    chances: chance.Seconds


# Who goes where after a second of a stretch: (ues,) cell, or handover.STAY.
Policy = Callable[[Stretch, trace.Seen], npt.NDArray[np.int64]]


def stretches(params: SimulatorParams, seconds: int, length: int = STRETCH_S) -> Iterator[Stretch]:
    """A city's stretches of time, in order; the same params and length give the same bits.

    Of params, those of waves and sessions and of late, double and faulty rows do not matter here.
    """
    if min(seconds, length) < 1:
        raise QosError(f"city: {seconds} s in stretches of {length} s, both must be at least 1")
    children = np.random.SeedSequence(params.seed).spawn(len(_PARTS))
    random = {
        name: np.random.default_rng(np.random.SFC64(child))
        for name, child in zip(_PARTS, children, strict=True)
    }
    plan = topology.hexagonal(params.sites, params.inter_site_m)
    ground = Ground.made(plan, params, random["ground"])
    radius = float(np.hypot(*(plan.sites - plan.centre).T).max()) + 0.35 * params.inter_site_m
    trails = mobility.trails_of(params)
    walkers = mobility.begin(params.ues, radius, random["mobility"], params.mobility, trails)
    walls = ground.walls_db(walkers.kind, random["air"])
    demand = load.Demand.fresh(1, plan.cells, random["load"])
    asking = services.Asking.fresh(profiles(params), random["services"])
    start_s, fade = int(params.start.timestamp()), None
    for first in range(0, seconds, length):
        ticks = min(length, seconds - first)
        tracks = mobility.moved(mobility.advance(walkers, ticks, random["mobility"]), plan.centre)
        air, fade = ground.air(tracks, walls, fade, random["air"])
        time = np.array([start_s + first])
        mean = demand.mean(params.load, time % 86_400 / 3600.0, (time // 86_400 + 3) % 7)
        asked, offered = asking.advance(first, ticks, random["services"])
        yield Stretch(
            first, tracks, air, demand.advance(mean, ticks, random["load"]), asked, offered,
            chance.Seconds.drawn(ticks, params.ues, random["network"]),
        )  # fmt: skip


def profiles(params: SimulatorParams) -> npt.NDArray[np.int64]:
    """(ues,) index into services.PROFILES."""
    random = np.random.default_rng((params.seed, len(_PARTS)))
    return services.choose(params.ues, random, params.mmtc_share)


def play(
    params: SimulatorParams,
    seconds: int,
    policy: Policy | None = None,
    length: int = STRETCH_S,
    wrong: tuple[anomalies.Anomaly, ...] = (),
) -> Iterator[tuple[Stretch, trace.Trace]]:
    """What happens in a city, by event A3 as params have it or by another policy.

    wrong: anomalies and upgrades of wave 0, with ticks from the very beginning; not those of reports.
    """
    count, cells = params.ues, params.sites * topology.SECTORS
    zeros = np.zeros(count, dtype=np.int64)
    sessions = trace.Sessions(zeros, profiles(params), zeros, zeros + seconds + 1)  # nobody leaves
    running = trace.Running.fresh(params, sessions, 1, cells)
    made = stretches(params, seconds, length)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(next, made, None)
        while (one := coming.result()) is not None:
            coming = ahead.submit(next, made, None)
            if wrong:
                one = _spoilt(one, wrong, zeros)
            if policy is not None:
                running.policy = partial(policy, one)
            happened = trace.run(
                running, one.first, one.air, one.background, one.offered_mbps, one.chances.at
            )
            yield one, happened


def _spoilt(
    one: Stretch, wrong: tuple[anomalies.Anomaly, ...], wave: npt.NDArray[np.int64]
) -> Stretch:
    ticks = one.offered_mbps.shape[0]
    here = [
        replace(each, first=each.first - one.first, end=each.end - one.first)
        for each in wrong
        if each.first < one.first + ticks and each.end > one.first
    ]
    return replace(
        one,
        air=anomalies.spoil_air(one.air, one.tracks, wave, here),
        background=anomalies.spoil_background(one.background, here),
    )
