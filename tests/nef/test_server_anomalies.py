"""Faults on purpose: what they do to the network, their labels, and their way out and in again."""

from collections.abc import Iterator
from typing import Any

import pytest

from nef.server.inventory import city_scenario
from nef.server.world import World
from nef.simulator.params import SimulatorParams
from tests.nef.server_kit import Server, nef_server

PLACE = "/api/v1/anomalies"


def cell_of(here: World, supi: str) -> str:
    cell = here.samples[supi].cell_id
    assert cell is not None
    return cell


def world_with(**wrong: Any) -> tuple[World, World, str]:
    """The same city twice, one with an anomaly in its second 20 to 39, and a UE that it meets."""
    made = city_scenario(30, 3, 1).model_dump()
    for ue in made["ues"]:
        ue["moving"] = False
    scenario = city_scenario(1, 1, 1).model_validate(made)
    good, bad = (World(SimulatorParams(seed=1, sites=3), scenario, automatic=False) for _ in "ab")
    for here in (good, bad):
        for _ in range(20):
            here.step()
    supi = next(
        ue.supi for ue in scenario.ues
        if ue.five_qi == 9 and (good.samples[ue.supi].sinr_db or -99.0) > 3.0
    )  # fmt: skip
    latitude, longitude, _ = bad.place(supi)
    where: dict[str, Any] = {"latitude": latitude, "longitude": longitude}
    if wrong["kind"] == "interference":
        where["strength_db"] = 45.0
    if wrong["kind"] in ("sleeping_cell", "congestion"):
        where = {"cell_id": cell_of(bad, supi)}
    made["anomalies"] = [{"anomaly_id": "a", "lasts_s": 20} | where | wrong]
    bad.change(scenario.model_validate(made))
    return good, bad, supi


def means(here: World, supi: str, what: str, seconds: int) -> float:
    found = []
    for _ in range(seconds):
        here.step()
        found.append(getattr(here.samples[supi], what) or 0.0)
    return sum(found) / seconds


@pytest.mark.parametrize(
    ("kind", "what", "least", "most"),
    [
        ("interference", "sinr_db", -60.0, -5.0),
        ("blind_spot", "rsrp_dbm", -25.0, -15.0),
        ("sleeping_cell", "downlink_mbps", -500.0, -0.01),
        ("congestion", "downlink_mbps", -500.0, -0.01),
    ],
)
def test_it_is_felt_while_it_lasts_and_not_after(
    kind: str, what: str, least: float, most: float
) -> None:
    good, bad, supi = world_with(kind=kind)
    change = means(bad, supi, what, 20) - means(good, supi, what, 20)
    assert least < change < most
    if what == "downlink_mbps":
        return  # queues stay for a while
    for here in (good, bad):
        means(here, supi, what, 10)
    after = means(bad, supi, what, 20) - means(good, supi, what, 20)
    assert abs(after) < 0.5 * abs(change)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server(speed=0) as made:
        made.pass_seconds(3)
        yield made


def test_metrics_and_labels_tell_of_it(server: Server) -> None:
    cell = server.client.get("/api/v1/Cells").json()[0]["cell_id"]
    asked = {
        "anomaly_id": "jam",
        "kind": "congestion",
        "cell_id": cell,
        "begins_in_s": 2,
        "lasts_s": 3,
    }
    assert server.client.post(PLACE, json=asked).status_code == 201
    active = []
    for _ in range(7):
        server.pass_seconds()
        text = server.client.get("/metrics").text
        active.append('nef_anomalies{kind="congestion"} 1.0' in text)
        assert f'nef_cell_prb_used_ratio{{cell_id="{cell}"}}' in text
    assert active == [False, False, True, True, True, False, False]
    (label,) = server.client.get("/api/v1/anomaly-labels").json()
    assert (label["kind"], label["cell_id"], label["active"]) == ("congestion", cell, False)
    assert server.client.delete(f"{PLACE}/jam").status_code == 204
    assert server.client.get("/api/v1/anomaly-labels").json() == [label]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"kind": "earthquake"}, 422),
        ({"kind": "sleeping_cell"}, 409),
        ({"kind": "sleeping_cell", "cell_id": "fffffffff"}, 409),
        ({"kind": "interference", "latitude": 50.0}, 409),
        ({"kind": "interference", "latitude": 50.0, "longitude": 6.0, "radius_m": 0}, 422),
    ],
)
def test_what_does_not_fit_is_refused(server: Server, changes: dict[str, Any], status: int) -> None:
    reply = server.client.post(PLACE, json={"anomaly_id": "a"} | changes)
    assert reply.status_code == status, reply.text
    assert server.client.get(PLACE).json() == []


def test_what_is_left_of_it_goes_out_and_in_with_groups_and_paths() -> None:
    with nef_server(speed=0) as server:
        supis = [ue["supi"] for ue in server.client.get("/api/v1/UEs").json()]
        place = {"latitude": 50.78, "longitude": 6.06}
        points = [place, {"latitude": 50.79, "longitude": 6.07}]
        posts = {
            "groups": {"group_id": "fleet@example.com", "members": supis[:2]},
            "paths": {"path_id": "loop", "points": points},
            "anomalies": {"anomaly_id": "hum", "kind": "interference", "lasts_s": 10} | place,
        }
        for name, body in posts.items():
            assert server.client.post(f"/api/v1/{name}", json=body).status_code == 201
        server.pass_seconds(4)
        out = server.client.get("/api/v1/scenario").json()
        assert out["anomalies"][0]["lasts_s"] == 6 and out["groups"] == [
            posts["groups"] | {"name": ""}
        ]
        with nef_server(speed=0, ues=1, sites=1) as other:
            assert other.client.put("/api/v1/scenario", json=out).status_code == 200
            again = other.client.get("/api/v1/scenario").json()
            for was, now in zip(out["ues"], again["ues"], strict=True):
                for name in ("latitude", "longitude"):
                    assert now.pop(name) == pytest.approx(was.pop(name), abs=1e-9)
            assert again == out
        assert server.client.delete(f"/api/v1/UEs/{supis[0]}").status_code == 409  # its group
        assert server.client.delete("/api/v1/groups/fleet@example.com").status_code == 204
