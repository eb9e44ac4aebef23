"""`simulate`: a whole seeded drive campaign as canonical tables."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator import (
    anomalies,
    chance,
    impair,
    load,
    mobility,
    network,
    radio,
    services,
    topology,
    trace,
)  # fmt: skip
from nef.simulator import tables as canonical
from nef.simulator.params import LEAD_IN_S, LONGEST, SHORTEST, STAGGER_S, SimulatorParams

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PARTS = ("plan", "mobility", "air", "load", "services", "network", "tables", "impair", "anomalies")


@dataclass(frozen=True)
class World:
    """All that a campaign's network meets and does not decide, anomalies included."""

    params: SimulatorParams
    topology: topology.Topology
    tracks: mobility.Tracks
    air: radio.Air
    background: load.Background
    sessions: trace.Sessions
    asked: services.Requests
    offered_mbps: Array
    names: canonical.Names
    wrong: tuple[anomalies.Anomaly, ...] = ()


def simulate(params: SimulatorParams | None = None) -> dict[str, pl.DataFrame]:
    """All canonical tables of a campaign, with their late, double and faulty rows.

    ue_id is the raw SUPI. Rows in order of event time. The same params give the same bits.
    """
    return simulate_labelled(params)[0]


def simulate_labelled(
    params: SimulatorParams | None = None,
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """The tables of `simulate`, and what went wrong when: a row for each anomaly and upgrade, with the
    columns of anomalies.LABELS; ue_id is the raw SUPI there too.
    """
    params = params or SimulatorParams()
    stage = world(params)
    reported = anomalies.misreport(_tables(stage), stage.wrong, stage.names)
    labels = anomalies.labels(stage.wrong, stage.topology, stage.names)
    return impair.impair(reported, params, _randoms(params)["impair"]), labels


def clean(params: SimulatorParams) -> dict[str, pl.DataFrame]:
    """The campaign before anything is late, double or faulty: every row keeps its contract."""
    return _tables(world(params))


def _tables(stage: World) -> dict[str, pl.DataFrame]:
    return canonical.tables(
        stage.topology, stage.tracks, stage.air, stage.sessions, play(stage), stage.asked,
        stage.names, _randoms(stage.params)["tables"],
    )  # fmt: skip


def world(params: SimulatorParams) -> World:
    """The campaign's places, air, load and wishes; the same params give the same bits."""
    random = _randoms(params)
    network_plan = topology.hexagonal(params.sites, params.inter_site_m)
    sessions, names = plan(params, random["plan"])
    ticks, count = params.wave_ticks, sessions.wave.size
    radius = float(np.hypot(*(network_plan.sites - network_plan.centre).T).max())
    tracks = mobility.tracks(
        count, ticks, network_plan.centre, radius + 0.35 * params.inter_site_m, random["mobility"],
        params.mobility, mobility.trails_of(params),
    )  # fmt: skip
    asked = services.requests(sessions.profile, sessions.first, sessions.last, random["services"])
    start_s = names.wave_us // canonical.SECOND_US
    hour, weekday = (
        start_s % 86_400 / 3600.0,
        (start_s // 86_400 + 3) % 7,
    )  # 1970 began on a Thursday
    air = radio.air(network_plan, tracks, params, random["air"])
    background = load.background(
        hour, network_plan.cells, ticks, params.load, random["load"], weekday
    )
    wrong = anomalies.planned(params, sessions, tracks, air, names, random["anomalies"])
    return World(
        params=params,
        topology=network_plan,
        tracks=tracks,
        air=anomalies.spoil_air(air, tracks, sessions.wave, wrong),
        background=anomalies.spoil_background(background, wrong),
        sessions=sessions,
        asked=asked,
        offered_mbps=services.offered_mbps(asked, sessions.profile, ticks, random["services"]),
        names=names,
        wrong=wrong,
    )


def play(
    stage: World,
    policy: trace.Policy | None = None,
    watch: Callable[[trace.Seen, network.State, Ints, chance.Drawn], None] | None = None,
) -> trace.Trace:
    """What happens in the world, by event A3 as its params have it or by another policy.

    watch: see trace.run; it is given the draws, too.
    """
    draws = chance.Drawn(_randoms(stage.params)["network"], stage.sessions.wave.size)
    _, waves, cells = stage.background.demand.shape
    running = trace.Running.fresh(stage.params, stage.sessions, waves, cells, policy)
    return trace.run(
        running, 0, stage.air, stage.background, stage.offered_mbps, lambda _: draws,
        None if watch is None else lambda seen, state, targets: watch(seen, state, targets, draws),
    )  # fmt: skip


def plan(
    params: SimulatorParams, random: np.random.Generator
) -> tuple[trace.Sessions, canonical.Names]:
    """Who has a session when: each UE one in every round of waves, in an order of its own."""
    rounds = [random.permutation(params.ues) for _ in range(params.sessions)]
    place = np.arange(params.ues) // params.concurrent
    ue = np.concatenate(rounds)
    wave = np.concatenate([place + number * params.groups for number in range(params.sessions)])
    first = LEAD_IN_S + random.integers(0, STAGGER_S, ue.size)
    length = np.rint(params.mean_session_s * random.uniform(SHORTEST, LONGEST, ue.size))
    start_us = int(params.start.timestamp()) * canonical.SECOND_US
    wave_us = start_us + np.arange(params.waves) * params.wave_spacing_s * canonical.SECOND_US
    sessions = trace.Sessions(
        wave=wave,
        profile=services.choose(ue.size, random, params.mmtc_share),
        first=first,
        last=np.maximum(first + length.astype(np.int64), first + 1),
    )
    number = np.empty(ue.size, dtype=np.int64)
    number[np.lexsort((first, wave))] = np.arange(1, ue.size + 1)
    return sessions, canonical.Names(
        wave_us=wave_us,
        phase_us=random.integers(0, 1000, ue.size) * 1000,
        ue_id=np.array([canonical.supi(int(one) + 1) for one in ue]),
        session_id=np.array([f"pdu-session-{one:06d}" for one in number]),
    )


def _randoms(params: SimulatorParams) -> dict[str, np.random.Generator]:
    """An independent stream for each part, so that a change to one leaves the others alone."""
    children = np.random.SeedSequence(params.seed).spawn(len(_PARTS))
    return {
        name: np.random.default_rng(child) for name, child in zip(_PARTS, children, strict=True)
    }
