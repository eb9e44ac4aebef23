"""3GPP's AsSessionWithQoS and MonitoringEvent over HTTP (TS 29.122, 5.14 and 5.3)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse

from nef.server import qos_session, ue_watch
from nef.server.callbacks import url_fault
from nef.server.login import nef_of, user
from nef.server.problems import (
    MERGE_PATCH,
    Problem,
    any_body,
    body_of,
    checked,
    gives,
    problem_responses,
    takes,
    unknown,
)  # fmt: skip
from nef.server.state import Api, Nef, Subscribed
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription as Session
from schemas.nef.monitoring_event import MonitoringEventReport
from schemas.nef.monitoring_event import MonitoringEventSubscription as Monitoring

Asked = Session | Monitoring
ScsAsId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Number = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
PREFIX: dict[Api, str] = {
    "qos": "/nef/api/v1/3gpp-as-session-with-qos/v1",
    "monitoring": "/nef/api/v1/3gpp-monitoring-event/v1",
}
_PROBLEMS = problem_responses(400, 401, 404, 409, 413, 415, 422, 429, 503)


def find(nef: Nef, api: Api, scs: str, number: str) -> Subscribed:
    """The subscription; 404."""
    one = nef.subscriptions.get(f"{api}/{scs}/{number}")
    if one is None:
        raise unknown("subscriptionId", "no such subscription")
    return one


def ue_of(nef: Nef, asked: Asked) -> str:
    """The supi of the UE that is meant: 404 for an unknown one, 422 for a group."""
    name = asked.subscriber()
    if name is None:
        raise Problem(422, [("body", "groups and lists of UEs are not served; name one UE")])
    wanted = name.removeprefix("extid-").removeprefix("msisdn-").lower()
    for ue in nef.world.scenario.ues:
        if wanted in ue.identities():
            return ue.supi
    raise Problem(404, [("body", "no such UE")], cause="UE_NOT_FOUND")


def faults(nef: Nef, asked: Asked) -> list[tuple[str, str]]:
    """What the fields' types cannot say."""
    found = []
    told = url_fault(asked.notificationDestination, nef.settings.callback_hosts)
    if told is not None:
        found.append(("notificationDestination", told))
    if isinstance(asked, Session):
        found += qos_session.levels(asked)[1]
        if not (asked.qosReference or asked.tscQosReq or asked.altQosReqs):
            found.append(("qosReference", "no QoS: one of qosReference, tscQosReq, altQosReqs"))
    elif asked.monitoringType not in ue_watch.KNOWN:
        found.append(("monitoringType", f"not served; served: {list(ue_watch.KNOWN)}"))
    return found


def accepted(nef: Nef, scs: str, asked: Asked, but: Subscribed | None = None) -> str:
    """The supi of a subscription that can be taken; 404, 409 for a double one, 422."""
    wrong = faults(nef, asked)
    if wrong:
        raise Problem(422, wrong)
    supi = ue_of(nef, asked)
    if but is not None and but.supi != supi:
        raise Problem(422, [("body", "the UE of a subscription cannot be changed")])
    for other in nef.subscriptions.values():
        if other is but or other.scs != scs or other.supi != supi:
            continue
        same = isinstance(asked, Session) and isinstance(other.asked, Session)
        same = same and asked.flowInfo == other.asked.flowInfo  # type: ignore[union-attr]
        same = same or (type(asked) is type(other.asked) and _bare(asked) == _bare(other.asked))
        if same:
            raise Problem(409, [("body", "there is such a subscription for this UE already")])
    return supi


def _bare(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in asked.wire().items() if name != "self"}


async def create(request: Request, api: Api, scs: str, asked: Asked) -> Response:
    """201 with Location, or 200 with the one report that is asked for."""
    nef = nef_of(request)
    supi = accepted(nef, scs, asked)
    if isinstance(asked, Monitoring) and asked.monitoringType == "LOCATION_REPORTING":
        if asked.maximumNumberOfReports == 1:
            found = ue_watch.location(asked, nef.world.samples.get(supi), nef.now())
            return JSONResponse(found.wire())
    if len(nef.subscriptions) >= nef.settings.max_subscriptions:
        raise Problem(
            429, [("body", f"{len(nef.subscriptions)} subscriptions, as many as allowed")]
        )
    number = nef.fresh_number()
    base = str(request.base_url).rstrip("/")
    link = f"{base}{PREFIX[api]}/{scs}/subscriptions/{number}"
    one = nef.take(api, scs, number, supi, link, asked)
    await nef.database.settled()
    content = one.wire()
    if isinstance(asked, Monitoring) and asked.immediateRep:
        if asked.monitoringType == "LOCATION_REPORTING":
            report = ue_watch.location(asked, nef.world.samples.get(supi), nef.now())
            content["monitoringEventReport"] = report.wire()
    return JSONResponse(content, 201, {"location": link})


def routes(api: Api, kind: type[Session] | type[Monitoring]) -> APIRouter:
    """GET and POST of all; GET, PUT, PATCH and DELETE of one."""
    router = APIRouter(
        prefix=PREFIX[api], tags=[api], dependencies=[Depends(user)], responses=_PROBLEMS
    )
    every, one = "/{scsAsId}/subscriptions", "/{scsAsId}/subscriptions/{subscriptionId}"
    body = Depends(body_of(kind))
    scs_path, number_path = Path(alias="scsAsId"), Path(alias="subscriptionId")

    @router.get(every, responses=gives(kind, many=True))
    async def read_all(request: Request, scs: Annotated[ScsAsId, scs_path]) -> JSONResponse:
        found = nef_of(request).subscriptions.values()
        return JSONResponse([o.wire() for o in found if o.api == api and o.scs == scs])

    posted = gives(kind, 201) | (gives(MonitoringEventReport) if api == "monitoring" else {})

    @router.post(every, status_code=201, responses=posted, openapi_extra=takes(kind))
    async def post(
        request: Request, scs: Annotated[ScsAsId, scs_path], asked: Annotated[Any, body]
    ) -> Response:
        return await create(request, api, scs, asked)

    @router.get(one, responses=gives(kind))
    async def read_one(
        request: Request, scs: Annotated[ScsAsId, scs_path], number: Annotated[Number, number_path]
    ) -> JSONResponse:
        return JSONResponse(find(nef_of(request), api, scs, number).wire())

    @router.put(one, responses=gives(kind), openapi_extra=takes(kind))
    async def put(
        request: Request, scs: Annotated[ScsAsId, scs_path],
        number: Annotated[Number, number_path], asked: Annotated[Any, body],
    ) -> JSONResponse:  # fmt: skip
        return await replaced(nef_of(request), find(nef_of(request), api, scs, number), asked)

    @router.patch(one, responses=gives(kind), openapi_extra=takes(kind, MERGE_PATCH))
    async def patch(
        request: Request, scs: Annotated[ScsAsId, scs_path], number: Annotated[Number, number_path]
    ) -> JSONResponse:
        nef = nef_of(request)
        change = await any_body(request, MERGE_PATCH, "application/json")
        if not isinstance(change, dict):
            raise Problem(422, [("body", "a JSON object is asked for")])
        found = find(nef, api, scs, number)
        names = kind.other_names
        change = {names.get(name, name): value for name, value in change.items()}
        return await replaced(nef, found, checked(kind, merged(found.asked.wire(), change)))

    @router.delete(one, status_code=204)
    async def delete(
        request: Request, scs: Annotated[ScsAsId, scs_path], number: Annotated[Number, number_path]
    ) -> Response:
        nef = nef_of(request)
        nef.end(find(nef, api, scs, number))
        await nef.database.settled()
        return Response(status_code=204)

    return router


async def replaced(nef: Nef, old: Subscribed, asked: Asked) -> JSONResponse:
    """The subscription begins anew with this content."""
    supi = accepted(nef, old.scs, asked, but=old)
    one = nef.take(old.api, old.scs, old.number, supi, old.link, asked)
    await nef.database.settled()
    return JSONResponse(one.wire())


def merged(old: Any, change: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    base = dict(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = merged(base.get(name), value)
    return base
