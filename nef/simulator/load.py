"""Background traffic of a cell: the hour of the day, slow drift, and bursts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WEEKEND_OFFICES, WEEKEND_HOMES = 0.3, 1.2

DRIFT_S = 90.0  # correlation time of the slow drift
BURST_EVERY_S = 75.0
BURST_LASTS_S = (6.0, 40.0)
USERS_AT_FULL_LOAD = 14.0


@dataclass(frozen=True)
class Background:
    """demand: wanted share of the PRBs, 0..1; users: UEs with data; ability: by which the rate of a
    cell is multiplied, 0 for one that serves nobody, or None. Each (ticks, waves, cells).
    """

    demand: Array
    users: Array
    ability: Array | None = None


def daily(hour: Array, business: Array) -> Array:
    """Mean demand 0..1 at an hour 0..24: offices peak at 11 and 15, homes at 20:30, 4 is quiet.

    business: share 0..1 of a cell's traffic that comes from offices; broadcast against hour.
    """

    def peak(at: float, width: float) -> Array:
        away = np.abs(hour - at)
        return np.asarray(np.exp(-0.5 * (np.minimum(away, 24.0 - away) / width) ** 2))

    offices = 0.9 * peak(11.0, 2.0) + peak(15.5, 2.0)
    homes = peak(20.5, 2.5) + 0.4 * peak(8.0, 1.5)
    return np.asarray(0.16 + 0.44 * (business * offices + (1.0 - business) * homes))


def weekly(weekday: Ints, business: Array) -> Array:
    """By which a day's demand differs from a working day's; weekday: 0 is Monday, 5 and 6 are the
    weekend, when offices are nearly empty and homes busier. 1 on working days.
    """
    weekend = WEEKEND_OFFICES * business + WEEKEND_HOMES * (1.0 - business)
    return np.where(weekday < 5, 1.0, weekend)


def background(
    hour: Array,
    cells: int,
    ticks: int,
    scale: float,
    random: np.random.Generator,
    weekday: Ints | None = None,
) -> Background:
    """Demand of `cells` cells over each wave; hour, weekday: (waves,) of the time a wave starts at;
    without weekdays every day is a working day.
    """
    waves = hour.size
    business, popularity = random.uniform(0.0, 1.0, cells), random.uniform(0.6, 1.5, cells)
    mean = scale * popularity * daily(hour[:, None], business[None, :])
    if weekday is not None:
        mean = mean * weekly(weekday[:, None], business[None, :])
    keep = np.exp(-1.0 / DRIFT_S)
    shape = (waves, cells)
    drift = random.standard_normal(shape)
    until, height = np.zeros(shape), np.zeros(shape)
    demand, users = np.empty((ticks, *shape)), np.empty((ticks, *shape))
    for tick in range(ticks):
        drift = keep * drift + np.sqrt(1.0 - keep**2) * random.standard_normal(shape)
        starts = (random.random(shape) < 1.0 / BURST_EVERY_S) & (until <= tick)
        until = np.where(starts, tick + random.uniform(*BURST_LASTS_S, shape), until)
        height = np.where(starts, random.uniform(0.15, 0.55, shape), height)
        burst = np.where(until > tick, height, 0.0)
        flicker = random.normal(0.0, 0.03, shape)
        demand[tick] = np.clip(mean * np.exp(0.35 * drift) + burst + flicker, 0.02, 1.0)
        users[tick] = random.poisson(USERS_AT_FULL_LOAD * demand[tick])
    return Background(demand, users)
