"""The running server: the world and who has subscribed to what; `tick` lets a second pass."""

import asyncio
import contextlib
import math
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from nef.server import database, qos_session, ue_watch
from nef.server.callbacks import Callbacks
from nef.server.inventory import Cell, Gnb, Path, Scenario, Ue, city_scenario
from nef.server.line import DatabaseLine
from nef.server.metrics import Metrics
from nef.server.settings import ServerSettings
from nef.server.world import World
from nef.simulator.city import city_params
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription, UserPlaneNotificationData
from schemas.nef.monitoring_event import MonitoringEventSubscription, MonitoringNotification

Api = Literal["qos", "monitoring"]
KINDS: dict[str, tuple[str, type[Gnb] | type[Cell] | type[Path] | type[Ue]]] = {
    "gnbs": ("gnb_id", Gnb), "cells": ("cell_id", Cell), "paths": ("path_id", Path),
    "ues": ("supi", Ue),
}  # fmt: skip


@dataclass
class Subscribed:
    """A subscription and how far it has come; link: absolute."""

    api: Api
    scs: str
    number: str
    supi: str
    link: str
    asked: AsSessionWithQoSSubscription | MonitoringEventSubscription
    progress: qos_session.Progress | ue_watch.Watched
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
        if body["supi"] in self.world.index:
            self.take(body["api"], body["scs"], body["number"], body["supi"], body["link"], asked)
        else:
            self.database.write(database.drop, body["api"], f"{body['scs']}/{body['number']}")

    def take(
        self, api: Api, scs: str, number: str, supi: str, link: str,
        asked: AsSessionWithQoSSubscription | MonitoringEventSubscription,
    ) -> Subscribed:  # fmt: skip
        """Lets a subscription begin now, in the place of one of the same name."""
        second = self.world.second
        if isinstance(asked, AsSessionWithQoSSubscription):
            targets, _ = qos_session.levels(asked)
            one = Subscribed(
                api, scs, number, supi, link, asked, qos_session.Progress(second), targets
            )
            self.world.override(supi, targets[0].five_qi)
        else:
            one = Subscribed(api, scs, number, supi, link, asked, ue_watch.Watched(second))
        self.callbacks.stop(one.key)
        self.subscriptions[one.key] = one
        body = {"api": api, "scs": scs, "number": number, "supi": supi, "link": link,
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
        others = [s for s in self.subscriptions.values() if s.api == "qos" and s.supi == one.supi]
        if one.api == "qos":
            self.world.override(one.supi, others[-1].targets[0].five_qi if others else None)

    def fresh_number(self) -> str:
        """A subscription's name that nobody can guess."""
        return secrets.token_hex(8)

    def tick(self) -> None:
        """A second passes in the world; what is to be told of it goes out."""
        before = self.world.handovers
        self.world.step()
        self.metrics.seconds.inc()
        self.metrics.moves.inc(self.world.handovers - before)
        now = self.now()
        for one in list(self.subscriptions.values()):
            sample = self.world.samples.get(one.supi)
            if sample is None:
                continue
            url = one.asked.notificationDestination
            content: dict[str, Any] | None = None
            if isinstance(one.progress, qos_session.Progress):
                assert isinstance(one.asked, AsSessionWithQoSSubscription)
                found = qos_session.reports(one.asked, one.targets, one.progress, sample)
                if found:
                    told = UserPlaneNotificationData(transaction=one.link, eventReports=found)
                    content = told.wire()
            else:
                assert isinstance(one.asked, MonitoringEventSubscription)
                report = ue_watch.report(one.asked, one.progress, sample, now)
                if report is not None or one.progress.ended:
                    content = MonitoringNotification.model_validate(
                        {"subscription": one.link,
                         "monitoringEventReports": None if report is None else [report],
                         "cancelInd": True if one.progress.ended else None}
                    ).wire()  # fmt: skip
            if content is not None:
                self.callbacks.send(one.key, url, content)
            if one.progress.ended:
                self.end(one, at_once=False)

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
            for kind, (key, _) in KINDS.items()
        },
    )


def finite(value: float | None, digits: int = 3) -> float | None:
    """A number for JSON; None for one that is none."""
    return None if value is None or not math.isfinite(value) else round(value, digits)
