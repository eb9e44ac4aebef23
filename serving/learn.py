"""From a network to a judged model in one command: collects, trains, and says what the model gains.

    python -m serving.learn simulator
    python -m serving.learn nef --nef-url https://nef.example.net --duration 3600 --interval 1
    python -m serving.learn nef --duration 3600 --job

At once it works in processes of its own; with --job a running service does, and goes on after Ctrl-C. A
model that gains becomes a challenger, any other is refused with the evidence.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from schemas.errors import QosError
from schemas.nef.wire import faults_of
from serving.captures import COLLECTION_MARGIN_S, capture_of
from serving.client import Access, DecisionClient, job, post, train
from serving.job_files import COMMANDS, DONE
from serving.jobs import Bounds, Jobs
from serving.messages.jobs import CollectRequest
from serving.samples import TrainRequest
from serving.settings import read_settings

LOOK_S = 0.2
MODEL = "qos"
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


class Standing(Protocol):
    """How a job stands, here or at a service."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def progress(self) -> float: ...
    @property
    def stage(self) -> str: ...
    @property
    def result(self) -> dict[str, Any] | None: ...
    @property
    def error(self) -> str | None: ...


Look = Callable[[str], Standing]


def at_once(asked: TrainRequest, collection: CollectRequest | None) -> int:
    """Collects (if asked) and trains in a folder that goes afterwards; the exit code."""
    settings = read_settings()
    captures = (settings.data / "captures").absolute()
    bounds = Bounds(seconds=settings.training_s, niceness=0)
    with (
        tempfile.TemporaryDirectory(prefix="learn-") as scratch,
        Jobs(Path(scratch), COMMANDS, bounds) as jobs,
    ):

        def look(job_id: str) -> Standing:
            return jobs.wait(job_id, LOOK_S)

        capture = asked.capture
        if collection is not None:
            duration_s = collection.duration_s or settings.collect_s
            content = {
                "duration_s": duration_s,
                "interval_s": collection.interval_s or settings.collect_every_s,
                "ue_ids": collection.ue_ids,
                "captures": str(captures),
            }
            files = {"request.json": orjson.dumps(content)}
            made = jobs.submit("collect", files, most_s=duration_s + COLLECTION_MARGIN_S)
            collected = follow(look, made.id)
            tell_collection(collected)
            if collected.state != "succeeded":
                return 1
            capture = made.id
        elif asked.source == "nef":
            capture, _ = capture_of(capture, jobs, captures)
        content = {
            "source": asked.source,
            "capture": capture,
            "captures": str(captures),
            "tasks": asked.tasks,
            "seed": asked.seed,
            "account": None,
            "name": MODEL,
            "registry_uri": settings.registry_uri,
            "params": {},
        }
        submitted = jobs.submit("train", {"request.json": orjson.dumps(content)})
        return tell_training(follow(look, submitted.id))


def at_service(
    asked: TrainRequest,
    collection: CollectRequest | None,
    watched: str | None,
    url: str,
    api_key: str | None,
) -> int:
    """The same by a running service, which goes on when this ends, or only a look at one of its jobs;
    the exit code."""
    ids = [] if watched is None else [watched]
    with DecisionClient(url, Access(api_key=api_key), timeout_s=60) as service:
        try:
            if watched is None:
                _submit(asked, collection, service, ids)
            return _follow_all(ids, service)
        except KeyboardInterrupt:
            if not ids:
                raise
    print(
        f"\nthe service goes on; look: python -m serving.learn --follow {ids[-1]} --url {url}"
        f"\nend it: curl -X DELETE {url}/api/jobs/{ids[0]}"
    )
    return INTERRUPTED


def _submit(
    asked: TrainRequest,
    collection: CollectRequest | None,
    service: DecisionClient,
    ids: list[str],
) -> None:
    """Adds the ids of the jobs as the service takes them."""
    content = asked.model_dump(exclude_none=True, exclude_defaults=True)
    if collection is not None:
        given = collection.model_dump(exclude_none=True)
        ids.append(str(service.run(post("/api/collect-data", given))["id"]))
        content = content | {"source": "nef", "capture": ids[0]}
        print(f"job {ids[0]} collects; its capture bears this name", flush=True)
    ids.append(service.run(train(content)).id)
    print(f"job {ids[-1]} trains", flush=True)


def _follow_all(ids: list[str], service: DecisionClient) -> int:
    """Shows the jobs one after the other; the exit code of the last."""

    def look(job_id: str) -> Standing:
        time.sleep(LOOK_S)
        return service.run(job(job_id))

    code = 0
    for job_id in ids:
        found = follow(look, job_id)
        kept = found.result is not None and "rounds" in found.result
        code = tell_collection(found) if kept else tell_training(found)
    return code


def follow(look: Look, job_id: str) -> Standing:
    """The job when it is done; until then its stage is shown."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("waiting", total=1.0)
        while (found := look(job_id)).state not in DONE:
            bar.update(task, completed=found.progress, description=found.stage)
    return found


def tell_collection(found: Standing) -> int:
    """Prints what a collection kept; 0 if it has a capture."""
    result = found.result or {}
    if result:
        print(
            f"collected  {result['samples']:,} answers of {result['ues']:,} UEs kept in "
            f"{result['rounds']:,} rounds; {result['refused']:,} refused, {result['failed']:,} "
            "without an answer"
        )
        for reason, count in result["failures"].items():
            print(f"           {count:,} {reason}")
    if found.state != "succeeded":
        return _refused("collection", found)
    print(f"capture    {result['capture']}")
    return 0


def tell_training(found: Standing) -> int:
    """Prints the verdict with its evidence; 0 if the model became a challenger."""
    result = found.result or {}
    if admission := result.get("admission"):
        print(
            f"rows       {admission['read']:,} read, {admission['admitted']:,} admitted "
            f"({admission['acceptance']:.1%})"
        )
        for reason, count in sorted(admission["by_reason"].items(), key=lambda item: -item[1])[:4]:
            print(f"           {count:,} {reason}")
    for task, label in (result.get("labels") or {}).items():
        if not label["used"]:
            print(f"left out   {task}: {label['decisions']:,} decisions, too few of a kind")
    for task, rows in (result.get("data") or {}).items():
        print(
            f"data       {task}: {rows['rows']:,} decisions, {rows['positives']:,} positive, "
            f"{rows['sessions']:,} sessions"
        )
    for task, metrics in (result.get("metrics") or {}).items():
        print(f"gain       {task}: {_gain(metrics)}")
    if found.state != "succeeded":
        return _refused("training", found)
    state = " and ".join(result["aliases"]) or "without an alias"
    print(f"verdict    {result['name']} version {result['version']}, {state}; the champion stays")
    return 0


def _gain(metrics: dict[str, Any]) -> str:
    auc, past = (_number(metrics[name]) for name in ("auc", "auc_persistence"))
    gain, low, high = (_number(metrics[name], "+") for name in ("gain", "gain_low", "gain_high"))
    return (
        f"{gain} ({low} … {high}) of AUC: {auc} against persistence's {past}, on "
        f"{metrics['rows']:,} later decisions"
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _refused(what: str, found: Standing) -> int:
    print(f"{what} {found.state}: {found.error}", file=sys.stderr)
    return 1


def asked_of(
    source: str,
    duration: float | None,
    interval: float | None,
    capture: str | None,
    tasks: list[str] | None,
    seed: int,
) -> tuple[TrainRequest, CollectRequest | None]:
    """What to train, and what to collect before it. Raises `QosError` for what cannot be asked."""
    given = {"source": source, "capture": capture, "tasks": tasks or [], "seed": seed}
    times = {"duration_s": duration, "interval_s": interval}
    try:
        asked = TrainRequest.model_validate(given)
        collection = CollectRequest.model_validate(times)
    except ValidationError as error:
        told = [f"{place}: {reason}" for place, reason in faults_of(error)]
        raise QosError("; ".join(told)) from None
    if source == "nef" and capture is None:
        return asked, collection
    if any(one is not None for one in times.values()):
        raise QosError("--duration, --interval: only where a NEF is collected from")
    return asked, None


def main(
    source: Annotated[
        str, typer.Argument(help="nef, simulator, ucc5g, taiwan_ho, table or frame.")
    ] = "simulator",
    nef_url: Annotated[
        str | None,
        typer.Option(
            help="Of the NEF (NEF_API_URL; its login is in NEF_USERNAME and NEF_PASSWORD)."
        ),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="To collect from the NEF [s] (COLLECTION_DURATION).")
    ] = None,
    interval: Annotated[
        float | None, typer.Option(help="Between two rounds [s] (COLLECTION_INTERVAL).")
    ] = None,
    capture: Annotated[
        str | None, typer.Option(help="Trains on this capture; collects nothing.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A task to learn; all of the data unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 7,
    as_job: Annotated[bool, typer.Option("--job", help="A running service does it.")] = False,
    watch: Annotated[
        str | None, typer.Option("--follow", help="Only shows how this job of the service stands.")
    ] = None,
    url: Annotated[str, typer.Option(help="Of the service.")] = "http://127.0.0.1:5050",
    api_key: Annotated[
        str | None, typer.Option(envvar="ML_API_KEY", help="For the roles data and train.")
    ] = None,
) -> None:
    """Collects and trains, and says what the model gains over persistence."""
    try:
        asked = asked_of(source, duration, interval, capture, task, seed)
        if watch is not None or as_job:
            if nef_url is not None:
                raise QosError("--nef-url: a service asks the NEF of its own environment")
            code = at_service(*asked, watch, url, api_key)
        else:
            if nef_url is not None:
                os.environ["NEF_API_URL"] = nef_url
            code = at_once(*asked)
    except QosError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("ended; no model was registered", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    typer.run(main)
