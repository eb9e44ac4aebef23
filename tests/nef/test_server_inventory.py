"""Inventory, scenarios, movement and the state of UEs, over HTTP and on the world itself."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nef.server.inventory import Scenario, city_scenario
from nef.server.world import World, scenario_now
from nef.simulator import handover, topology
from nef.simulator.params import SimulatorParams
from tests.nef.server_kit import QOS, Server, nef_server, qos, until

UE = "001010000000001"


def world(ues: int = 12, seed: int = 1, **changes: Any) -> World:
    made = city_scenario(ues, 3, seed)
    return World(SimulatorParams(seed=seed, sites=3, ues=ues), made.model_copy(update=changes))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server() as made:
        yield made


def test_the_same_seed_gives_the_same_seconds() -> None:
    one, two, other = world(), world(), world(seed=2)
    for each in (one, two, other):
        for _ in range(5):
            each.step()
    assert one.samples == two.samples
    assert one.samples != other.samples


def test_what_a_second_gives_can_be() -> None:
    here = world(40)
    served = 0
    for _ in range(60):
        here.step()
        for supi, sample in here.samples.items():
            if sample.cell_id is None:
                assert sample.downlink_mbps == 0.0 and sample.loss_ratio == 1.0
                continue
            served += 1
            assert sample.downlink_delay_ms is not None and sample.downlink_delay_ms > 0.5
            assert sample.uplink_delay_ms is not None and sample.uplink_delay_ms > 0.5
            assert 0.0 <= sample.loss_ratio <= 1.0 and sample.downlink_mbps >= 0.0
            assert sample.load is not None and 0.0 < sample.load <= 1.0
            for cell in here.cells_of(supi):
                assert handover.DETECTABLE_DBM <= cell["rsrp_dbm"] <= -31.0
                assert -43.0 <= cell["rsrq_db"] <= 20.0 and -23.0 <= cell["sinr_db"] <= 40.0
    assert served > 0.95 * 60 * 40
    assert here.handovers > 0


def test_rsrq_of_a_cell_is_its_share_of_all_that_is_received() -> None:
    here = world()
    here.step()
    row = here.index[UE]
    load, level = here.state.load[0], here.received[row]
    noise = 10 ** ((-174 + 7 + 10 * math.log10(30_000)) / 10)
    total = sum(level[c] * load[c] for c in range(here.plan.cells)) + noise
    for cell in here.cells_of(UE):
        number = here.plan.cell_ids.index(cell["cell_id"])
        want = cell["rsrp_dbm"] - 10 * math.log10(12 * total)
        assert cell["rsrq_db"] == pytest.approx(max(want, -43.0), abs=0.02)
        others = total - level[number] * load[number]
        sinr = 10 * math.log10(level[number] / others)
        assert cell["sinr_db"] == pytest.approx(min(max(sinr, -23.0), 40.0), abs=0.02)


def test_others_keep_place_and_cell_when_a_ue_comes_and_goes() -> None:
    here = world()
    for _ in range(5):
        here.step()
    before = {supi: here.place(supi) for supi in here.index}
    serving = {s: int(here.state.attached.serving[r]) for s, r in here.index.items()}
    gone = here.scenario.ues[0].supi
    here.change(here.scenario.model_copy(update={"ues": here.scenario.ues[1:]}))
    for supi, row in here.index.items():
        assert here.place(supi)[:2] == pytest.approx(before[supi][:2], abs=1e-9)
        assert int(here.state.attached.serving[row]) == serving[supi]
    assert gone not in here.index
    here.step()
    assert len(here.samples) == 11


def test_a_priority_flow_is_treated_better_than_it_was() -> None:
    """The same congested city, with and without the treatment of 5QI 82 for one UE."""
    delays = []
    for override in (None, 82):
        here = world(60)
        supi = next(ue.supi for ue in here.scenario.ues if ue.five_qi == 9)
        here.override(supi, override)
        found = []
        for _ in range(60):
            here.step()
            found.append(here.samples[supi].downlink_delay_ms or math.nan)
        delays.append(float(np.nanmedian(found)))
    assert delays[1] < 0.5 * delays[0]


def test_a_ue_on_a_path_is_where_its_speed_takes_it() -> None:
    corners = [(0.0, 0.0), (100.0, 0.0), (100.0, 100.0)]
    points = []
    for corner in corners:
        at = topology.geographic(np.array(corner[:1]), np.array(corner[1:]))
        points.append({"latitude": float(at[0][0]), "longitude": float(at[1][0])})
    made = city_scenario(1, 3, 1).model_dump()
    made["paths"] = [{"path_id": "p", "points": points}]
    made["ues"][0] |= {"mobility": "path", "path_id": "p", "speed_mps": 10.0}
    here = World(SimulatorParams(seed=1, sites=3), Scenario.model_validate(made))
    for _ in range(15):
        here.step()
    latitude, longitude, speed = here.place(UE)
    east, north = topology.plane(np.array([latitude]), np.array([longitude]))
    assert (east[0], north[0], speed) == pytest.approx((100.0, 50.0, 10.0), abs=1e-6)


def test_a_city_may_be_as_large_as_is_allowed() -> None:
    made = city_scenario(2000, 16, 1)
    assert len(made.ues) == 2000 and made.faults() == []
    assert len({ue.ipv4 for ue in made.ues}) == 2000


def test_an_empty_network_lets_seconds_pass() -> None:
    for scenario in (Scenario(), city_scenario(3, 1, 1).model_copy(update={"cells": []})):
        here = World(SimulatorParams(), scenario)
        here.step()
        assert all(sample.cell_id is None for sample in here.samples.values())
        assert scenario_now(here).gnbs == scenario.gnbs


def test_stopped_ues_stand_still_and_started_ones_go(server: Server) -> None:
    post, get = server.client.post, server.client.get
    linear = get(f"/api/v1/UEs/{UE}").json() | {"mobility": "linear"}
    assert server.client.put(f"/api/v1/UEs/{UE}", json=linear).status_code == 200

    def place() -> tuple[float, float]:
        state = get(f"/api/v1/UEs/{UE}/state").json()
        return state["latitude"], state["longitude"]

    assert post("/api/v1/ue_movement/stop-loop", json={"supi": UE}).json()["running"] is False
    second, here = server.nef.world.second, place()
    until(lambda: server.nef.world.second > second + 5)
    assert place() == here
    assert post("/api/v1/ue_movement/start-loop", json={"supi": UE}).json()["running"] is True
    until(lambda: place() != here)
    assert get(f"/api/v1/ue_movement/state-loop/{UE}").json()["running"] is True


def test_the_state_of_a_ue_has_radio_and_qos(server: Server) -> None:
    def served() -> dict[str, Any] | None:
        state: dict[str, Any] = server.client.get(f"/api/v1/UEs/{UE}/state").json()
        return state if state["qos"] and state["cells"] else None

    state = until(served)
    assert state["cells"][0].keys() >= {"rsrp_dbm", "rsrq_db", "sinr_db", "prb_used_ratio"}
    assert state["qos"].keys() >= {"downlink_mbps", "downlink_delay_ms", "jitter_ms",
                                   "packet_loss_ratio", "prb_used_ratio"}  # fmt: skip


GNB = {"gnb_id": "0000aa", "latitude": 50.78, "longitude": 6.09}
CELL = {"cell_id": "0000aa001", "gnb_id": "0000aa", "azimuth_deg": 90.0}


def test_gnb_and_cell_come_and_go(server: Server) -> None:
    client = server.client
    made = client.post("/api/v1/gNBs", json=GNB)
    assert made.status_code == 201
    assert client.get(made.headers["location"]).json() == made.json()
    assert client.post("/api/v1/gNBs", json=GNB).status_code == 409
    assert client.post("/api/v1/Cells", json=CELL | {"gnb_id": "0000ab"}).status_code == 409
    cell = client.post("/api/v1/Cells", json=CELL)
    assert cell.status_code == 201
    assert client.delete(made.headers["location"]).status_code == 409  # its cell would be left
    changed = client.put(cell.headers["location"], json=CELL | {"azimuth_deg": 10.0})
    assert changed.json()["azimuth_deg"] == 10.0
    second = server.nef.world.second
    until(lambda: server.nef.world.second > second + 2)
    heard = client.get("/api/v1/ue_movement/state-ues").json().values()
    assert any(c["cell_id"] == "0000aa001" for ue in heard for c in ue["cells"])
    assert client.delete(cell.headers["location"]).status_code == 204
    assert client.delete(made.headers["location"]).status_code == 204
    assert client.get(made.headers["location"]).status_code == 404


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"supi": "12"}, 422), ({"ipv4": "1.2.3"}, 422), ({"speed_mps": -1}, 422),
        ({"latitude": 91}, 422), ({"other": 1}, 422), ({"five_qi": 3}, 422),
        ({"longitude": False}, 422), ({"moving": "yes"}, 422),
        ({"mobility": "path"}, 409), ({"path_id": "nowhere"}, 409), ({"ipv4": "10.0.0.1"}, 409),
        ({"supi": UE}, 409),
    ],
)  # fmt: skip
def test_a_faulty_ue_is_refused(server: Server, changes: dict[str, Any], status: int) -> None:
    body: dict[str, Any] = {"supi": "001010000009999"}
    reply = server.client.post("/api/v1/UEs", json=body | changes)
    assert reply.status_code == status, reply.text
    assert len(server.client.get("/api/v1/UEs").json()) == 8


def test_a_ue_with_a_subscription_stays(server: Server) -> None:
    made = server.client.post(QOS, json=qos("http://127.0.0.1:9/"))
    assert server.client.delete(f"/api/v1/UEs/{UE}").status_code == 409
    assert server.client.delete(made.headers["location"]).status_code == 204


def test_a_scenario_goes_out_and_in_again() -> None:
    with nef_server(speed=0) as one, nef_server(speed=0, ues=1, sites=1) as two:
        out = one.client.get("/api/v1/scenario").json()
        assert two.client.put("/api/v1/scenario", json=out).status_code == 200
        assert two.client.get("/api/v1/scenario").json()["cells"] == out["cells"]
        again = two.client.get("/api/v1/scenario").json()["ues"]
        for was, now in zip(out["ues"], again, strict=True):
            assert now["latitude"] == pytest.approx(was["latitude"], abs=1e-9)
        broken = out | {"cells": [*out["cells"], out["cells"][0]]}
        assert two.client.put("/api/v1/scenario", json=broken).status_code == 409
        assert two.client.get("/api/v1/scenario").json()["cells"] == out["cells"]
