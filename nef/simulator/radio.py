"""From places to received power, and from received power to SINR, CQI and spectral efficiency."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nef.simulator import pathloss
from nef.simulator.fields import gaussian_fields, site_correlated
from nef.simulator.mobility import Tracks
from nef.simulator.params import SimulatorParams
from nef.simulator.topology import Topology, antenna_gain_db

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SUBCARRIER_HZ = 30_000.0
PRB_HZ = 12 * SUBCARRIER_HZ
GUARD = 0.95  # share of the carrier that PRBs fill, 3GPP TS 38.101-1, 5.3.2
CELL_POWER_DBM = 46.0
NOISE_FIGURE_DB = 7.0
THERMAL_DBM_HZ = -174.0
USER_SHARE = 0.75  # of resource elements, the rest is control and reference signals

# 3GPP TS 38.214, table 5.2.2.1-2, from CQI 0 on; the SINR at which each CQI holds its 10 % BLER
# is the usual AWGN fit.
EFFICIENCY = np.array(
    [0.0, 0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.9141,
     2.4063, 2.7305, 3.3223, 3.9023, 4.5234, 5.1152, 5.5547]
)  # fmt: skip
CQI_FROM_DB = np.array(
    [-6.7, -4.7, -2.3, 0.2, 2.4, 4.3, 5.9, 8.1, 10.3, 11.7, 14.1, 16.3, 18.7, 21.0, 22.7]
)


@dataclass(frozen=True)
class Air:
    """received_mw: mean power of a resource element, measured_dbm: the RSRP that a UE reports.

    Both (ticks, sessions, cells). noise_mw is that of one resource element; interference_mw: (ticks,
    sessions) what comes on top of it from outside the network, or None.
    """

    received_mw: Array
    measured_dbm: Array
    noise_mw: float
    prbs: int
    interference_mw: Array | None = None


def prb_count(bandwidth_mhz: float) -> int:
    """Resource blocks of 30 kHz subcarriers in a carrier (about TS 38.101-1, table 5.3.2-1)."""
    return max(1, int(GUARD * bandwidth_mhz * 1e6 / PRB_HZ))


def noise_mw() -> float:
    """Thermal noise of a resource element at the UE, in mW."""
    level = THERMAL_DBM_HZ + NOISE_FIGURE_DB + 10.0 * np.log10(SUBCARRIER_HZ)
    return float(10.0 ** (level / 10.0))


def air(
    topology: Topology, tracks: Tracks, params: SimulatorParams, random: np.random.Generator
) -> Air:
    """What every UE receives of every cell, before anybody decides who serves it."""
    power = CELL_POWER_DBM - 10.0 * np.log10(12 * prb_count(params.bandwidth_mhz))
    mean_dbm = power + coupling_db(topology, tracks, params, random)
    indoor = (tracks.kind == 0) & (random.random(tracks.kind.size) < 0.5)
    wall_db = np.where(indoor, random.uniform(6.0, 18.0, tracks.kind.size), 0.0)
    mean_dbm -= wall_db[None, :, None]
    fade = fading_db(mean_dbm.shape, tracks.speed_mps, random)
    # A UE reports layer-3 filtered RSRP: most of the fading is averaged out, an error comes in.
    reported = mean_dbm + 0.5 * fade + random.normal(0.0, 0.6, mean_dbm.shape)
    return Air(
        received_mw=10.0 ** ((mean_dbm + fade) / 10.0),
        measured_dbm=np.clip(reported, -156.0, -31.0),
        noise_mw=noise_mw(),
        prbs=prb_count(params.bandwidth_mhz),
    )


def coupling_db(
    topology: Topology, tracks: Tracks, params: SimulatorParams, random: np.random.Generator
) -> Array:
    """(ticks, sessions, cells) antenna gain less path loss and shadowing, in dB."""
    scenario, sites = params.scenario, len(topology.sites)
    extent = float(np.abs(topology.sites).max() + 3.0 * params.inter_site_m)
    decorrelation = pathloss.DECORRELATION_M[scenario]
    shadows = gaussian_fields(sites + 1, decorrelation, extent, random)
    sights = gaussian_fields(sites, 50.0, extent, random)  # TR 38.901, table 7.6.3.1-2: 50 m

    east = tracks.east_m[..., None] - topology.sites[:, 0]
    north = tracks.north_m[..., None] - topology.sites[:, 1]
    ground = np.hypot(east, north)
    in_sight = pathloss.los_softness(
        ground, sights.at(tracks.east_m, tracks.north_m), params.carrier_ghz, scenario
    )
    los = pathloss.los_path_loss_db(ground, params.carrier_ghz, scenario)
    nlos = pathloss.nlos_path_loss_db(ground, params.carrier_ghz, scenario)
    sigma = (
        in_sight * pathloss.SHADOW_LOS_DB[scenario]
        + (1.0 - in_sight) * pathloss.SHADOW_NLOS_DB[scenario]
    )
    shadow = sigma * site_correlated(shadows.at(tracks.east_m, tracks.north_m))
    site_db = in_sight * los + (1.0 - in_sight) * nlos + shadow

    bearing = np.degrees(np.arctan2(east, north))[..., topology.cell_site]
    height = pathloss.BS_HEIGHT_M[scenario] - pathloss.UE_HEIGHT_M
    below = np.degrees(np.arctan2(height, ground))[..., topology.cell_site]
    gain = antenna_gain_db(bearing - topology.azimuth_deg, below)
    return np.asarray(gain - site_db[..., topology.cell_site])


def fading_db(shape: tuple[int, ...], speed_mps: Array, random: np.random.Generator) -> Array:
    """Effective fading of a wideband carrier over one second: what averaging leaves of it, in dB.

    Autoregressive: a standing UE keeps its fade for seconds, a fast one averages over many.
    """
    keep = np.exp(-(0.15 + speed_mps / 2.0))[..., None]
    spread = (1.0 + 2.0 * np.exp(-speed_mps / 3.0))[..., None]
    fresh = random.standard_normal(shape)
    fade = np.empty(shape)
    state = fresh[0]
    for tick in range(shape[0]):
        if tick:
            state = keep[tick] * state + np.sqrt(1.0 - keep[tick] ** 2) * fresh[tick]
        fade[tick] = state
    return np.asarray(spread * fade)


def sinr_db(
    received_mw: Array, serving: Ints, load: Array, wave: Ints, noise: float | Array
) -> tuple[Array, Array]:
    """SINR in dB of each UE's serving cell, and the mean power in mW of a resource element.

    received_mw: (ues, cells); load: (waves, cells), 0..1, the share of elements a cell fills; wave:
    (ues,) which of these networks a UE is in.
    """
    every = np.arange(serving.size)
    wanted = received_mw[every, serving]
    if load.shape[0] == 1 and received_mw.dtype == np.float32:
        total = (received_mw @ load[0].astype(received_mw.dtype)).astype(np.float64)
    else:
        total = (received_mw * load[wave]).sum(axis=1)
    own = wanted * load[wave, serving]
    other = np.maximum(total - own, 0.0)
    return 10.0 * np.log10(wanted / (other + noise)), other + own + noise


def cqi_of(sinr: Array) -> Ints:
    """CQI 0..15 that a SINR in dB supports."""
    return np.searchsorted(CQI_FROM_DB, sinr, side="right")
