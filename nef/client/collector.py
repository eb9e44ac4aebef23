"""`NEFQoSCollector`, and the same with await: log in, list, subscribe, poll, receive, keep."""

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import ValidationError

from nef.client import exchange
from nef.client.exchange import Flow, NefError, Reply, Send, Session, parsed
from nef.client.intake import Intake, Receipt, Subscription
from nef.client.retry import Backoff, CircuitOpen
from nef.client.settings import NefSettings
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventSubscription
from schemas.nef.ue_state import KnownUe
from schemas.nef.wire import faults_of

T = TypeVar("T")


@dataclass(frozen=True)
class Created:
    """A subscription that the NEF made: its link, and its own words for it."""

    link: str
    subscription: Subscription


@dataclass
class Polled:
    """What a round of polling gave: journal lines, how many were refused into quarantine, how many
    said nothing new, why a UE (named as it was asked for) gave no answer, and of states, whose."""

    sequences: list[int] = field(default_factory=list)
    refused: int = 0
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    ue_ids: list[str] = field(default_factory=list)

    def take(self, sequence: int | None) -> None:
        """Counts one record, None for a refused one, 0 for one that is known."""
        if sequence is None:
            self.refused += 1
        elif sequence == 0:
            self.unchanged += 1
        else:
            self.sequences.append(sequence)


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates to trust; reading them takes longer than a request."""
    return httpx.create_ssl_context()


def _base(settings: NefSettings, kind: type[Subscription]) -> str:
    path = settings.qos_path if kind is AsSessionWithQoSSubscription else settings.monitoring_path
    return f"{path}/{settings.scs_as_id}/subscriptions"


def _log_in(session: Session) -> Flow[None]:
    yield from exchange.log_in(session)


def _list(session: Session, intake: Intake, kind: type[Subscription]) -> Flow[list[Created]]:
    """The good ones; a faulty one and one whose link came before go to quarantine."""
    send = Send("NEF list of subscriptions", "GET", _base(session.settings, kind))
    reply = yield from exchange.call(session, send)
    content = [] if reply.status == 204 or not reply.body else parsed(send, reply)
    if not isinstance(content, list):
        raise NefError(f"{send.told}: {reply.status}, no list", reply.status)
    found: dict[str, Created] = {}
    for one in content:
        try:
            created = _created(kind, one, None)
        except ValidationError as error:
            intake.refuse("subscription", one, faults_of(error))
            continue
        if created is None:
            intake.refuse("subscription", one, [("self", "has no link")])
        elif (key := intake.subscription_key(created.link)) in found:
            intake.refuse("subscription", one, [("self", "the link came before in this list")])
        else:
            found[key] = created
            intake.listed(created.link, created.subscription)
    return list(found.values())


def _created(kind: type[Subscription], content: object, location: str | None) -> Created | None:
    subscription = kind.read(content)
    link = subscription.self_ or location
    return None if link is None else Created(link, subscription)


def _subscribe(session: Session, intake: Intake, asked: Subscription) -> Flow[Created]:
    """Not repeated once the NEF may have it: a second one would notify twice."""
    send = Send(
        "NEF subscription",
        "POST",
        _base(session.settings, type(asked)),
        json=asked.wire(),
        repeatable=False,
    )
    reply = yield from exchange.call(session, send)
    location = reply.headers.get("location")
    try:
        content = parsed(send, reply) if reply.body else asked.wire()
        created = _created(type(asked), content, location)
    except ValidationError as error:
        intake.refuse("subscription", reply.body, faults_of(error))
        created = None if location is None else Created(location, asked)
    if created is None:
        raise NefError(f"{send.told}: {reply.status}, no link of the subscription", reply.status)
    intake.subscribed(created.link, asked)
    return created


def _path(session: Session, link: str) -> str:
    """The link's path under our own base: a NEF behind a proxy may name another host or prefix."""
    try:
        found = urlsplit(link).path
    except ValueError:
        found = ""
    for kind in (AsSessionWithQoSSubscription, MonitoringEventSubscription):
        base = _base(session.settings, kind)
        _, under, number = found.rpartition(f"{base}/")
        if under and number not in ("", ".", "..") and "/" not in number:
            return f"{base}/{quote(unquote(number), safe='')}"
    raise NefError("the link is of no subscription of this NEF and scsAsId")


def _get(session: Session, intake: Intake, created: Created) -> Flow[Created]:
    send = Send("NEF subscription", "GET", _path(session, created.link))
    reply = yield from exchange.call(session, send)
    content = parsed(send, reply)
    try:
        found = _created(type(created.subscription), content, created.link)
    except ValidationError as error:
        intake.refuse("subscription", content, faults_of(error))
        raise NefError(f"{send.told}: {reply.status}, no subscription", reply.status) from None
    assert found is not None
    return found


def _unsubscribe(session: Session, intake: Intake, link: str) -> Flow[None]:
    """One that the NEF does not know is as good as deleted."""
    try:
        yield from exchange.call(session, Send("NEF deletion", "DELETE", _path(session, link)))
    except NefError as error:
        if error.status != 404:
            raise
    intake.unsubscribed(link)


def _requirement(session: Session, intake: Intake, ue_id: str) -> Flow[int | None]:
    path = session.settings.requirement_path.format(ue_id=quote(ue_id, safe=""))
    send = Send("NEF QoS requirement", "GET", path)
    reply = yield from exchange.call(session, send)
    return intake.requirement(ue_id, _content(intake, send, reply))


def _states(session: Session, intake: Intake) -> Flow[Polled]:
    send = Send("NEF states", "GET", session.settings.states_path)
    reply = yield from exchange.call(session, send)
    content = _content(intake, send, reply)
    if not isinstance(content, dict):
        intake.refuse("state", content, [("body", "no object of UEs")])
        raise NefError(f"{send.told}: {reply.status}, no object of UEs", reply.status)
    polled = Polled(ue_ids=list(content))
    for ue_id, state in content.items():
        polled.take(intake.state(ue_id, state))
    return polled


def _ues(session: Session, intake: Intake) -> Flow[list[KnownUe]]:
    """The good ones; a faulty one goes to quarantine."""
    send = Send("NEF inventory", "GET", session.settings.ues_path)
    reply = yield from exchange.call(session, send)
    content = _content(intake, send, reply)
    if not isinstance(content, list):
        raise NefError(f"{send.told}: {reply.status}, no list", reply.status)
    found = []
    for one in content:
        try:
            found.append(KnownUe.read(one))
        except ValidationError as error:
            intake.refuse("inventory", one, faults_of(error))
    return found


def _content(intake: Intake, send: Send, reply: Reply) -> Any:
    """The answer's JSON; anything else is kept in quarantine and raised."""
    try:
        return parsed(send, reply)
    except NefError as error:
        intake.refuse("poll", reply.body, [("body", str(error))])
        raise


class _Collector:
    """What both collectors hold; see `NEFQoSCollector`."""

    def __init__(
        self, settings: NefSettings, intake: Intake, backoff: Backoff | None = None
    ) -> None:
        self.settings, self.intake = settings, intake
        self._session = Session(settings, backoff or Backoff())

    def receive(self, body: bytes) -> Receipt:
        """Keeps or refuses one callback's body; the receipt says what to answer."""
        return self.intake.receive(body)

    def _options(self) -> dict[str, Any]:
        return {
            "base_url": str(self.settings.api_url),
            "timeout": self.settings.timeout_s,
            "verify": _trusted(),
        }


class NEFQoSCollector(_Collector):
    """Collects QoS requirements and reports of a NEF into a journal that survives a crash.

    Its methods raise `NefError` where the NEF gives no good answer and `CircuitOpen` while it is left
    alone after too many failures. What the NEF sends and is faulty is in the intake's quarantine.
    """

    def __init__(
        self, settings: NefSettings, intake: Intake, backoff: Backoff | None = None
    ) -> None:
        """Opens no connection yet; the intake stays the caller's to close."""
        super().__init__(settings, intake, backoff)
        self._client = httpx.Client(**self._options())

    def _run(self, flow: Flow[T]) -> T:
        return exchange.run(flow, self._client, self.settings)

    def login(self) -> None:
        """Gets a token; the other methods do so by themselves and renew it."""
        self._run(_log_in(self._session))

    def subscriptions(
        self, kind: type[Subscription] = AsSessionWithQoSSubscription
    ) -> list[Created]:
        """Our subscriptions at the NEF; faulty and doubled ones are in quarantine."""
        return self._run(_list(self._session, self.intake, kind))

    def subscribe(self, asked: Subscription) -> Created:
        """Subscribes and keeps whom it is about."""
        return self._run(_subscribe(self._session, self.intake, asked))

    def subscription(self, created: Created) -> Created:
        """The subscription as the NEF has it now."""
        return self._run(_get(self._session, self.intake, created))

    def unsubscribe(self, link: str) -> None:
        """Deletes the subscription; what still comes of it is refused."""
        self._run(_unsubscribe(self._session, self.intake, link))

    def poll(self, ue_ids: Iterable[str]) -> Polled:
        """The QoS requirements of the UEs; one UE's failure does not keep the others from their turn."""
        polled = Polled()
        for ue_id in ue_ids:
            try:
                polled.take(self._run(_requirement(self._session, self.intake, ue_id)))
            except (NefError, CircuitOpen) as error:
                polled.failed[ue_id] = str(error)
        return polled

    def poll_states(self) -> Polled:
        """The state of every UE that the NEF knows."""
        return self._run(_states(self._session, self.intake))

    def ues(self) -> list[KnownUe]:
        """The UEs of the NEF's inventory, by all their names; nothing of it is kept."""
        return self._run(_ues(self._session, self.intake))

    def close(self) -> None:
        """Closes the connections and syncs the intake."""
        self._client.close()
        self.intake.sync()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()


class AsyncNEFQoSCollector(_Collector):
    """`NEFQoSCollector` with await; polls several UEs at once."""

    def __init__(
        self, settings: NefSettings, intake: Intake, backoff: Backoff | None = None
    ) -> None:
        """Opens no connection yet; the intake stays the caller's to close."""
        super().__init__(settings, intake, backoff)
        self._client = httpx.AsyncClient(**self._options())

    async def _run(self, flow: Flow[T]) -> T:
        return await exchange.run_async(flow, self._client, self.settings)

    async def login(self) -> None:
        """Gets a token; the other methods do so by themselves and renew it."""
        await self._run(_log_in(self._session))

    async def subscriptions(
        self, kind: type[Subscription] = AsSessionWithQoSSubscription
    ) -> list[Created]:
        """Our subscriptions at the NEF; faulty and doubled ones are in quarantine."""
        return await self._run(_list(self._session, self.intake, kind))

    async def subscribe(self, asked: Subscription) -> Created:
        """Subscribes and keeps whom it is about."""
        return await self._run(_subscribe(self._session, self.intake, asked))

    async def subscription(self, created: Created) -> Created:
        """The subscription as the NEF has it now."""
        return await self._run(_get(self._session, self.intake, created))

    async def unsubscribe(self, link: str) -> None:
        """Deletes the subscription; what still comes of it is refused."""
        await self._run(_unsubscribe(self._session, self.intake, link))

    async def poll(self, ue_ids: Iterable[str]) -> Polled:
        """The QoS requirements of the UEs, `settings.concurrency` at once."""
        polled, free = Polled(), asyncio.Semaphore(self.settings.concurrency)

        async def one(ue_id: str) -> None:
            async with free:
                try:
                    found = await self._run(_requirement(self._session, self.intake, ue_id))
                except (NefError, CircuitOpen) as error:
                    polled.failed[ue_id] = str(error)
                else:
                    polled.take(found)

        async with asyncio.TaskGroup() as tasks:
            for ue_id in ue_ids:
                tasks.create_task(one(ue_id))
        return polled

    async def poll_states(self) -> Polled:
        """The state of every UE that the NEF knows."""
        return await self._run(_states(self._session, self.intake))

    async def ues(self) -> list[KnownUe]:
        """The UEs of the NEF's inventory, by all their names; nothing of it is kept."""
        return await self._run(_ues(self._session, self.intake))

    async def close(self) -> None:
        """Closes the connections and syncs the intake."""
        await self._client.aclose()
        await asyncio.to_thread(self.intake.sync)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """Closes it."""
        await self.close()
