"""`make capture`: what a NEF says for a while, kept durably for `make run SOURCE=nef`."""

import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import polars as pl
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lifecycle.pseudonym import coarsened, pseudonym, read_key, redacted, scrub
from nef.client.callback import callback_app
from nef.client.collector import Created, NEFQoSCollector
from nef.client.exchange import NefError
from nef.client.intake import Intake, Subscription
from nef.client.journal import read_journal
from nef.client.protect import Protection
from nef.client.retry import CircuitOpen
from nef.client.settings import NefSettings, read_settings
from nef.simulator import SimulatorParams
from pipelines.admit import split
from pipelines.capture_network import Simulated, serving, simulated
from pipelines.collect import Params
from pipelines.params import PARAMS_FILE, read_params
from pipelines.sources.nef import JOURNAL, NefParams, nef
from schemas.errors import QosError
from schemas.five_qi import DEFAULT_FIVE_QI
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventSubscription
from schemas.nef.ue_state import KnownUe

CALLBACK = "/qos-capture"  # where our notifications go; a subscription that names it is a capture's
REQUIREMENTS_EVERY = 10  # polls of states for one of requirements
BATCH = 256
MOST_REPORTS = 1_000_000_000
PAUSE = timedelta(hours=1)  # of simulated time between two captures


T = TypeVar("T")


@dataclass
class Names:
    """Every name of a UE to its supi, so that one UE has one pseudonym whatever it is called."""

    supi_of: dict[str, str] = field(default_factory=dict)

    def learn(self, ues: list[KnownUe]) -> None:
        """Takes the names of an inventory."""
        for ue in ues:
            self.supi_of |= {name.lower(): ue.supi for name in ue.names()}

    def supi(self, name: str) -> str:
        """The supi; the name itself where it is none of the inventory's."""
        bare = name.lower().removeprefix("extid-").removeprefix("msisdn-")
        return self.supi_of.get(bare, name)


@dataclass
class Course:
    """How a capture went: polls, and by reason what went wrong and was gone over."""

    polls: int = 0
    unchanged: int = 0
    failures: Counter[str] = field(default_factory=Counter)


def protection(key: bytes, grid_deg: float, names: Names) -> Protection:
    """Pseudonyms by the machine's key, as `collect` makes them, and positions on its grid."""

    def coarse(latitude: float, longitude: float) -> tuple[float, float]:
        place = pl.DataFrame({"latitude_deg": [latitude], "longitude_deg": [longitude]})
        found: tuple[float, float] = coarsened(place, grid_deg).row(0)
        return found

    return Protection(
        pseudonym=lambda name: pseudonym(names.supi(name), key),
        scrub=lambda text: scrub(text, key),
        coarse=coarse,
    )


def capture(
    duration_s: int, settings: NefSettings | None, interval_s: int, folder: Path, grid_deg: float,
    city: tuple[int, int, int] = (24, 4, 1), callback: tuple[str, int] = ("127.0.0.1", 0),
    told: Callable[[int], None] = lambda _: None,
) -> Course:  # fmt: skip
    """Captures for so many seconds into the folder's journal.

    settings: how to reach the NEF; None: a simulated one of (UEs, sites, seed), in its own time.
    callback: host and port of the notification destination; told: seconds done. Raises `QosError`
    where the NEF cannot be reached at the start or the journal is of another network.
    """
    if duration_s < 1 or not 1 <= interval_s <= duration_s:
        raise QosError(
            f"duration {duration_s} s, interval {interval_s} s: 1 <= interval <= duration is allowed"
        )
    path = folder / JOURNAL
    network = _one_network(path, settings)
    names = Names()
    with ExitStack() as stack:
        own = None
        if settings is None:
            own = stack.enter_context(simulated(*city, start=_simulated_start(path)))
            own.advance(1)
            settings = own.settings
        clock = own.now if own else lambda: datetime.now(UTC)
        guard = protection(read_key(), grid_deg, names)
        intake = stack.enter_context(Intake(path, guard, BATCH, clock=clock))
        collector = stack.enter_context(NEFQoSCollector(settings, intake))
        intake.began(network)
        host, port = callback
        url, _ = stack.enter_context(serving(callback_app(intake, CALLBACK), host, port))
        course = Course()
        links = stack.enter_context(
            _subscribed(collector, names, url + CALLBACK, interval_s, course)
        )
        stack.enter_context(_terminable())
        _poll(collector, links, duration_s, interval_s, own, course, told)
    return course


def _one_network(path: Path, settings: NefSettings | None) -> str:
    """What the journal calls the network; `QosError` where it holds another's."""
    key = read_key()
    place = urlsplit(str(settings.api_url)).netloc if settings else "simulated"
    network = f"network-{pseudonym(place, key)[3:]}"
    for record in read_journal(path):
        if record["kind"] == "capture" and record["network"] != network:
            raise QosError(
                f"{path}: holds rows of another network, or under another key; move it away or name "
                "another --folder"
            )
        break
    return network


def _simulated_start(path: Path) -> datetime:
    """After all that the journal has, else the simulator's own start: no second is simulated twice."""
    last = None
    for record in read_journal(path):
        last = record["received_at"]
    if last is None:
        return SimulatorParams().start
    return (datetime.fromisoformat(last) + PAUSE).replace(minute=0, second=0, microsecond=0)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a capture as Ctrl-C does: in order."""

    def stop(_: int, __: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        pass  # what was received is kept and told
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _subscribed(
    collector: NEFQoSCollector, names: Names, url: str, interval_s: int, course: Course
) -> Iterator[list[str]]:
    """The supis to poll requirements of; every UE's events are subscribed until left."""
    _clear(collector)
    ues = _tried(collector.ues, course) or []
    names.learn(ues)
    first = collector.poll_states()  # the one answer that a capture cannot do without
    course.polls += 1
    course.unchanged += first.unchanged
    period_s = None if collector.intake.states_tell_qos else interval_s
    asked = [one for ue in ues for one in _wanted(ue, url, period_s)]
    made: list[Created] = []
    try:
        for one in asked:
            created = _tried(lambda one=one: collector.subscribe(one), course)  # type: ignore[misc]
            if created is not None:
                made.append(created)
        yield [ue.supi for ue in ues] or first.ue_ids
    finally:
        for created in made:
            _tried(lambda created=created: collector.unsubscribe(created.link), course)  # type: ignore[misc]


def _wanted(ue: KnownUe, url: str, report_s: int | None) -> list[Subscription]:
    """Where the UE is and whether it is lost; report_s: and a report of its QoS so often. A UE is
    called by its external id, else by its number; one that has neither is polled only."""
    number = ue.msisdn or ue.supi[-15:]
    who = {"externalId": ue.external_id} if ue.external_id else {"msisdn": number}
    if not ue.external_id and not re.fullmatch(r"[0-9]{5,15}", number):
        return []
    common = who | {"notificationDestination": url, "maximumNumberOfReports": MOST_REPORTS}
    wanted: list[Subscription] = [
        MonitoringEventSubscription.model_validate(common | {"monitoringType": kind})
        for kind in ("LOCATION_REPORTING", "LOSS_OF_CONNECTIVITY")
    ]
    if report_s is not None and (ue.ipv4 or ue.ipv6):
        address = {"ueIpv4Addr": ue.ipv4} if ue.ipv4 else {"ueIpv6Addr": ue.ipv6}
        monitor = {"reqQosMonParams": ["DOWNLINK", "UPLINK", "ROUND_TRIP"],
                   "repFreqs": ["PERIODIC"], "repPeriod": report_s}  # fmt: skip
        content = address | {"notificationDestination": url, "qosMonInfo": monitor,
                             "qosReference": str(ue.five_qi or DEFAULT_FIVE_QI)}  # fmt: skip
        wanted.append(AsSessionWithQoSSubscription.model_validate(content))
    return wanted


def _clear(collector: NEFQoSCollector) -> None:
    """Ends the subscriptions that a killed capture has left at the NEF."""
    for kind in (AsSessionWithQoSSubscription, MonitoringEventSubscription):
        for created in collector.subscriptions(kind):
            if urlsplit(created.subscription.notificationDestination).path == CALLBACK:
                collector.unsubscribe(created.link)


def _tried(act: Callable[[], T], course: Course) -> T | None:
    """What it gives; None where the NEF gives no good answer, which is counted and gone over."""
    try:
        return act()
    except (NefError, CircuitOpen) as error:
        course.failures[_reason(error)] += 1
        return None


def _reason(error: QosError) -> str:
    return "left alone after failures" if isinstance(error, CircuitOpen) else redacted(str(error))


def _poll(
    collector: NEFQoSCollector, supis: list[str], duration_s: int, interval_s: int,
    own: Simulated | None, course: Course, told: Callable[[int], None],
) -> None:  # fmt: skip
    """Polls every interval until the duration is over; a poll that fails is counted, not the end."""
    began = time.monotonic()
    for number, second in enumerate(range(0, duration_s, interval_s)):
        if own is None:
            time.sleep(max(0.0, began + second - time.monotonic()))
            if time.monotonic() - began > duration_s:
                return
        else:
            own.advance(interval_s)
        found = _tried(collector.poll_states, course)
        course.polls += 1
        if found is not None:
            course.unchanged += found.unchanged
        if number % REQUIREMENTS_EVERY == 0:
            asked = collector.poll(supis)
            course.failures.update(redacted(reason) for reason in asked.failed.values())
        told(min(second + interval_s, duration_s))


def main(
    duration: Annotated[int, typer.Option(help="seconds to capture")] = 600,
    url: Annotated[
        str | None,
        typer.Option(
            help="the NEF, which is asked as NEF_… of the environment say; else simulated"
        ),
    ] = None,
    interval: Annotated[int, typer.Option(help="seconds between two polls")] = 1,
    folder: Annotated[Path | None, typer.Option(help="where; collect.nef.captured")] = None,
    ues: Annotated[int, typer.Option(help="UEs of the simulated network")] = 24,
    sites: Annotated[int, typer.Option(help="its sites of three cells")] = 4,
    seed: Annotated[int, typer.Option(help="its seed")] = 1,
    callback_host: Annotated[str, typer.Option(help="address for notifications")] = "127.0.0.1",
    callback_port: Annotated[int, typer.Option(help="its port; 0: a free one")] = 0,
) -> None:
    """Captures what a NEF says, for `make run SOURCE=nef`; a second capture goes on where one ended.

    Without --url a simulated network is captured, in its own time: as fast as it can be asked.
    """
    params = read_params(PARAMS_FILE, "collect", Params)
    place = folder or Path(params.nef.captured)
    settings = None if url is None else _reached(url)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("capturing"), BarColumn(), TextColumn("{task.completed} of {task.total} s"),
        TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("capture", total=duration)
        course = capture(
            duration, settings, interval, place, params.grid_deg, (ues, sites, seed),
            (callback_host, callback_port), lambda done: bar.update(task, completed=done),
        )  # fmt: skip
    _summary(place, params.nef, course)


def _reached(url: str) -> NefSettings:
    """The environment's settings with this URL."""
    settings = read_settings()
    try:
        return settings.model_validate(settings.model_dump() | {"api_url": url})
    except ValidationError:
        raise QosError("--url: no http or https URL") from None


def _summary(folder: Path, params: NefParams, course: Course) -> None:
    """All that the journal holds, as admission will see it."""
    console = Console()
    found = nef(replace(params, captured=str(folder)))
    table = Table(title=f"{folder / JOURNAL}", title_justify="left")
    for name in ("table", "rows", "accepted", "refused", "by reason"):
        table.add_column(name, justify="left" if name in ("table", "by reason") else "right")
    now = datetime.now(UTC)
    for name, rows in found.tables.items():
        good, bad = split(name, rows, now)
        reasons = Counter(bad["reason"].to_list()).most_common(4)
        told = "\n".join(f"{count:,} {reason}" for reason, count in reasons)
        table.add_row(name, f"{len(rows):,}", f"{len(good):,}", f"{len(bad):,}", told)
    console.print(table)
    console.print(f"polls   {course.polls:,}; {course.unchanged:,} states said nothing new")
    for reason, count in course.failures.most_common():
        console.print(f"failed  {count:,} {reason}", markup=False)
    console.print("next    make run SOURCE=nef")


def run() -> None:
    """The command; a fault is one line."""
    try:
        typer.run(main)
    except QosError as error:
        sys.exit(redacted(str(error)))


if __name__ == "__main__":
    run()
