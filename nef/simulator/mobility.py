"""How UEs move: static, linear, random waypoint and Manhattan, all sessions at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

KINDS = ("static", "linear", "waypoint", "manhattan")
MIX = (0.25, 0.25, 0.25, 0.25)
BLOCK_M = 100.0  # of the Manhattan grid
_SPEEDS_MPS = {"static": (0.0, 0.0), "linear": (8.0, 25.0), "waypoint": (0.8, 6.0)}
_SPEEDS_MPS["manhattan"] = (5.0, 14.0)


@dataclass(frozen=True)
class Tracks:
    """east_m, north_m, speed_mps: (ticks, sessions); kind: (sessions,) index into KINDS."""

    east_m: Array
    north_m: Array
    speed_mps: Array
    kind: npt.NDArray[np.int64]


def tracks(
    sessions: int, ticks: int, centre: Array, radius_m: float, random: np.random.Generator
) -> Tracks:
    """Positions each second within a disc; who reaches its rim is turned back into it."""
    kind = random.choice(len(KINDS), size=sessions, p=MIX)
    limits = np.array([_SPEEDS_MPS[name] for name in KINDS])[kind]
    cruise = random.uniform(limits[:, 0], limits[:, 1])
    reach = radius_m * np.sqrt(random.uniform(0.0, 0.9, sessions))
    bearing = random.uniform(0.0, 2.0 * np.pi, sessions)
    place = np.column_stack([reach * np.cos(bearing), reach * np.sin(bearing)])
    manhattan, waypoint = kind == 3, kind == 2
    place[manhattan] = np.round(place[manhattan] / BLOCK_M) * BLOCK_M
    heading = random.uniform(0.0, 2.0 * np.pi, sessions)
    heading[manhattan] = np.round(heading[manhattan] / (np.pi / 2)) * (np.pi / 2)
    to_go = np.where(manhattan, BLOCK_M, random.uniform(30.0, 200.0, sessions))
    stay = np.zeros(sessions)
    speed = cruise.copy()
    path, speeds = np.empty((ticks, sessions, 2)), np.empty((ticks, sessions))
    for tick in range(ticks):
        path[tick], moving = place, stay <= 0.0
        speed = np.clip(speed + random.normal(0.0, 0.05, sessions) * cruise, 0.0, 1.3 * cruise)
        speeds[tick] = np.where(moving, speed, 0.0)
        step = np.where(manhattan, np.minimum(speeds[tick], to_go), speeds[tick])
        place = place + step[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
        to_go, stay = to_go - step, stay - 1.0
        turn = random.uniform(0.0, 2.0 * np.pi, sessions)
        quarter = random.choice([-np.pi / 2, 0.0, 0.0, np.pi / 2], size=sessions)
        leg, pause = random.uniform(30.0, 200.0, sessions), random.uniform(0.0, 20.0, sessions)
        arrived = moving & (to_go <= 1e-9)
        at_crossing, at_waypoint = arrived & manhattan, arrived & waypoint
        heading = np.where(at_crossing, heading + quarter, heading)
        heading = np.where(at_waypoint, turn, heading)
        stay = np.where(at_waypoint | (at_crossing & (turn < 1.2)), pause, stay)  # a red light
        to_go = np.where(arrived, np.where(manhattan, BLOCK_M, leg), to_go)
        outward = (place * np.column_stack([np.cos(heading), np.sin(heading)])).sum(axis=1) > 0.0
        beyond = outward & (np.hypot(place[:, 0], place[:, 1]) > radius_m)
        back = np.arctan2(-place[:, 1], -place[:, 0]) + (turn - np.pi) / 3.0
        heading = np.where(beyond, np.where(manhattan, heading + np.pi, back), heading)
        to_go = np.where(beyond & manhattan & ~arrived, BLOCK_M - to_go, to_go)
    return Tracks(path[..., 0] + centre[0], path[..., 1] + centre[1], speeds, kind)
