"""Sites on a hexagonal lattice, three sectors each, and the antenna pattern of a sector."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SECTORS = 3
PLMN = "00101"  # the test network, ITU-T E.212
REFERENCE = (50.7753, 6.0839)  # latitude, longitude in degrees of the local plane's origin
EARTH_RADIUS_M = 6_378_137.0  # WGS 84, equatorial
MAXIMUM_GAIN_DBI = 8.0  # 3GPP TR 38.901, table 7.3-1
BEAMWIDTH_DEG = 65.0
SIDE_LOBE_DB = 30.0
DOWNTILT_DEG = 8.0


@dataclass(frozen=True)
class Topology:
    """sites: (n, 2) east and north in m; of each cell its site, its azimuth in degrees, its id."""

    sites: Array
    cell_site: npt.NDArray[np.int64]
    azimuth_deg: Array
    cell_ids: tuple[str, ...]

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.cell_ids)

    @property
    def centre(self) -> Array:
        """Middle of the sites: east and north in m."""
        return np.asarray(self.sites.mean(axis=0), dtype=np.float64)


def lattice(sites: int, spacing_m: float) -> Array:
    """(sites, 2) east and north in m: the points of a triangular lattice nearest the origin."""
    reach = int(np.ceil(np.sqrt(sites))) + 1
    axis = np.arange(-reach, reach + 1)
    along, across = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    points = spacing_m * np.column_stack([along + across / 2.0, across * np.sqrt(3.0) / 2.0])
    distance = np.round(np.hypot(points[:, 0], points[:, 1]), 6)
    angle = np.round(np.arctan2(points[:, 1], points[:, 0]) % (2.0 * np.pi), 9)
    return points[np.lexsort((angle, distance))[:sites]]


def hexagonal(sites: int, spacing_m: float) -> Topology:
    """`sites` sites of three sectors that look to 30, 150 and 270 degrees from north."""
    cell_site = np.repeat(np.arange(sites), SECTORS)
    sector = np.tile(np.arange(SECTORS), sites)
    return Topology(
        sites=lattice(sites, spacing_m),
        cell_site=cell_site,
        azimuth_deg=30.0 + 120.0 * sector.astype(np.float64),
        cell_ids=tuple(
            cell_identity(int(site) + 1, int(number) + 1)
            for site, number in zip(cell_site, sector, strict=True)
        ),
    )


def cell_identity(gnb: int, cell: int) -> str:
    """NR cell global identity: PLMN and 36 bits in hex (3GPP TS 23.003, 19.6A), gNB id 24 bits."""
    return f"{PLMN}-{(gnb << 12) | cell:09x}"


def antenna_gain_db(azimuth_deg: Array, elevation_deg: Array) -> Array:
    """Gain in dBi of a sector towards a direction relative to its boresight (table 7.3-1).

    azimuth_deg: any angle, 0 is boresight; elevation_deg: downwards from the horizon.
    """
    off_azimuth = (azimuth_deg + 180.0) % 360.0 - 180.0
    horizontal = np.minimum(12.0 * (off_azimuth / BEAMWIDTH_DEG) ** 2, SIDE_LOBE_DB)
    vertical = np.minimum(
        12.0 * ((elevation_deg - DOWNTILT_DEG) / BEAMWIDTH_DEG) ** 2, SIDE_LOBE_DB
    )
    return np.asarray(MAXIMUM_GAIN_DBI - np.minimum(horizontal + vertical, SIDE_LOBE_DB))


def geographic(east_m: Array, north_m: Array) -> tuple[Array, Array]:
    """Latitude and longitude in degrees of points of the tangent plane at REFERENCE."""
    latitude = REFERENCE[0] + np.degrees(north_m / EARTH_RADIUS_M)
    parallel_m = EARTH_RADIUS_M * np.cos(np.radians(REFERENCE[0]))
    return latitude, REFERENCE[1] + np.degrees(east_m / parallel_m)


def plane(latitude_deg: Array, longitude_deg: Array) -> tuple[Array, Array]:
    """East and north in m on the tangent plane at REFERENCE: the inverse of `geographic`."""
    north = np.radians(latitude_deg - REFERENCE[0]) * EARTH_RADIUS_M
    parallel_m = EARTH_RADIUS_M * np.cos(np.radians(REFERENCE[0]))
    return np.radians(longitude_deg - REFERENCE[1]) * parallel_m, north
