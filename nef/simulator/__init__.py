"""The seeded radio network that stands in for a real one; imports schemas only."""

from nef.simulator.campaign import simulate, simulate_labelled
from nef.simulator.params import SimulatorParams

__all__ = ["SimulatorParams", "simulate", "simulate_labelled"]
