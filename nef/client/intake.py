"""What was received to what is kept: a journal line, or a quarantine line with its reasons.

Nothing is written before subscriber ids are pseudonymised; exact positions are never written.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ValidationError

from nef.client.journal import Journal, read_journal
from nef.client.payload import RefusedPayload, read_requirement
from nef.client.protect import Protection
from nef.client.read_json import NotJson, read_json
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription, UserPlaneNotificationData
from schemas.nef.camara import QosStatusChanged
from schemas.nef.common import ProblemDetails, problem
from schemas.nef.internal import session_reports, target_of_subscription, ue_events
from schemas.nef.monitoring_event import MonitoringEventSubscription, MonitoringNotification
from schemas.nef.ue_state import UeState
from schemas.nef.wire import faults_of

Faults = Sequence[tuple[str, str]]
Subscription = AsSessionWithQoSSubscription | MonitoringEventSubscription
MAX_BODY_BYTES = 1 << 20
_REMEMBERED_EVENTS = 100_000
_REMEMBERED_LINKS = 65_536


@dataclass(frozen=True)
class Receipt:
    """What became of a callback: its HTTP status, the problem if it was refused, the lines written."""

    status: int
    problem: ProblemDetails | None = None
    sequences: tuple[int, ...] = ()


def _now() -> datetime:
    return datetime.now(UTC)


class Intake:
    """The journal, its quarantine beside it (`<name>.quarantine.ndjson`), and what they tell of
    subscriptions: reopened after a crash, it knows again which there are and which are deleted."""

    def __init__(
        self,
        path: Path,
        protection: Protection,
        batch: int = 64,
        required_thresholds: Iterable[str] = (),
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """Opens both files; a line that a crash tore goes to quarantine."""
        self._protection, self._clock = protection, clock
        self.subscription_key = lru_cache(_REMEMBERED_LINKS)(self._subscription_key)
        self._pseudonym = lru_cache(_REMEMBERED_LINKS)(self._pseudonym_of)
        self._required = tuple(required_thresholds)
        self.journal = Journal(path, batch)
        try:
            self.quarantine = Journal(quarantine_of(path), batch)
        except BaseException:
            self.journal.close()
            raise
        self._ue_of: dict[str, str | None] = {}
        self._deleted: set[str] = set()
        self.states_tell_qos = False  # since it was opened
        self._state_of: dict[str, str] = {}  # when each UE's last state was
        self._events: OrderedDict[str, None] = OrderedDict()
        try:
            for record in read_journal(path):
                self._remember(record)
        except BaseException:
            self.close()
            raise
        for torn in (self.journal.torn, self.quarantine.torn):
            if torn:
                self.refuse("journal", torn, [("line", "torn by a crash")])

    def _remember(self, record: dict[str, Any]) -> None:
        key = str(record.get("subscription"))
        match record.get("kind"):
            case "subscribed":
                self._ue_of[key] = record["ue_id"]
                self._deleted.discard(key)
            case "unsubscribed":
                self._ue_of.pop(key, None)
                self._deleted.add(key)
            case "ue_state" if record.get("event_timestamp"):
                self._state_of[record["ue_id"]] = record["event_timestamp"]
            case "camara_status":
                self._seen(record["event_id"])

    def _seen(self, event: str) -> bool:
        """Whether the event was seen; it is from now on."""
        known = event in self._events
        self._events[event] = None
        self._events.move_to_end(event)
        if len(self._events) > _REMEMBERED_EVENTS:
            self._events.popitem(last=False)
        return known

    def _keep(self, kind: str, **fields: Any) -> int:
        record = {"received_at": self._clock().isoformat(), "kind": kind} | fields
        number = self.journal.append(record)
        self._remember(record)
        return number

    def refuse(self, source: str, content: bytes | str | object, faults: Faults) -> int:
        """Writes what was refused, protected, with every reason; returns its line's number."""
        if not isinstance(content, bytes | str):
            try:
                content = json.dumps(content, default=repr, skipkeys=True)
            except (RecursionError, ValueError):
                content = f"{type(content).__name__} that JSON cannot say"
        scrub = self._protection.scrub
        return self.quarantine.append(
            {
                "received_at": self._clock().isoformat(),
                "source": source,
                "reasons": [f"{scrub(place)}: {scrub(reason)}" for place, reason in faults],
                "text": self._protection.text(content),
            }
        )

    # -- what the client did ----------------------------------------------------------------------

    def began(self, network: str) -> int:
        """Keeps that a capture began, and of which network, by a name that tells nobody where it is."""
        return self._keep("capture", network=network)

    def _subscription_key(self, link: str) -> str:
        """A subscription's link without host and query, protected: what journal lines call it."""
        try:
            path = urlsplit(link).path.rstrip("/")
        except ValueError:  # no URL at all
            path = link
        return self._protection.scrub(path or link)

    def _pseudonym_of(self, subscriber: str | None) -> str | None:
        return None if subscriber is None else self._protection.pseudonym(subscriber)

    def subscribed(self, link: str, asked: Subscription) -> int:
        """Keeps that the subscription exists and whom it is about."""
        about, five_qi = "monitoring", None
        if isinstance(asked, AsSessionWithQoSSubscription):
            about, five_qi = "qos", target_of_subscription(asked).five_qi
        return self._keep(
            "subscribed",
            subscription=self.subscription_key(link),
            ue_id=self._pseudonym(asked.subscriber()),
            about=about,
            five_qi=five_qi,
        )

    def listed(self, link: str, found: Subscription) -> None:
        """Keeps a subscription that the NEF has and we know nothing of: its answer was lost once."""
        key = self.subscription_key(link)
        if key not in self._ue_of and key not in self._deleted:
            self.subscribed(link, found)

    def unsubscribed(self, link: str) -> int:
        """Keeps that the subscription is gone: later notifications of it are refused."""
        return self._keep("unsubscribed", subscription=self.subscription_key(link))

    # -- what was polled --------------------------------------------------------------------------

    def requirement(self, ue_id: str, payload: object) -> int | None:
        """Keeps the requirement; None where it was refused into quarantine."""
        try:
            found = read_requirement(payload, self._required)
        except RefusedPayload as refused:
            self.refuse("requirement", {"ue_id": ue_id, "payload": payload}, refused.violations)
            return None
        stated = vars(found) | {"loss_ratio": found.loss_ratio}
        return self._keep("requirement", ue_id=self._protection.pseudonym(ue_id), **stated)

    def state(self, ue_id: str, content: object) -> int | None:
        """Keeps a UE's polled state; None where it was refused into quarantine, 0 where the NEF says by
        its time that nothing has happened since the one before."""
        try:
            state = UeState.read(content)
        except ValidationError as error:
            self.refuse("state", {"ue_id": ue_id, "state": content}, faults_of(error))
            return None
        self.states_tell_qos |= state.qos is not None
        who, when = self._protection.pseudonym(ue_id), state.event_timestamp
        if when is not None and self._state_of.get(who) == when.isoformat():
            return 0
        latitude, longitude = self._protection.position(state.latitude, state.longitude)
        return self._keep(
            "ue_state",
            ue_id=who,
            event_timestamp=None if when is None else when.isoformat(),
            cell_id=state.cell_id,
            gnb_id=state.gnb_id,
            five_qi=state.five_qi,
            latitude_deg=latitude,
            longitude_deg=longitude,
            speed_mps=state.speed_mps,
            qos=None if state.qos is None else state.qos.model_dump(),
            cells=[cell.model_dump(exclude_none=True) for cell in state.cells],
        )

    # -- what was called back ---------------------------------------------------------------------

    def receive(self, body: bytes) -> Receipt:
        """One callback's body, kept or refused; the receipt says what to answer.

        A CAMARA event that came before is acknowledged and not kept again. A notification of a deleted
        subscription is refused with 404, anything that is no notification with 400.
        """
        if len(body) > MAX_BODY_BYTES:
            reason = f"{len(body)} bytes, at most {MAX_BODY_BYTES}"
            return self._refused(413, body[:MAX_BODY_BYTES], [("body", reason)])
        try:
            content = read_json(body)
        except NotJson as error:
            return self._refused(400, body, [("body", str(error))])
        if not isinstance(content, dict):
            return self._refused(400, body, [("body", "no object")])
        for mark, read in (
            ("transaction", self._user_plane),
            ("subscription", self._monitoring),
            ("specversion", self._camara),
        ):
            if mark in content:
                try:
                    return read(content, body)
                except ValidationError as error:
                    return self._refused(400, body, faults_of(error))
        known = "no notification: none of transaction, subscription, specversion"
        return self._refused(400, body, [("body", known)])

    def _refused(self, status: int, body: bytes, faults: Faults) -> Receipt:
        self.refuse("callback", body, faults)
        scrub = self._protection.scrub
        title = {404: "Unknown subscription", 413: "Too large"}.get(status, "Invalid notification")
        told = [(scrub(place)[:200], scrub(reason)[:400]) for place, reason in faults[:50]]
        return Receipt(status, problem(status, title, told))

    def _user_plane(self, content: object, body: bytes) -> Receipt:
        notification = UserPlaneNotificationData.read(content)
        key = self.subscription_key(notification.transaction)
        if key in self._deleted:
            return self._refused(404, body, [("transaction", "the subscription was deleted")])
        ue_id = self._pseudonym(notification.subscriber()) or self._ue_of.get(key)
        reports = [
            self._keep("qos_report", subscription=key, ue_id=ue_id, **vars(report))
            for report in session_reports(notification)
        ]
        return Receipt(204, sequences=tuple(reports))

    def _monitoring(self, content: object, body: bytes) -> Receipt:
        notification = MonitoringNotification.read(content)
        key = self.subscription_key(notification.subscription)
        if key in self._deleted:
            return self._refused(404, body, [("subscription", "the subscription was deleted")])
        numbers = []
        for event in ue_events(notification):
            fields = dict(vars(event))
            ue_id = self._pseudonym(fields.pop("subscriber")) or self._ue_of.get(key)
            fields["event"] = fields.pop("kind")
            numbers.append(self._keep("ue_event", subscription=key, ue_id=ue_id, **fields))
        if notification.cancelInd:
            numbers.append(self._keep("unsubscribed", subscription=key))
        return Receipt(204, sequences=tuple(numbers))

    def _camara(self, content: object, _: bytes) -> Receipt:
        event = QosStatusChanged.read(content)
        event_id = self._protection.scrub(f"{event.source} {event.id}")
        if event_id in self._events:
            return Receipt(204)
        number = self._keep(
            "camara_status",
            event_id=event_id,
            event_timestamp=event.time,
            session_id=str(event.data.sessionId),
            status=event.data.qosStatus,
            reason=event.data.statusInfo,
        )
        return Receipt(204, sequences=(number,))

    def sync(self) -> None:
        """Waits until the disk has all that was received."""
        self.journal.sync()
        self.quarantine.sync()

    def close(self) -> None:
        """Syncs and lets go of both files."""
        self.journal.close()
        self.quarantine.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


def quarantine_of(path: Path) -> Path:
    """The quarantine that belongs to a journal."""
    return path.with_name(f"{path.stem}.quarantine.ndjson")
