"""A collection job: polls a NEF for a while into a capture that is whole or not there.

`python -m serving.collecting <job folder>`; where the NEF is and who logs in is in the environment.
"""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifecycle.pseudonym import pseudonym, read_key, scrub
from nef.client.collector import NEFQoSCollector
from nef.client.exchange import NefError
from nef.client.intake import Intake, quarantine_of
from nef.client.protect import Protection
from nef.client.retry import CircuitOpen
from nef.client.settings import read_settings
from serving.job_files import REQUEST, WORK, conclude, tell

KIND = "collect"


def collect(folder: Path) -> None:
    """Does the job whose folder is given; the capture is moved to its place at the end."""
    asked = json.loads((folder / REQUEST / "request.json").read_text(encoding="utf-8"))
    key = read_key()
    protection = Protection(lambda one: pseudonym(one, key), lambda text: scrub(text, key))
    capture = folder / WORK / f"{folder.name}.ndjson"
    found: dict[str, Any] = {"samples": 0, "refused": 0, "failed": 0, "rounds": 0, "file": None}
    last = ""
    with (
        Intake(capture, protection) as intake,
        NEFQoSCollector(read_settings(), intake) as collector,
    ):
        began = time.monotonic()
        ends = began + asked["duration_s"]
        while (now := time.monotonic()) < ends or not found["rounds"]:
            tell(folder, min(0.99, (now - began) / asked["duration_s"]), "collect")
            try:
                _poll(collector, asked["ue_ids"], found)
            except (NefError, CircuitOpen) as error:
                found["failed"] += 1
                last = str(error)
            found["rounds"] += 1
            next_at = now + asked["interval_s"]
            time.sleep(max(0.0, min(next_at, ends) - time.monotonic()))
    if not found["samples"]:
        told = last or "the NEF knows no UE whose state could be kept"
        conclude(folder, "refused", found, f"not one sample in {found['rounds']} rounds: {told}")
        return
    place = Path(asked["captures"])
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if quarantine_of(capture).exists():
        quarantine_of(capture).replace(place / quarantine_of(capture).name)
    capture.replace(place / capture.name)
    conclude(folder, "succeeded", found | {"file": capture.name, "at": _now()})


def _poll(collector: NEFQoSCollector, ue_ids: list[str], found: dict[str, Any]) -> None:
    """One round: the states of all UEs, and the requirements of those that are named."""
    states = collector.poll_states()
    found["samples"] += len(states.sequences)
    found["refused"] += states.refused
    if ue_ids:
        polled = collector.poll(ue_ids)
        found["samples"] += len(polled.sequences)
        found["refused"] += polled.refused
        found["failed"] += len(polled.failed)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> None:
    """Of the command line."""
    folder = Path(sys.argv[1]).absolute()
    try:
        collect(folder)
    except Exception as error:
        conclude(folder, "failed", error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise


if __name__ == "__main__":
    main()
