"""gNBs, cells, UEs and paths; scenario import and export; movement; each UE's radio and QoS state."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from nef.server import database, inventory
from nef.server.export import scenario_now
from nef.server.inventory import KEYS, MOST, Managed, Scenario, Supi
from nef.server.login import nef_of, user
from nef.server.problems import (
    Problem,
    body_of,
    gives,
    problem_responses,
    takes,
    unknown,
)  # fmt: skip
from nef.server.state import KINDS, Nef, finite, replace_inventory
from schemas.five_qi import FIVE_QIS
from schemas.service_class import SERVICE_CLASSES, class_of_5qi

_PROBLEMS = problem_responses(400, 401, 404, 409, 413, 415, 422, 503)
router = APIRouter(prefix="/api/v1", dependencies=[Depends(user)], responses=_PROBLEMS)
Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.@-]{1,64}$")]
NAMES = {"gnbs": "gNBs", "cells": "Cells", "paths": "paths", "ues": "UEs", "groups": "groups",
         "anomalies": "anomalies"}  # fmt: skip


class Which(Managed):
    """The UE that is meant."""

    supi: Supi


KINDS_SHOWN: tuple[type[BaseModel], ...] = (
    inventory.Gnb, inventory.Cell, inventory.Path, inventory.Ue, inventory.Group,
    inventory.Anomaly, Scenario, Which,
)  # fmt: skip


def change(nef: Nef, scenario: Scenario) -> None:
    """The world takes a scenario; 409 where it does not hold together or is too large."""
    wrong = scenario.faults()
    for kind, most in MOST.items():
        if len(getattr(scenario, kind)) > most:
            wrong.append((kind, f"{len(getattr(scenario, kind))}, at most {most} are allowed"))
    gone = set(nef.world.index) - {ue.supi for ue in scenario.ues}
    used = {supi for one in nef.subscriptions.values() for supi in one.supis} & gone
    used |= {one.supi for one in nef.sessions.values()} & gone
    if used:
        wrong.append(("ues", f"{len(used)} UEs that go have subscriptions"))
    if wrong:
        raise Problem(409, wrong)
    nef.world.change(scenario)


def _manage(kind: str) -> None:
    key, model = KEYS[kind], KINDS[kind]
    every, one = f"/{NAMES[kind]}", f"/{NAMES[kind]}/{{id}}"
    body = Depends(body_of(model))
    path = Path(alias="id")

    def rows(nef: Nef) -> list[Any]:
        return list(getattr(nef.world.scenario, kind))

    def at(nef: Nef, name: str) -> int:
        for row, each in enumerate(rows(nef)):
            if getattr(each, key) == name:
                return row
        raise unknown("id", f"none of {NAMES[kind]} has it")

    def put_down(nef: Nef, new: list[Any]) -> None:
        change(nef, nef.world.scenario.model_copy(update={kind: new}))

    @router.get(every, tags=[kind], name=f"list {kind}", responses=gives(model, many=True))
    async def read_all(request: Request) -> JSONResponse:
        return JSONResponse([each.model_dump(mode="json") for each in rows(nef_of(request))])

    @router.post(every, tags=[kind], name=f"add {kind}", status_code=201,
                 responses=gives(model, 201), openapi_extra=takes(model))  # fmt: skip
    async def post(request: Request, given: Annotated[Any, body]) -> JSONResponse:
        nef, name = nef_of(request), getattr(given, key)
        put_down(nef, [*rows(nef), given])
        await nef.database.ask(database.save, kind, name, given.model_dump(mode="json"))
        link = str(request.url_for(f"one of {kind}", id=name))
        return JSONResponse(given.model_dump(mode="json"), 201, {"location": link})

    @router.get(one, tags=[kind], name=f"one of {kind}", responses=gives(model))
    async def read_one(request: Request, name: Annotated[Key, path]) -> JSONResponse:
        nef = nef_of(request)
        return JSONResponse(rows(nef)[at(nef, name)].model_dump(mode="json"))

    @router.put(one, tags=[kind], name=f"replace {kind}", responses=gives(model),
                openapi_extra=takes(model))  # fmt: skip
    async def put(
        request: Request, name: Annotated[Key, path], given: Annotated[Any, body]
    ) -> JSONResponse:
        nef, row = nef_of(request), at(nef_of(request), name)
        if getattr(given, key) != name:
            raise Problem(422, [(key, "must be the one of the path")])
        new = rows(nef)
        new[row] = given
        put_down(nef, new)
        await nef.database.ask(database.save, kind, name, given.model_dump(mode="json"))
        return JSONResponse(given.model_dump(mode="json"))

    @router.delete(one, tags=[kind], name=f"remove {kind}", status_code=204)
    async def delete(request: Request, name: Annotated[Key, path]) -> Response:
        nef, row = nef_of(request), at(nef_of(request), name)
        new = rows(nef)
        del new[row]
        put_down(nef, new)
        await nef.database.ask(database.drop, kind, name)
        return Response(status_code=204)


for _kind in KINDS:
    _manage(_kind)


@router.get("/scenario", tags=["scenario"], responses=gives(Scenario))
async def export(request: Request) -> JSONResponse:
    """The network in whole, everybody where they are now."""
    return JSONResponse(scenario_now(nef_of(request).world).model_dump(mode="json"))


@router.put(
    "/scenario", tags=["scenario"], responses=gives(Scenario), openapi_extra=takes(Scenario)
)
async def take_in(
    request: Request, given: Annotated[Scenario, Depends(body_of(Scenario))]
) -> JSONResponse:
    """Takes a network in the place of the one there is."""
    nef = nef_of(request)
    change(nef, given)
    await nef.database.ask(replace_inventory, given)
    return JSONResponse(given.model_dump(mode="json"))


@router.get("/anomaly-labels", tags=["anomalies"])
async def anomaly_labels(request: Request) -> JSONResponse:
    """What was, is and will be wrong, in simulated time; end null: for good."""
    nef = nef_of(request)

    def at(second: int | None) -> str | None:
        return None if second is None else (nef.started + timedelta(seconds=second)).isoformat()

    rows = [
        {
            "anomaly_id": one.asked.anomaly_id, "kind": one.asked.kind, "start": at(one.first),
            "end": at(one.end), "active": one.active(nef.world.second - 1),
            **one.asked.model_dump(
                include={"cell_id", "latitude", "longitude", "radius_m", "strength_db"}
            ),
        }
        for one in (*nef.world.over, *nef.world.wrong.values())
    ]  # fmt: skip
    return JSONResponse(rows)


async def _loop(nef: Nef, supi: str, moving: bool) -> JSONResponse:
    row = _row(nef, supi)
    ues = list(nef.world.scenario.ues)
    ues[row] = ues[row].model_copy(update={"moving": moving})
    nef.world.scenario = nef.world.scenario.model_copy(update={"ues": ues})
    nef.world.moves[row] = moving
    await nef.database.ask(database.save, "ues", supi, ues[row].model_dump(mode="json"))
    return JSONResponse({"supi": supi, "running": moving})


def _row(nef: Nef, supi: str) -> int:
    if supi not in nef.world.index:
        raise unknown("supi", "no such UE")
    return nef.world.index[supi]


WhichBody = Annotated[Which, Depends(body_of(Which))]
SupiPath = Annotated[str, Path(alias="supi", pattern=r"^[0-9]{15,16}$")]


@router.post("/ue_movement/start-loop", tags=["movement"], openapi_extra=takes(Which))
async def start_loop(request: Request, which: WhichBody) -> JSONResponse:
    """The UE moves from now on."""
    return await _loop(nef_of(request), which.supi, True)


@router.post("/ue_movement/stop-loop", tags=["movement"], openapi_extra=takes(Which))
async def stop_loop(request: Request, which: WhichBody) -> JSONResponse:
    """The UE stays where it is."""
    return await _loop(nef_of(request), which.supi, False)


@router.get("/ue_movement/state-loop/{supi}", tags=["movement"])
async def state_loop(request: Request, supi: SupiPath) -> JSONResponse:
    """Whether the UE moves."""
    nef = nef_of(request)
    return JSONResponse({"supi": supi, "running": bool(nef.world.moves[_row(nef, supi)])})


@router.get("/ue_movement/state-ues", tags=["movement"])
async def state_ues(request: Request) -> JSONResponse:
    """Every UE's state by supi: what each of UEs/{supi}/state says, of one second."""
    nef = nef_of(request)
    return JSONResponse({supi: _state(nef, supi) for supi in nef.world.index})


@router.get("/UEs/{supi}/state", tags=["ues"])
async def ue_state(request: Request, supi: SupiPath) -> JSONResponse:
    """Where a UE is, what it hears of each cell and what its last second gave it; null: not measured."""
    nef = nef_of(request)
    return JSONResponse(_state(nef, supi))


def _state(nef: Nef, supi: str) -> dict[str, Any]:
    ue, sample = nef.world.scenario.ues[_row(nef, supi)], nef.world.samples.get(supi)
    latitude, longitude, speed = nef.world.place(supi)
    qos = None if sample is None else {
        "downlink_mbps": finite(sample.downlink_mbps, 6),
        "uplink_mbps": finite(sample.uplink_mbps, 6),
        "offered_downlink_mbps": finite(sample.offered_mbps, 6),
        "downlink_delay_ms": finite(sample.downlink_delay_ms),
        "uplink_delay_ms": finite(sample.uplink_delay_ms),
        "jitter_ms": finite(sample.jitter_ms),
        "packet_loss_ratio": finite(sample.loss_ratio, 6),
        "prb_used_ratio": finite(sample.load, 4),
        "sinr_db": finite(sample.sinr_db), "rsrp_dbm": finite(sample.rsrp_dbm),
        "rsrq_db": finite(sample.rsrq_db),
    }  # fmt: skip
    return {
        "supi": supi, "cell_id_hex": sample.cell_id if sample else None,
        "gnb_id_hex": sample.gnb_id if sample else None, "cells": nef.world.cells_of(supi),
        "event_timestamp": nef.now().isoformat(), "five_qi": ue.five_qi,
        "latitude": latitude, "longitude": longitude, "speed_mps": round(speed, 3),
        "qos": qos,
    }  # fmt: skip


@router.get("/qos/{supi}/requirements", tags=["qos"])
async def requirements(request: Request, supi: SupiPath) -> JSONResponse:
    """What the UE's application asks for: its service class with that class's thresholds."""
    nef = nef_of(request)
    ue = nef.world.scenario.ues[_row(nef, supi)]
    one = SERVICE_CLASSES[class_of_5qi(ue.five_qi)]
    return JSONResponse(
        {
            "ue_id": supi, "service_type": one.name, "service_priority": one.priority,
            "requirements": {
                "latency_requirement_ms": one.delay_ms,
                "throughput_requirement_mbps": one.downlink_mbps,
                "reliability_pct": one.reliability_percent, "jitter_ms": one.jitter_ms,
            },
        }
    )  # fmt: skip


@router.get("/qosInfo/qosCharacteristics", tags=["qos"])
async def characteristics(request: Request) -> JSONResponse:
    """The standardised 5QI table."""
    rows = [
        {
            "value": row.value, "type": row.resource_type, "priority": row.priority_level,
            "PDB": row.packet_delay_budget_ms, "PER": row.packet_error_rate,
            "MDBV": row.maximum_burst_bytes, "service": row.example_services,
        }
        for row in FIVE_QIS.values()
    ]  # fmt: skip
    return JSONResponse({"5qi": rows})
