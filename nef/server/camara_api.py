"""CAMARA over HTTP: qos-profiles, quality-on-demand, connectivity-insights."""

from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from nef.server import camara
from nef.server.camara import CamaraSession
from nef.server.login import bearer, nef_of, user
from nef.server.problems import Problem, any_body, checked, gives, problem_responses, takes
from nef.server.state import Nef
from schemas.nef.camara import (
    CheckNetworkQuality,
    CreateSession,
    Device,
    ErrorInfo,
    ExtendSession,
    NetworkQuality,
    ProfileName,
    QosProfile,
    SessionInfo,
)
from schemas.nef.wire import Wire

CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 409: "CONFLICT",
         415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "TOO_MANY_REQUESTS"}  # fmt: skip


class Retrieve(Wire):
    """Which profiles, or whose sessions, are wanted."""

    device: Device | None = None
    name: ProfileName | None = None
    status: Literal["ACTIVE", "INACTIVE", "DEPRECATED"] | None = None


KINDS_SHOWN: tuple[type[BaseModel], ...] = (
    CheckNetworkQuality, CreateSession, ErrorInfo, ExtendSession, NetworkQuality, QosProfile, Retrieve,
    SessionInfo,
)  # fmt: skip


class Refused(Problem):
    """An error in CAMARA's form."""

    def __init__(self, status: int, told: str, code: str | None = None) -> None:
        """code: None stands for the status's usual one."""
        super().__init__(status)
        self.body = ErrorInfo(status=status, code=code or CODES[status], message=told)

    def response(self) -> Response:
        """The answer."""
        return JSONResponse(self.body.wire(), self.status)


async def _user(request: Request, token: Annotated[str | None, Depends(bearer)]) -> str:
    try:
        return await user(request, token)
    except Problem as error:
        raise Refused(error.status, "no valid token") from None


def _body(kind: type[BaseModel]) -> Any:
    async def read(request: Request) -> Any:
        try:
            return checked(kind, await any_body(request))
        except Problem as error:
            status = 400 if error.status == 422 else error.status
            raise Refused(status, error.details.detail or "invalid") from None

    return Depends(read)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorInfo"}}}
    told = {status: {"description": HTTPStatus(status).phrase, "content": content}
            for status in statuses}  # fmt: skip
    return problem_responses(413, 503) | told


router = APIRouter(
    tags=["camara"],
    dependencies=[Depends(_user)],
    responses=_errors(400, 401, 404, 409, 415, 422, 429),
)
SESSIONS = "/quality-on-demand/v1/sessions"


def _supi(nef: Nef, device: Device | None) -> str:
    if device is None:
        raise Refused(422, "device is needed: the token names none", "MISSING_IDENTIFIER")
    wanted = device.subscriber().removeprefix("+").lower()
    for ue in nef.world.scenario.ues:
        if wanted in ue.identities():
            return ue.supi
    raise Refused(404, "no such device", "IDENTIFIER_NOT_FOUND")


def _session(nef: Nef, number: str) -> CamaraSession:
    try:
        found = nef.sessions.get(UUID(number))
    except ValueError:
        raise Refused(400, "sessionId: no UUID") from None
    if found is None:
        raise Refused(404, "no such session")
    return found


@router.get("/qos-profiles/v1/qos-profiles/{name}", responses=gives(QosProfile))
async def qos_profile(name: str) -> JSONResponse:
    """One profile."""
    if name not in camara.PROFILES:
        raise Refused(404, "no such profile")
    return JSONResponse(camara.PROFILES[name].wire())


@router.post("/qos-profiles/v1/retrieve-qos-profiles", responses=gives(QosProfile, many=True),
             openapi_extra=takes(Retrieve))  # fmt: skip
async def qos_profiles(
    request: Request, asked: Annotated[Retrieve, _body(Retrieve)]
) -> JSONResponse:
    """The profiles of a name and status, all that a device can have."""
    if asked.device is not None:
        _supi(nef_of(request), asked.device)
    found = [
        one.wire()
        for one in camara.PROFILES.values()
        if asked.name in (None, one.name) and asked.status in (None, one.status)
    ]
    return JSONResponse(found)


@router.post(SESSIONS, status_code=201, responses=gives(SessionInfo, 201),
             openapi_extra=takes(CreateSession))  # fmt: skip
async def create(
    request: Request, asked: Annotated[CreateSession, _body(CreateSession)]
) -> JSONResponse:
    """A session that is available from the next second with coverage on."""
    nef = nef_of(request)
    if asked.qosProfile not in camara.PROFILES:
        raise Refused(
            422, f"qosProfile: none of {list(camara.PROFILES)}",
            "QUALITY_ON_DEMAND.QOS_PROFILE_NOT_APPLICABLE",
        )  # fmt: skip
    if asked.duration > camara.MAX_DURATION_S:
        raise Refused(
            400, f"duration: above {camara.MAX_DURATION_S} s",
            "QUALITY_ON_DEMAND.DURATION_OUT_OF_RANGE",
        )  # fmt: skip
    supi = _supi(nef, asked.device)
    if any(one.supi == supi and not one.over for one in nef.sessions.values()):
        raise Refused(409, "there is a session for this device already")
    if len(nef.sessions) >= nef.settings.max_subscriptions:
        raise Refused(429, f"{len(nef.sessions)} sessions, as many as allowed")
    second = nef.world.second
    made = CamaraSession(uuid4(), supi, asked, second, second + asked.duration)
    nef.begin(made, f"{str(request.base_url).rstrip('/')}{SESSIONS}/{made.number}")
    link = str(request.url_for("read_session", sessionId=str(made.number)))
    return JSONResponse(made.told(nef.started), 201, {"location": link})


@router.get(SESSIONS + "/{sessionId}", responses=gives(SessionInfo), name="read_session")
async def read(request: Request, sessionId: str) -> JSONResponse:
    """A session; an ended one for some minutes more."""
    nef = nef_of(request)
    return JSONResponse(_session(nef, sessionId).told(nef.started))


@router.delete(SESSIONS + "/{sessionId}", status_code=204)
async def delete(request: Request, sessionId: str) -> Response:
    """Ends a session at once."""
    nef = nef_of(request)
    nef.finish(_session(nef, sessionId))
    return Response(status_code=204)


@router.post(SESSIONS + "/{sessionId}/extend", responses=gives(SessionInfo),
             openapi_extra=takes(ExtendSession))  # fmt: skip
async def extend(
    request: Request, sessionId: str, asked: Annotated[ExtendSession, _body(ExtendSession)]
) -> JSONResponse:
    """More time, a day in all at most."""
    nef = nef_of(request)
    found = _session(nef, sessionId)
    if found.status != "AVAILABLE":
        raise Refused(
            409, "the session is not available", "QUALITY_ON_DEMAND.SESSION_EXTENSION_NOT_ALLOWED"
        )
    longest = found.began_s + camara.MAX_DURATION_S
    found.until_s = min(found.until_s + asked.requestedAdditionalDuration, longest)
    return JSONResponse(found.told(nef.started))


@router.post("/quality-on-demand/v1/retrieve-sessions", responses=gives(SessionInfo, many=True),
             openapi_extra=takes(Retrieve))  # fmt: skip
async def sessions(request: Request, asked: Annotated[Retrieve, _body(Retrieve)]) -> JSONResponse:
    """A device's sessions."""
    nef = nef_of(request)
    supi = _supi(nef, asked.device)
    return JSONResponse([s.told(nef.started) for s in nef.sessions.values() if s.supi == supi])


@router.get("/application-profiles/v0.4/application-profiles")
async def applications() -> JSONResponse:
    """The application profiles that the network-quality check knows, by id."""
    return JSONResponse({str(number): one.name for number, one in camara.APPLICATIONS.items()})


@router.post("/connectivity-insights/v0.4/check-network-quality", responses=gives(NetworkQuality),
             openapi_extra=takes(CheckNetworkQuality))  # fmt: skip
async def check(
    request: Request, asked: Annotated[CheckNetworkQuality, _body(CheckNetworkQuality)]
) -> JSONResponse:
    """Whether a device's last second met an application profile; no forecast is made."""
    nef = nef_of(request)
    wanted = camara.APPLICATIONS.get(asked.applicationProfileId)
    if wanted is None:
        raise Refused(404, "no such application profile")
    supi = _supi(nef, asked.device)
    if asked.is_forecast(nef.now()):
        raise Refused(422, "monitoringTimeStamp: forecasts are not served")
    sample = nef.world.samples.get(supi)
    if sample is None:
        raise Refused(409, "nothing was measured yet")
    return JSONResponse(camara.quality(wanted, sample).wire())
