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


@dataclass
class Demand:
    """The background between two stretches of time; each (waves, cells), but business and popularity
    (cells,): of a cell's traffic, what comes from offices, and how much there is.
    """

    business: Array
    popularity: Array
    drift: Array
    until: Array
    height: Array
    tick: int = 0

    @classmethod
    def fresh(cls, waves: int, cells: int, random: np.random.Generator) -> "Demand":
        """Before the first second."""
        business, popularity = random.uniform(0.0, 1.0, cells), random.uniform(0.6, 1.5, cells)
        shape = (waves, cells)
        return cls(
            business, popularity, random.standard_normal(shape), np.zeros(shape), np.zeros(shape)
        )

    def mean(self, scale: float, hour: Array, weekday: Ints | None = None) -> Array:
        """Expected demand at hours 0..24 of weekdays; (..., cells)."""
        season = scale * self.popularity * daily(hour[..., None], self.business)
        if weekday is not None:
            season = season * weekly(weekday[..., None], self.business)
        return np.asarray(season)

    def advance(self, mean: Array, ticks: int, random: np.random.Generator) -> Background:
        """The next `ticks` seconds about a mean of (waves, cells)."""
        shape = self.drift.shape
        keep = np.exp(-1.0 / DRIFT_S)
        demand, users = np.empty((ticks, *shape)), np.empty((ticks, *shape))
        for number in range(ticks):
            tick = self.tick + number
            self.drift = keep * self.drift + np.sqrt(1.0 - keep**2) * random.standard_normal(shape)
            starts = (random.random(shape) < 1.0 / BURST_EVERY_S) & (self.until <= tick)
            self.until = np.where(starts, tick + random.uniform(*BURST_LASTS_S, shape), self.until)
            self.height = np.where(starts, random.uniform(0.15, 0.55, shape), self.height)
            burst = np.where(self.until > tick, self.height, 0.0)
            flicker = random.normal(0.0, 0.03, shape)
            wanted = mean * np.exp(0.35 * self.drift) + burst + flicker
            demand[number] = np.clip(wanted, 0.02, 1.0)
            users[number] = random.poisson(USERS_AT_FULL_LOAD * demand[number])
        self.tick += ticks
        return Background(demand, users)


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
    made = Demand.fresh(hour.size, cells, random)
    return made.advance(made.mean(scale, hour, weekday), ticks, random)
