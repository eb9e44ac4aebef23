"""Coupling of many UEs with many cells by lookup, in single precision: for networks of a city's size.

What depends on the distance alone is kept by the quarter of a metre, and the fields of shadows and
sights of all sites lie side by side, so that a UE's place is looked up once for all cells.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nef.simulator import pathloss, radio
from nef.simulator.fields import STEP_M, gaussian_fields, site_correlated
from nef.simulator.mobility import STATIC, Tracks
from nef.simulator.params import SimulatorParams
from nef.simulator.topology import (
    BEAMWIDTH_DEG,
    DOWNTILT_DEG,
    MAXIMUM_GAIN_DBI,
    SECTORS,
    SIDE_LOBE_DB,
    Topology,
)  # fmt: skip

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

RING_M = 0.25
DB_TO_LOG2 = np.float32(np.log2(10.0) / 10.0)


@dataclass(frozen=True)
class Ground:
    """rings: (distance, 4) loss in sight and without, threshold of sight, loss by elevation; fields:
    (n * n, 2 * sites) shadow and sight of every site on a periodic grid of n by n points.
    """

    topology: Topology
    scenario: pathloss.Scenario
    rings: Singles
    fields: Singles
    size: int
    origin_m: float
    steep: float
    power_dbm: float
    prbs: int

    @classmethod
    def made(
        cls, topology: Topology, params: SimulatorParams, random: np.random.Generator
    ) -> "Ground":
        """Draws the fields; they have the same distribution as those of `radio.coupling_db`."""
        scenario, sites = params.scenario, len(topology.sites)
        extent = float(np.abs(topology.sites).max() + 3.0 * params.inter_site_m)
        shadows = gaussian_fields(sites + 1, pathloss.DECORRELATION_M[scenario], extent, random)
        sights = gaussian_fields(sites, 50.0, extent, random)
        shadow = site_correlated(np.moveaxis(shadows.maps, 0, -1))
        both = np.concatenate([shadow, np.moveaxis(sights.maps, 0, -1)], axis=-1)
        prbs = radio.prb_count(params.bandwidth_mhz)
        wavelength_m = pathloss.LIGHT_MPS / (params.carrier_ghz * 1e9)
        return cls(
            topology=topology,
            scenario=scenario,
            rings=rings(4.0 * extent, params.carrier_ghz, scenario),
            fields=np.ascontiguousarray(both.reshape(-1, 2 * sites), dtype=np.float32),
            size=both.shape[0],
            origin_m=-extent,
            steep=float(np.sqrt(20.0 / wavelength_m)),
            power_dbm=radio.CELL_POWER_DBM - 10.0 * float(np.log10(12 * prbs)),
            prbs=prbs,
        )

    def at(self, east_m: Singles, north_m: Singles) -> Singles:
        """(..., 2 * sites) bilinear values of the fields at places of one dimension or more."""
        x, y = (east_m - self.origin_m) / STEP_M, (north_m - self.origin_m) / STEP_M
        column, row = np.floor(x), np.floor(y)
        across, along = (x - column)[..., None], (y - row)[..., None]
        left, low = column.astype(np.int64) % self.size, row.astype(np.int64) % self.size
        right, high = (left + 1) % self.size, (low + 1) % self.size
        near = self._row(low, left) + across * (self._row(low, right) - self._row(low, left))
        far = self._row(high, left) + across * (self._row(high, right) - self._row(high, left))
        return np.asarray(near + along * (far - near))

    def _row(self, row: npt.NDArray[np.int64], column: npt.NDArray[np.int64]) -> Singles:
        return np.asarray(np.take(self.fields, row * self.size + column, axis=0))

    def mean_dbm(self, tracks: Tracks, wall_db: Singles) -> Singles:
        """(ticks, ues, cells) power of a resource element before fading; wall_db: (ues,)."""
        east, north = tracks.east_m.astype(np.float32), tracks.north_m.astype(np.float32)
        sites = len(self.topology.sites)
        place = self.topology.sites.astype(np.float32)
        values = self.at(east, north)
        x, y = east[..., None] - place[:, 0], north[..., None] - place[:, 1]
        ground = np.sqrt(x * x + y * y)
        ring = np.minimum(ground * np.float32(1.0 / RING_M), len(self.rings) - 1).astype(np.int32)
        los, nlos, threshold, vertical = np.moveaxis(np.take(self.rings, ring, axis=0), -1, 0)
        sight = np.arctan(np.float32(self.steep) * (values[..., sites:] + threshold))
        sight = sight * np.float32(1.0 / np.pi) + np.float32(0.5)
        low = np.float32(pathloss.SHADOW_NLOS_DB[self.scenario])
        gain = np.float32(pathloss.SHADOW_LOS_DB[self.scenario]) - low
        loss = nlos + sight * (los - nlos) + (low + sight * gain) * values[..., :sites]
        level = np.float32(self.power_dbm + MAXIMUM_GAIN_DBI) - loss - wall_db[:, None]
        bearing = np.arctan2(x, y) * np.float32(180.0 / np.pi)
        azimuth = self.topology.azimuth_deg[:SECTORS].astype(np.float32)
        off = bearing[..., None] - azimuth
        off -= np.float32(360.0) * np.rint(off * np.float32(1.0 / 360.0))
        off *= off
        off *= np.float32(12.0 / BEAMWIDTH_DEG**2)
        np.minimum(off, np.float32(SIDE_LOBE_DB), out=off)
        off += vertical[..., None]
        np.minimum(off, np.float32(SIDE_LOBE_DB), out=off)
        np.subtract(level[..., None], off, out=off)
        return np.asarray(off.reshape(*east.shape, SECTORS * sites))

    def walls_db(self, kind: npt.NDArray[np.int64], random: np.random.Generator) -> Singles:
        """(ues,) loss of who stands still and is indoors: half of them."""
        indoor = (kind == STATIC) & (random.random(kind.size) < 0.5)
        return np.where(indoor, random.uniform(6.0, 18.0, kind.size), 0.0).astype(np.float32)

    def air(
        self, tracks: Tracks, wall_db: Singles, fade: Singles | None, random: np.random.Generator
    ) -> tuple[radio.Air, Singles]:
        """The air of a stretch of time, and the fading that it ends with, for the next one's `fade`."""
        mean = self.mean_dbm(tracks, wall_db)
        speed = tracks.speed_mps.astype(np.float32)[..., None]
        keep = np.exp(-(np.float32(0.15) + speed / 2))
        rest = np.sqrt(1 - keep * keep)
        spread = 1 + 2 * np.exp(-speed / 3)
        fresh = random.standard_normal(mean.shape, dtype=np.float32)
        measured = random.standard_normal(mean.shape, dtype=np.float32)
        measured *= np.float32(0.6)
        measured += mean
        for tick in range(mean.shape[0]):
            state = fresh[tick]
            if fade is not None:
                state *= rest[tick]
                fade *= keep[tick]
                state += fade
            fade = state.copy()
            state *= spread[tick]
            measured[tick] += np.float32(0.5) * state
        assert fade is not None
        mean += fresh
        mean *= DB_TO_LOG2
        received = np.exp2(mean, out=mean)
        np.clip(measured, -156.0, -31.0, out=measured)
        return radio.Air(received, measured, radio.noise_mw(), self.prbs), fade  # type: ignore[arg-type]


def rings(reach_m: float, carrier_ghz: float, scenario: pathloss.Scenario) -> Singles:
    """What depends on the distance alone, at the middle of each ring of RING_M."""
    ground: Array = (np.arange(int(reach_m / RING_M), dtype=np.float64) + 0.5) * RING_M
    sight = pathloss.sight_threshold(ground, scenario)
    height = pathloss.BS_HEIGHT_M[scenario] - pathloss.UE_HEIGHT_M
    below = np.degrees(np.arctan2(height, ground)) - DOWNTILT_DEG
    return np.column_stack(
        [
            pathloss.los_path_loss_db(ground, carrier_ghz, scenario),
            pathloss.nlos_path_loss_db(ground, carrier_ghz, scenario),
            sight,
            np.minimum(12.0 * (below / BEAMWIDTH_DEG) ** 2, SIDE_LOBE_DB),
        ]
    ).astype(np.float32)
