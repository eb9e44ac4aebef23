"""Gaussian fields over the plane: what is the same whenever anybody comes by the same place."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STEP_M = 10.0


@dataclass(frozen=True)
class Fields:
    """maps: (fields, n, n) standard normal values on a periodic grid; origin: its corner in m."""

    maps: Array
    origin_m: Array
    step_m: float = STEP_M

    def at(self, east_m: Array, north_m: Array) -> Array:
        """(..., fields) bilinear values at places; the grid repeats beyond its edge."""
        size = self.maps.shape[1]
        x = (east_m - self.origin_m[0]) / self.step_m
        y = (north_m - self.origin_m[1]) / self.step_m
        column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        across, along = (x - column)[..., None], (y - row)[..., None]
        left, right = column % size, (column + 1) % size
        low, high = row % size, (row + 1) % size
        by_place = np.moveaxis(self.maps, 0, -1)
        return np.asarray(
            (1 - along) * ((1 - across) * by_place[low, left] + across * by_place[low, right])
            + along * ((1 - across) * by_place[high, left] + across * by_place[high, right])
        )


def gaussian_fields(
    count: int, decorrelation_m: float, extent_m: float, random: np.random.Generator
) -> Fields:
    """`count` independent fields with autocorrelation exp(-distance / decorrelation_m).

    Made by circulant embedding on a square of at least twice extent_m around the origin
    (exponential correlation: 3GPP TR 38.901, 7.4.4).
    """
    size = int(np.ceil(2.0 * extent_m / STEP_M))
    lag = np.minimum(np.arange(size), size - np.arange(size)) * STEP_M
    covariance = np.exp(-np.hypot(lag[:, None], lag[None, :]) / decorrelation_m)
    spectrum = np.maximum(np.fft.fft2(covariance).real, 0.0)
    white = random.standard_normal((count, size, size))
    maps = np.fft.ifft2(np.fft.fft2(white) * np.sqrt(spectrum)).real
    return Fields(maps=maps, origin_m=np.full(2, -extent_m))


def site_correlated(fields: Array, correlation: float = 0.5) -> Array:
    """(..., n) fields of n sites with this correlation, of (..., n + 1) independent ones.

    The last one is common to all (0.5 between sites, 1 within one: 3GPP TR 36.814, A.2.1.1).
    """
    common = np.sqrt(correlation) * fields[..., -1:]
    return np.asarray(np.sqrt(1.0 - correlation) * fields[..., :-1] + common)
