"""Conformalised quantile bands: p10 and p90 moved until the band holds what it promises.

After Romano, Patterson and Candes, "Conformalized quantile regression" (2019), in the asymmetric
form: each edge gets its own share of the misses. The scores come from sessions that the quantile
models did not learn from, and are taken apart by the width of the raw band, as
rows that the model is sure of miss in another way than those it is unsure of.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_ROWS = 200  # in a class of widths; fewer rows make fewer classes


@dataclass(frozen=True)
class Bands:
    """What is added to the edges, by class of the raw band's width, on the model's scale (asinh).

    edges: inner limits of the classes, ascending; low and high: one entry more than edges, the
    amounts by which p10 is lowered and p90 raised (negative: the band narrows). floor: 0 for a
    quantity that was never negative, so that it is not forecast negative; None: no floor.
    """

    coverage: float
    edges: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    floor: float | None = None


def fit_bands(raw: Floats, value: Floats, coverage: float, classes: int) -> Bands:
    """The amounts for raw quantiles (rows x 3) of unseen sessions and the values that came true.

    Both on the model's scale. Each edge misses (1 - coverage) / 2 of the rows of every class, with
    the finite-sample correction ceil((n + 1) level) / n.
    """
    classes = max(1, min(classes, len(value) // LEAST_ROWS))
    width = raw[:, 2] - raw[:, 0]
    edges = np.unique(np.quantile(width, np.arange(1, classes) / classes))
    place = np.searchsorted(edges, width, side="right")
    level = 1 - (1 - coverage) / 2
    low, high = [], []
    for number in range(len(edges) + 1):
        chosen = place == number
        chosen = chosen if chosen.any() else np.ones(len(value), dtype=bool)
        low.append(_upper_quantile(raw[chosen, 0] - value[chosen], level))
        high.append(_upper_quantile(value[chosen] - raw[chosen, 2], level))
    return Bands(
        coverage,
        tuple(float(e) for e in edges),
        tuple(low),
        tuple(high),
        0.0 if value.min() >= 0 else None,
    )


def adjusted(bands: Bands, raw: Floats) -> Floats:
    """Quantiles (rows x 3) that never cross: edges moved, then held on their side of the median."""
    place = np.searchsorted(np.array(bands.edges), raw[:, 2] - raw[:, 0], side="right")
    low = raw[:, 0] - np.array(bands.low)[place]
    high = raw[:, 2] + np.array(bands.high)[place]
    middle = raw[:, 1]
    moved = np.column_stack([np.minimum(low, middle), middle, np.maximum(high, middle)])
    return moved if bands.floor is None else np.maximum(moved, bands.floor)


def to_json(bands: Bands) -> dict[str, Any]:
    """Plain numbers that `from_json` reads back to equal bands."""
    return {
        "coverage": bands.coverage,
        "scale": "asinh",
        "edges": list(bands.edges),
        "low": list(bands.low),
        "high": list(bands.high),
        "floor": bands.floor,
    }


def from_json(content: dict[str, Any]) -> Bands:
    """The bands that `to_json` wrote."""
    return Bands(
        float(content["coverage"]),
        tuple(content["edges"]),
        tuple(content["low"]),
        tuple(content["high"]),
        content["floor"],
    )


def _upper_quantile(scores: Floats, level: float) -> float:
    rank = int(np.ceil((len(scores) + 1) * level))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])
