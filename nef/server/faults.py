"""What is wrong with the network on purpose: when it is, and where in the simulator's terms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nef.server.ground import plane
from nef.server.inventory import Anomaly
from nef.simulator import anomalies, load, mobility, radio, topology

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Injected:
    """From second `first` until before second `end`; end None: for good."""

    asked: Anomaly
    first: int
    end: int | None

    def active(self, second: int) -> bool:
        """Whether it is felt in a second."""
        return self.first <= second and (self.end is None or second < self.end)


def injected(
    old: dict[str, Injected], asked: Iterable[Anomaly], second: int
) -> dict[str, Injected]:
    """By id; one that was there with the same content goes on, the others count from now."""
    found = {}
    for one in asked:
        was = old.get(one.anomaly_id)
        if was is not None and was.asked == one:
            found[one.anomaly_id] = was
            continue
        first = second + one.begins_in_s
        found[one.anomaly_id] = Injected(
            one, first, None if one.lasts_s is None else first + one.lasts_s
        )
    return found


def ended(before: dict[str, Injected], now: dict[str, Injected], second: int) -> list[Injected]:
    """Those that were felt and are no more in the scenario, with their end."""
    return [
        one if one.end is not None and one.end <= second else replace(one, end=second)
        for name, one in before.items()
        if now.get(name) is not one and one.first < second
    ]


def left(one: Injected, second: int) -> Anomaly | None:
    """As it would have to be asked for now to go on as it does; None: it is over."""
    if one.end is not None and one.end <= second:
        return None
    lasts = None if one.end is None else one.end - max(one.first, second)
    return one.asked.model_copy(
        update={"begins_in_s": max(one.first - second, 0), "lasts_s": lasts}
    )


def _now(
    all_: dict[str, Injected], second: int, plan: topology.Topology
) -> list[anomalies.Anomaly]:
    """What is active, for a stretch of one tick."""
    found = []
    for one in (each.asked for each in all_.values() if each.active(second)):
        made = anomalies.Anomaly(one.kind, wave=0, first=0, end=1, strength=one.strength_db)
        if one.cell_id is not None and one.kind in anomalies.CELLS:
            found.append(replace(made, cell=plan.cell_ids.index(one.cell_id)))
        elif one.latitude is not None and one.longitude is not None:
            east, north = plane(one.latitude, one.longitude)
            place = (float(east), float(north))
            found.append(replace(made, place_m=place, radius_m=one.radius_m))
    return found


def spoiled(
    all_: dict[str, Injected], second: int, plan: topology.Topology, tracks: mobility.Tracks,
    air: radio.Air, background: load.Background,
) -> tuple[radio.Air, load.Background, Array]:  # fmt: skip
    """Air and background of one second with what is wrong, and each UE's noise in mW."""
    count = air.received_mw.shape[1]
    wrong: Sequence[anomalies.Anomaly] = _now(all_, second, plan)
    if wrong:
        air = anomalies.spoil_air(air, tracks, np.zeros(count, dtype=np.int64), wrong)
        background = anomalies.spoil_background(background, wrong)
    noise = np.full(count, air.noise_mw)
    return air, background, noise if air.interference_mw is None else noise + air.interference_mw[0]
