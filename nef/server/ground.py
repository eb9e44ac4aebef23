"""What a UE's place, path and power come to: coupling with each cell, uplink, the way along a path."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nef.server.inventory import Path
from nef.simulator import handover, network, pathloss, radio, services, topology
from nef.simulator.fields import Fields, gaussian_fields, site_correlated
from nef.simulator.params import SimulatorParams
from nef.simulator.tables import UE_POWER_DBM
from schemas.five_qi import FIVE_QIS

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EXTENT_M = 2500.0
PROFILE_OF_5QI = {profile.five_qi: number for number, profile in enumerate(services.PROFILES)}


@dataclass
class Ground:
    """Shadows and sights of sites by gNB id; each depends on the seed and its id alone."""

    params: SimulatorParams
    sites: dict[str, tuple[Fields, Fields]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Draws what all sites share."""
        self.common = self._drawn("common", pathloss.DECORRELATION_M[self.params.scenario])

    def _drawn(self, name: str, decorrelation_m: float) -> Fields:
        key = int.from_bytes(name.encode(), "big")
        random = np.random.default_rng((self.params.seed, key, int(decorrelation_m)))
        return gaussian_fields(1, decorrelation_m, EXTENT_M, random)

    def site(self, gnb_id: str) -> tuple[Fields, Fields]:
        """Shadow and sight of a site, drawn when it is first asked for."""
        if gnb_id not in self.sites:
            shadow = self._drawn(gnb_id, pathloss.DECORRELATION_M[self.params.scenario])
            self.sites[gnb_id] = shadow, self._drawn(gnb_id + " sight", 50.0)
        return self.sites[gnb_id]

    def keep(self, gnbs: set[str]) -> None:
        """Forgets all other sites; asked for again they are the same."""
        self.sites = {name: fields for name, fields in self.sites.items() if name in gnbs}


def nearest_profile(five_qi: int) -> int:
    """The 5QI among the simulator's applications that is treated most alike."""
    if five_qi in PROFILE_OF_5QI:
        return five_qi
    asked = FIVE_QIS[five_qi]

    def distance(known: int) -> tuple[bool, float]:
        row = FIVE_QIS[known]
        budgets = np.log(row.packet_delay_budget_ms / asked.packet_delay_budget_ms)
        return row.resource_type != asked.resource_type, abs(float(budgets))

    return min(PROFILE_OF_5QI, key=distance)


def uplink(
    given: network.Given, profile: Ints, prbs: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Mbps and one-way ms of each UE's uplink, which its own power limits; NaN without a cell."""
    element = radio.CELL_POWER_DBM - 10.0 * np.log10(12.0 * prbs)
    level = UE_POWER_DBM - 10.0 * np.log10(12.0 * prbs / 4.0) + given.rsrp_dbm - element
    sinr = np.minimum(level - 10.0 * np.log10(radio.noise_mw()) - 6.0, 25.0)
    most = radio.EFFICIENCY[radio.cqi_of(sinr)] * prbs / 4.0 * radio.PRB_HZ / 1e6
    most = most * 0.25 * radio.USER_SHARE
    rate = np.minimum(services.column("uplink_ratio")[profile] * given.downlink_mbps, most)
    blocks = 0.08 + 0.6 / (1.0 + np.exp((sinr + 2.0) / 1.5))
    delay = services.column("core_ms")[profile] + 5.0 + 4.0 * blocks / (1.0 - blocks)
    noise = np.exp(random.normal(0.0, 0.15, delay.size))
    served = given.serving != handover.NOBODY
    return np.where(served, rate, 0.0), np.where(served, delay * noise, np.nan)


def coupling_db(
    ground: Ground, plan: topology.Topology, gnbs: list[str], east_m: Array, north_m: Array
) -> Array:
    """(ues, cells) antenna gain less path loss and shadowing, as `radio.coupling_db` has it."""
    scenario, carrier = ground.params.scenario, ground.params.carrier_ghz
    drawn = [ground.site(gnb) for gnb in gnbs]
    parts = [one[0].at(east_m, north_m) for one in drawn] + [ground.common.at(east_m, north_m)]
    shadows = np.concatenate(parts, axis=-1)
    sights = np.concatenate([one[1].at(east_m, north_m) for one in drawn], axis=-1)
    east, north = east_m[:, None] - plan.sites[:, 0], north_m[:, None] - plan.sites[:, 1]
    away = np.hypot(east, north)
    sight = pathloss.los_softness(away, sights, carrier, scenario)
    loss = sight * pathloss.los_path_loss_db(away, carrier, scenario)
    loss += (1.0 - sight) * pathloss.nlos_path_loss_db(away, carrier, scenario)
    sigma = sight * pathloss.SHADOW_LOS_DB[scenario]
    sigma += (1.0 - sight) * pathloss.SHADOW_NLOS_DB[scenario]
    loss += sigma * site_correlated(shadows)
    bearing = np.degrees(np.arctan2(east, north))[:, plan.cell_site]
    height = pathloss.BS_HEIGHT_M[scenario] - pathloss.UE_HEIGHT_M
    below = np.degrees(np.arctan2(height, away))[:, plan.cell_site]
    gain = topology.antenna_gain_db(bearing - plan.azimuth_deg, below)
    return np.asarray(gain - loss[:, plan.cell_site])


def plane(latitude: float, longitude: float) -> Array:
    east, north = topology.plane(np.array([latitude]), np.array([longitude]))
    return np.array([east[0], north[0]])


def way(path: Path) -> Array:
    """(points + 1, 3) m along the way, east, north."""
    places = np.array([plane(point.latitude, point.longitude) for point in path.points])
    places = np.vstack([places, places[:1]])
    steps = np.hypot(*np.diff(places, axis=0).T)
    return np.column_stack([np.concatenate([[0.0], np.cumsum(steps)]), places])


def along(way: Array, along_m: float) -> Array:
    where = along_m % way[-1, 0] if way[-1, 0] > 0 else 0.0
    return np.array([np.interp(where, way[:, 0], way[:, axis]) for axis in (1, 2)])
