"""Path loss and line of sight of 3GPP TR 38.901, 7.4, over NumPy arrays."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import erfinv

Array = npt.NDArray[np.float64]
Scenario = Literal["UMa", "UMi"]

LIGHT_MPS = 3.0e8  # as TR 38.901 has it
UE_HEIGHT_M = 1.5
BS_HEIGHT_M = {"UMa": 25.0, "UMi": 10.0}  # table 7.2-1
SHADOW_LOS_DB = {"UMa": 4.0, "UMi": 4.0}  # table 7.4.1-1
SHADOW_NLOS_DB = {"UMa": 6.0, "UMi": 7.82}
DECORRELATION_M = {"UMa": 50.0, "UMi": 13.0}  # table 7.5-6, NLOS
_ENVIRONMENT_HEIGHT_M = 1.0  # table 7.4.1-1, note 1, for UEs below 13 m
_NEAREST_M = 10.0  # the formulas' lower bound of d2D


def slant_m(ground_m: Array, scenario: Scenario) -> Array:
    """Distance from antenna to UE in m (d3D) for a ground distance in m (d2D)."""
    return np.hypot(np.maximum(ground_m, _NEAREST_M), BS_HEIGHT_M[scenario] - UE_HEIGHT_M)


def los_path_loss_db(ground_m: Array, carrier_ghz: float, scenario: Scenario) -> Array:
    """Median path loss in dB in line of sight (TR 38.901, table 7.4.1-1); two slopes."""
    height = BS_HEIGHT_M[scenario]
    slant = slant_m(ground_m, scenario)
    breakpoint_m = (
        4
        * (height - _ENVIRONMENT_HEIGHT_M)
        * (UE_HEIGHT_M - _ENVIRONMENT_HEIGHT_M)
        * carrier_ghz
        * 1e9
        / LIGHT_MPS
    )
    constant, slope, correction = (28.0, 22.0, 9.0) if scenario == "UMa" else (32.4, 21.0, 9.5)
    distance_term = np.log10(slant)
    near = constant + slope * distance_term
    far = (
        constant
        + 40.0 * distance_term
        - correction * np.log10(breakpoint_m**2 + (height - UE_HEIGHT_M) ** 2)
    )
    slopes = np.where(ground_m <= breakpoint_m, near, far)
    return np.asarray(slopes + 20.0 * np.log10(carrier_ghz))


def nlos_path_loss_db(ground_m: Array, carrier_ghz: float, scenario: Scenario) -> Array:
    """Median path loss in dB without line of sight (table 7.4.1-1); never below that with it."""
    distance_term = np.log10(slant_m(ground_m, scenario))
    frequency_term = np.log10(carrier_ghz)
    if scenario == "UMa":
        loss = 13.54 + 39.08 * distance_term + 20.0 * frequency_term - 0.6 * (UE_HEIGHT_M - 1.5)
    else:
        loss = 35.3 * distance_term + 22.4 + 21.3 * frequency_term - 0.3 * (UE_HEIGHT_M - 1.5)
    return np.asarray(np.maximum(loss, los_path_loss_db(ground_m, carrier_ghz, scenario)))


def los_probability(ground_m: Array, scenario: Scenario) -> Array:
    """Probability 0..1 of line of sight for an outdoor UE below 13 m (table 7.4.2-1)."""
    decay_m = 63.0 if scenario == "UMa" else 36.0
    ratio = np.minimum(1.0, 18.0 / np.maximum(ground_m, 18.0))
    return ratio + np.exp(-ground_m / decay_m) * (1.0 - ratio)


def sight_threshold(ground_m: Array, scenario: Scenario) -> Array:
    """What, with a standard normal variable added, is above 0 with the probability of sight."""
    probability = np.clip(los_probability(ground_m, scenario), 1e-6, 1.0 - 1e-6)
    return np.asarray(np.sqrt(2.0) * erfinv(2.0 * probability - 1.0))


def los_softness(ground_m: Array, gaussian: Array, carrier_ghz: float, scenario: Scenario) -> Array:
    """How much in line of sight a UE is, 0..1: the soft state of TR 38.901, 7.6.3.3.

    gaussian: a standard normal field at the UE's place, the same for every visit of that place.
    """
    threshold = sight_threshold(ground_m, scenario)
    wavelength_m = LIGHT_MPS / (carrier_ghz * 1e9)
    steep = np.sqrt(20.0 / wavelength_m)
    return np.asarray(0.5 + np.arctan(steep * (gaussian + threshold)) / np.pi)
