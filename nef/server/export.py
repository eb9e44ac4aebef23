"""The network as it is now, so that it can be taken up again as it is."""

from nef.server.faults import left
from nef.server.inventory import Scenario, Ue
from nef.server.world import World


def scenario_now(world: World) -> Scenario:
    """The scenario with everybody where they are now, and what is left of what is wrong."""
    wrong = [left(one, world.second) for one in world.wrong.values()]
    return world.scenario.model_copy(
        update={
            "ues": [_placed(world, ue) for ue in world.scenario.ues],
            "anomalies": [one for one in wrong if one is not None],
        }
    )


def _placed(world: World, ue: Ue) -> Ue:
    latitude, longitude, _ = world.place(ue.supi)
    fits = abs(latitude) <= 80 and abs(longitude) <= 180
    return ue.model_copy(update={"latitude": latitude, "longitude": longitude}) if fits else ue
