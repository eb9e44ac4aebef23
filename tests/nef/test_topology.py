"""Hexagons and the sector's pattern."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import topology


def test_seven_sites_are_a_hexagon_around_the_first() -> None:
    sites = topology.lattice(7, 500.0)
    distance = np.hypot(sites[:, 0], sites[:, 1])
    assert distance[0] == 0.0
    assert distance[1:] == pytest.approx(np.full(6, 500.0))


@pytest.mark.parametrize("sites", [1, 4, 19, 57])
def test_no_two_sites_are_nearer_than_the_spacing(sites: Any) -> None:
    points = topology.lattice(sites, 300.0)
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    assert len(points) == sites
    assert sites == 1 or apart[~np.eye(sites, dtype=bool)].min() == pytest.approx(300.0)


@pytest.mark.parametrize(
    ("azimuth", "below", "expected"),
    [
        (0.0, 8.0, 8.0),  # boresight
        (32.5, 8.0, 5.0),  # half the beamwidth off: 3 dB
        (-32.5, 8.0, 5.0),
        (0.0, 40.5, 5.0),
        (32.5, 40.5, 2.0),
        (180.0, 8.0, -22.0),  # 30 dB front to back
        (180.0, 90.0, -22.0),  # never less
        (360.0, 8.0, 8.0),
    ],
)
def test_the_pattern_is_that_of_table_7_3_1(azimuth: Any, below: Any, expected: float) -> None:
    gain = topology.antenna_gain_db(np.array([azimuth]), np.array([below]))
    assert gain[0] == pytest.approx(expected)


def test_cells_have_ids_of_their_own_in_the_test_network() -> None:
    cells = topology.hexagonal(19, 500.0).cell_ids
    assert len(set(cells)) == 57
    assert cells[0] == "00101-000001001"


def test_a_degree_of_latitude_is_111_km() -> None:
    latitude, longitude = topology.geographic(np.array([0.0]), np.array([111_319.49]))
    assert latitude[0] == pytest.approx(topology.REFERENCE[0] + 1.0, abs=1e-6)
    assert longitude[0] == topology.REFERENCE[1]


@given(st.floats(-20_000.0, 20_000.0), st.floats(-20_000.0, 20_000.0))
@settings(deadline=None)
def test_the_plane_and_the_globe_are_each_others_inverse(east: float, north: float) -> None:
    back = topology.plane(*topology.geographic(np.array([east]), np.array([north])))
    assert back[0][0] == pytest.approx(east, abs=1e-6)
    assert back[1][0] == pytest.approx(north, abs=1e-6)
