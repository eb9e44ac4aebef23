"""`simulate`: a whole seeded drive campaign as canonical tables."""

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator import impair, load, mobility, radio, services, topology, trace
from nef.simulator import tables as canonical
from nef.simulator.params import LEAD_IN_S, LONGEST, SHORTEST, STAGGER_S, SimulatorParams

Ints = npt.NDArray[np.int64]

_PARTS = ("plan", "mobility", "air", "load", "services", "network", "tables", "impair")


def simulate(params: SimulatorParams | None = None) -> dict[str, pl.DataFrame]:
    """All canonical tables of a campaign, with their late, double and faulty rows.

    ue_id is the raw SUPI. Rows in order of event time. The same params give the same bits.
    """
    params = params or SimulatorParams()
    return impair.impair(clean(params), params, _randoms(params)["impair"])


def clean(params: SimulatorParams) -> dict[str, pl.DataFrame]:
    """The campaign before anything is late, double or faulty: every row keeps its contract."""
    random = _randoms(params)
    network_plan = topology.hexagonal(params.sites, params.inter_site_m)
    sessions, names = plan(params, random["plan"])
    ticks, count = params.wave_ticks, sessions.wave.size
    radius = float(np.hypot(*(network_plan.sites - network_plan.centre).T).max())
    tracks = mobility.tracks(
        count, ticks, network_plan.centre, radius + 0.35 * params.inter_site_m, random["mobility"],
        params.mobility, mobility.trails_of(params),
    )  # fmt: skip
    air = radio.air(network_plan, tracks, params, random["air"])
    hour = (names.wave_us // canonical.SECOND_US % 86_400) / 3600.0
    background = load.background(hour, network_plan.cells, ticks, params.load, random["load"])
    asked = services.requests(sessions.profile, sessions.first, sessions.last, random["services"])
    offered = services.offered_mbps(asked, sessions.profile, ticks, random["services"])
    happened = trace.run(air, background, sessions, offered, params, random["network"])
    return canonical.tables(
        network_plan, tracks, air, sessions, happened, asked, names, random["tables"]
    )


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
        profile=services.choose(ue.size, random),
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
