"""The draws of one second of the network: made once, and the same for whoever asks what if."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import binom

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EXACT_BELOW = 12.0  # mean number of lost packets up to which their distribution is summed


@dataclass(frozen=True)
class Accesses:
    """lasts_s: seconds until a lost UE is back; usual_s, slow_s: a handover's interruption."""

    lasts_s: Ints
    usual_s: Array
    slow_s: Array

    def take(self, rows: Ints) -> "Accesses":
        """Those of some UEs."""
        return Accesses(self.lasts_s[rows], self.usual_s[rows], self.slow_s[rows])


class Chance(Protocol):
    """What one second draws, asked for in this order."""

    def grows(self) -> Array:
        """(ues,) 0..0.08: how much of its buffer a full-buffer sender adds."""
        ...

    def delays(self) -> tuple[Array, Array]:
        """(ues,) normal: logarithms of the core's delay and of the jitter about their medians."""
        ...

    def lost(self, packets: Ints, share: Array) -> Ints:
        """(ues,) how many of `packets` are lost, each with probability `share`."""
        ...

    def accesses(self) -> Accesses:
        """Interruptions, should there be any."""
        ...


@dataclass(frozen=True)
class Second:
    """Draws by rank: loss is the quantile, 0..1, of the number of lost packets."""

    grow: Array
    core: Array
    jitter: Array
    loss: Array
    access: Accesses

    def grows(self) -> Array:
        """See Chance."""
        return self.grow

    def delays(self) -> tuple[Array, Array]:
        """See Chance."""
        return self.core, self.jitter

    def lost(self, packets: Ints, share: Array) -> Ints:
        """See Chance."""
        return lost_at(self.loss, packets, share)

    def accesses(self) -> Accesses:
        """See Chance."""
        return self.access

    def take(self, rows: Ints) -> "Second":
        """The same draws for some UEs, any number of times each."""
        return Second(
            self.grow[rows], self.core[rows], self.jitter[rows], self.loss[rows],
            self.access.take(rows),
        )  # fmt: skip


@dataclass(frozen=True)
class Seconds:
    """Draws by rank of a stretch of time, each (ticks, ues)."""

    grow: Array
    core: Array
    jitter: Array
    loss: Array
    access: Accesses

    @classmethod
    def drawn(cls, ticks: int, ues: int, random: np.random.Generator) -> "Seconds":
        """All at once."""
        shape = (ticks, ues)
        return cls(
            random.uniform(0.0, 0.08, shape), random.normal(0.0, 0.1, shape),
            random.normal(0.0, 0.25, shape), random.random(shape), accesses(random, shape),
        )  # fmt: skip

    def at(self, tick: int) -> Second:
        """Those of one second."""
        access = self.access
        return Second(
            self.grow[tick], self.core[tick], self.jitter[tick], self.loss[tick],
            Accesses(access.lasts_s[tick], access.usual_s[tick], access.slow_s[tick]),
        )  # fmt: skip


class Drawn:
    """From one generator, one after the other; `again` gives what the last second drew."""

    def __init__(self, random: np.random.Generator, ues: int) -> None:
        self._random, self._ues = random, ues

    def grows(self) -> Array:
        """See Chance."""
        self._grow = self._random.uniform(0.0, 0.08, self._ues)
        return self._grow

    def delays(self) -> tuple[Array, Array]:
        """See Chance."""
        core = self._random.normal(0.0, 0.1, self._ues)
        self._delays = core, self._random.normal(0.0, 0.25, self._ues)
        return self._delays

    def lost(self, packets: Ints, share: Array) -> Ints:
        """See Chance."""
        lost = self._random.binomial(packets, share)
        self._losses = packets, share, lost
        return lost

    def accesses(self) -> Accesses:
        """See Chance."""
        self._access = accesses(self._random, self._ues)
        return self._access

    def again(self, within: Array) -> "Again":
        """The last second's draws. within: (ues,) 0..1, where in the step of the distribution of lost
        packets the quantile lies that was drawn: all that its count leaves open.
        """
        packets, share, count = self._losses
        return Again(self._grow, *self._delays, packets, share, count, within, self._access)


@dataclass(frozen=True)
class Again:
    """Draws that were made one after the other, for the same UEs under other circumstances."""

    grow: Array
    core: Array
    jitter: Array
    packets: Ints
    share: Array
    count: Ints
    within: Array
    access: Accesses

    def grows(self) -> Array:
        """See Chance."""
        return self.grow

    def delays(self) -> tuple[Array, Array]:
        """See Chance."""
        return self.core, self.jitter

    def lost(self, packets: Ints, share: Array) -> Ints:
        """As many as were lost, if nothing is otherwise; else the count of the same quantile."""
        other = np.flatnonzero((packets != self.packets) | (share != self.share))
        lost = self.count.copy()
        if other.size:
            n, p, k = self.packets[other], self.share[other], self.count[other]
            below, up_to = binom.cdf(k - 1, n, p), binom.cdf(k, n, p)
            rank = below + self.within[other] * (up_to - below)
            then = binom.ppf(np.clip(rank, 0.0, 1.0 - 1e-16), packets[other], share[other])
            # where ranks are too near for double precision, a greater share still loses no fewer
            same, more = packets[other] == n, share[other] > p
            then = np.where(same & more, np.maximum(then, k), then)
            lost[other] = np.where(same & ~more, np.minimum(then, k), then)
        return np.asarray(np.clip(lost, 0, packets))

    def accesses(self) -> Accesses:
        """See Chance."""
        return self.access

    def take(self, rows: Ints) -> "Again":
        """The same draws for some UEs, any number of times each."""
        return Again(
            self.grow[rows], self.core[rows], self.jitter[rows], self.packets[rows],
            self.share[rows], self.count[rows], self.within[rows], self.access.take(rows),
        )  # fmt: skip


def accesses(random: np.random.Generator, ues: int | tuple[int, int]) -> Accesses:
    """Two to four seconds less one for who is lost; 30 to 80 ms, or 200 to 700, for a handover."""
    lasts = random.integers(2, 5, ues)
    return Accesses(lasts, random.uniform(0.03, 0.08, ues), random.uniform(0.2, 0.7, ues))


def lost_at(rank: Array, packets: Ints, share: Array) -> Ints:
    """(n,) quantile `rank` of the number lost of `packets`: Poisson's if few, normal if many.

    The number of losses rises with rank and with share; never above packets.
    """
    mean = packets * share
    spread = np.sqrt(mean * (1.0 - share))
    lost = np.rint(mean + spread * ndtri(np.clip(rank, 1e-12, 1.0 - 1e-12)))
    few = np.flatnonzero(mean < EXACT_BELOW)
    if few.size:
        part = np.exp(-mean[few])
        up_to, number = part.copy(), np.zeros(few.size)
        for count in range(1, 60):
            more = rank[few] > up_to
            if not more.any():
                break
            number += more
            part = part * mean[few] / count
            up_to += part
        lost[few] = number
    return np.asarray(np.clip(lost, 0, packets).astype(np.int64))
