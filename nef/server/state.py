"""The running server: the world and who has subscribed to what; `tick` lets a second pass."""

import asyncio
import contextlib
import math
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID

import sqlalchemy as sa

from nef.server import camara, database, qos_session, ue_watch
from nef.server.callbacks import Callbacks
from nef.server.camara import CamaraSession
from nef.server.ground import nearest_profile
from nef.server.inventory import (
    KEYS,
    Anomaly,
    AnomalyKind,
    Cell,
    Gnb,
    Group,
    Managed,
    Path,
    Scenario,
    Ue,
    city_scenario,
)
from nef.server.line import DatabaseLine
from nef.server.metrics import Metrics
from nef.server.settings import ServerSettings
from nef.server.world import Sample, World
from nef.simulator.city import city_params
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription, UserPlaneNotificationData
from schemas.nef.monitoring_event import MonitoringEventSubscription, MonitoringNotification

Api = Literal["qos", "monitoring"]
KINDS: dict[str, type[Managed]] = {
    "gnbs": Gnb, "cells": Cell, "paths": Path, "ues": Ue, "groups": Group, "anomalies": Anomaly,
}  # fmt: skip


@dataclass
class Subscribed:
    """A subscription, how far it has come with each of its UEs; link: absolute."""

    api: Api
    scs: str
    number: str
    supis: list[str]
    link: str
    asked: AsSessionWithQoSSubscription | MonitoringEventSubscription
    progress: dict[str, qos_session.Progress | ue_watch.Watched]
    targets: list[qos_session.Level] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name among all."""
        return f"{self.api}/{self.scs}/{self.number}"

    def wire(self) -> dict[str, Any]:
        """The message with its link."""
        return {"self": self.link} | self.asked.wire() | {"self": self.link}


@dataclass
class Nef:
    """Everything lives in one event loop; nothing here waits."""

    settings: ServerSettings
    database: DatabaseLine
    metrics: Metrics
    callbacks: Callbacks
    world: World
    started: datetime
    subscriptions: dict[str, Subscribed] = field(default_factory=dict)
    sessions: dict[UUID, CamaraSession] = field(default_factory=dict)
    links: dict[UUID, str] = field(default_factory=dict)

    @classmethod
    def opened(cls, settings: ServerSettings, engine: sa.Engine) -> "Nef":
        """From what the database has, or a fresh city."""
        started = datetime.now(UTC).replace(microsecond=0)
        params = city_params(
            max(settings.ues, 1), settings.sites, 60, seed=settings.seed, start=started
        )
        kept = {kind: list(database.documents(engine, kind).values()) for kind in KINDS}
        if any(kept.values()):
            scenario = Scenario.model_validate(kept)
        else:
            scenario = city_scenario(settings.ues, settings.sites, settings.seed) \
                if settings.ues else Scenario()  # fmt: skip
            replace_inventory(engine, scenario)
        metrics = Metrics()
        callbacks = Callbacks(
            metrics, settings.callback_timeout_s, settings.callback_concurrency,
            settings.callback_queue,
        )  # fmt: skip
        world = World(params, scenario, automatic=settings.network_handovers)
        line = DatabaseLine(engine, metrics.database_failures.inc)
        nef = cls(settings, line, metrics, callbacks, world, started)
        for api in ("qos", "monitoring"):
            for body in database.documents(engine, api).values():
                nef.resume(body)
        return nef

    def now(self) -> datetime:
        """The simulation's time."""
        return self.started + timedelta(seconds=self.world.second)

    def resume(self, body: dict[str, Any]) -> None:
        """Takes a subscription up again after a restart; one whose UE is gone is over."""
        kind = AsSessionWithQoSSubscription if body["api"] == "qos" else MonitoringEventSubscription
        asked = kind.read(body["asked"])
        if set(body["supis"]) <= self.world.index.keys():
            self.take(body["api"], body["scs"], body["number"], body["supis"], body["link"], asked)
        else:
            self.database.write(database.drop, body["api"], f"{body['scs']}/{body['number']}")

    def take(
        self, api: Api, scs: str, number: str, supis: list[str], link: str,
        asked: AsSessionWithQoSSubscription | MonitoringEventSubscription,
    ) -> Subscribed:  # fmt: skip
        """Lets a subscription begin now, in the place of one of the same name."""
        second = self.world.second
        one = Subscribed(api, scs, number, supis, link, asked, {})
        if isinstance(asked, AsSessionWithQoSSubscription):
            one.targets, _ = qos_session.levels(asked)
            one.progress = {supi: qos_session.Progress(second) for supi in supis}
            for supi in supis:
                self.world.override(supi, one.targets[0].five_qi)
        else:
            one.progress = {supi: ue_watch.Watched(second) for supi in supis}
        self.callbacks.stop(one.key)
        self.subscriptions[one.key] = one
        body = {"api": api, "scs": scs, "number": number, "supis": supis, "link": link,
                "asked": asked.wire()}  # fmt: skip
        self.database.write(database.save, api, f"{scs}/{number}", body)
        return one

    def end(self, one: Subscribed, at_once: bool = True) -> None:
        """The subscription is gone; at_once: so is every notification that is not yet delivered."""
        self.subscriptions.pop(one.key, None)
        self.database.write(database.drop, one.api, f"{one.scs}/{one.number}")
        if at_once:
            self.callbacks.stop(one.key)
        else:
            self.callbacks.finish(one.key)
        for supi in one.supis if one.api == "qos" else ():
            self.world.override(supi, self._five_qi(supi))

    def _five_qi(self, supi: str) -> int | None:
        """By which a UE's traffic is scheduled: as its last session has it; None: its own."""
        for one in reversed(self.subscriptions.values()):
            progress = one.progress.get(supi)
            if isinstance(progress, qos_session.Progress) and not progress.ended:
                return one.targets[qos_session.in_force(progress, self.world.second)].five_qi
        for session in self.sessions.values():
            if session.supi == supi and not session.over:
                return camara.FIVE_QI[session.asked.qosProfile]
        return None

    def begin(self, session: CamaraSession, link: str) -> None:
        """Lets a CAMARA session begin; its traffic is scheduled by its profile from now on."""
        self.sessions[session.number], self.links[session.number] = session, link
        self.world.override(session.supi, self._five_qi(session.supi))

    def finish(self, session: CamaraSession) -> None:
        """A CAMARA session is gone at once, and what was to be told of it."""
        self.callbacks.stop(str(session.number))
        del self.sessions[session.number], self.links[session.number]
        self.world.override(session.supi, self._five_qi(session.supi))

    def _pass_sessions(self) -> None:
        """A second of all CAMARA sessions; those that ended long ago go."""
        for one in list(self.sessions.values()):
            sample = self.world.samples.get(one.supi)
            if one.over and self.world.second - one.until_s > camara.KEPT_S:
                self.finish(one)
            elif sample is not None and one.pass_second(sample):
                if one.over:
                    self.world.override(one.supi, self._five_qi(one.supi))
                if one.asked.sink is not None:
                    event = one.event(self.now(), self.links[one.number], self.world.second)
                    self.callbacks.send(str(one.number), one.asked.sink, event)

    def fresh_number(self) -> str:
        """A subscription's name that nobody can guess."""
        return secrets.token_hex(8)

    def tick(self) -> None:
        """A second passes in the world; what is to be told of it goes out."""
        before = self.world.handovers
        self.world.step()
        self.metrics.seconds.inc()
        self.metrics.moves.inc(self.world.handovers - before)
        for one in list(self.subscriptions.values()):
            for supi, progress in one.progress.items():
                sample = self.world.samples.get(supi)
                if sample is None or progress.ended:
                    continue
                content = self._told(one, supi, sample)
                if content is not None:
                    self.callbacks.send(one.key, one.asked.notificationDestination, content)
            if all(each.ended for each in one.progress.values()):
                self.end(one, at_once=False)
        self._schedule()
        self._pass_sessions()

    def _told(self, one: Subscribed, supi: str, sample: Sample) -> dict[str, Any] | None:
        """What a second's notification about one UE bears; None: nothing is to be told."""
        asked, progress = one.asked, one.progress[supi]
        ue = self.world.scenario.ues[self.world.index[supi]]
        if isinstance(progress, qos_session.Progress):
            assert isinstance(asked, AsSessionWithQoSSubscription)
            found = qos_session.reports(asked, one.targets, progress, sample)
            if not found:
                return None
            told = UserPlaneNotificationData(transaction=one.link, eventReports=found).wire()
            group = len(one.supis) > 1 and ue.ipv4 is not None  # only then it has to be said
            return told | {"ueIpv4Addr": ue.ipv4} if group else told
        assert isinstance(asked, MonitoringEventSubscription)
        report = ue_watch.report(asked, progress, sample, self.now())
        over = all(each.ended for each in one.progress.values())
        if report is None and not over:
            return None
        if report is not None and asked.externalGroupId is not None:
            report = report.model_copy(update={"externalId": ue.external_id or supi})
        return MonitoringNotification.model_validate(
            {
                "subscription": one.link,
                "monitoringEventReports": None if report is None else [report],
                "cancelInd": True if over else None,
            }
        ).wire()

    def _schedule(self) -> None:
        """Each flow is scheduled by what its session has in force now."""
        for supi in {
            supi
            for one in self.subscriptions.values()
            if len(one.targets) > 1
            for supi in one.supis
        }:
            wanted = self._five_qi(supi)
            if wanted is not None and self.world.overrides.get(supi) != nearest_profile(wanted):
                self.world.override(supi, wanted)

    async def run(self) -> None:
        """Ticks at the settings' speed for ever; what it cannot keep up with it leaves out."""
        speed = self.settings.speed
        if speed <= 0:
            return
        due = time.monotonic()
        while True:
            due += 1.0 / speed
            behind = time.monotonic() - due
            self.metrics.behind.set(max(behind, 0.0))
            if behind > 1.0:
                due = time.monotonic()
            await asyncio.sleep(max(-behind, 0.0))
            self.tick()

    def measure(self) -> None:
        """Sets the gauges."""
        for api in ("qos", "monitoring"):
            count = sum(one.api == api for one in self.subscriptions.values())
            self.metrics.subscriptions.labels(api).set(count)
        served = sum(one.cell_id is not None for one in self.world.samples.values())
        self.metrics.ues.labels("served").set(served)
        self.metrics.ues.labels("without_coverage").set(len(self.world.names) - served)
        self.metrics.cells.set(self.world.plan.cells)
        for kind in get_args(AnomalyKind):
            wrong = [one for one in self.world.wrong.values() if one.asked.kind == kind]
            count = sum(one.active(self.world.second - 1) for one in wrong)
            self.metrics.anomalies.labels(kind).set(count)
        self.metrics.delivered.set(sum(one.downlink_mbps for one in self.world.samples.values()))
        given = self.world.given
        self.metrics.used.ratio = (
            {}
            if given is None
            else dict(zip(self.world.plan.cell_ids, given.prb_used[0].tolist(), strict=True))
        )

    async def close(self) -> None:
        """Stops what is under way."""
        with contextlib.suppress(asyncio.CancelledError):
            await self.callbacks.close()
        await asyncio.to_thread(self.database.close)


def replace_inventory(engine: sa.Engine, scenario: Scenario) -> None:
    """Writes a scenario down in the place of what was there."""
    database.replace_all(
        engine,
        {
            kind: [(getattr(o, key), o.model_dump(mode="json")) for o in getattr(scenario, kind)]
            for kind, key in KEYS.items()
        },
    )


def finite(value: float | None, digits: int = 3) -> float | None:
    """A number for JSON; None for one that is none."""
    return None if value is None or not math.isfinite(value) else round(value, digits)
