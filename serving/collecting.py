"""A collection job: polls a NEF for a while into a capture that is whole or not there.

`python -m serving.collecting <job folder>`; where the NEF is and who logs in is in the environment. The
capture is a folder `<captures>/<job id>/` as `make capture` makes one, so source `nef` learns from it.
"""

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import yaml

from lifecycle.pseudonym import coarsened, pseudonym, read_key, redacted, scrub
from nef.client.collector import NEFQoSCollector, Polled
from nef.client.exchange import NefError
from nef.client.intake import Intake
from nef.client.protect import Protection
from nef.client.retry import CircuitOpen
from nef.client.settings import read_settings
from serving.job_files import REQUEST, WORK, conclude, tell
from serving.stages import JOURNAL

REQUIREMENTS_EVERY = 10  # rounds of states for one of requirements
_GRID_DEG = 0.001  # as the pipeline's own where params.yaml names none
_MOST_REASONS = 5


@dataclass
class Course:
    """What the rounds gave: lines kept and refused, UEs seen, and why a question had no answer."""

    samples: int = 0
    refused: int = 0
    rounds: int = 0
    ue_ids: set[str] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)

    def take(self, polled: Polled) -> None:
        """Adds what a round gave."""
        self.samples += len(polled.sequences)
        self.refused += polled.refused
        self.ue_ids.update(polled.ue_ids)
        self.failures.update(redacted(reason) for reason in polled.failed.values())

    def told(self) -> dict[str, Any]:
        """For the job's result."""
        return {
            "samples": self.samples,
            "refused": self.refused,
            "failed": self.failures.total(),
            "failures": dict(self.failures.most_common(_MOST_REASONS)),
            "rounds": self.rounds,
            "ues": len(self.ue_ids),
            "capture": None,
            "file": None,
        }


def collect(folder: Path, project: Path) -> None:
    """Does the job whose folder is given; the capture is moved to its place at the end.

    project: where params.yaml is, whose grid the positions are kept on.
    """
    asked = json.loads((folder / REQUEST / "request.json").read_text(encoding="utf-8"))
    settings, key = read_settings(), read_key()
    made = folder / WORK / "capture"
    course = Course()
    with (
        Intake(made / JOURNAL, _protection(key, _grid_deg(project))) as intake,
        NEFQoSCollector(settings, intake) as collector,
    ):
        place = urlsplit(str(settings.api_url)).netloc
        intake.began(f"network-{pseudonym(place, key)[3:]}")
        began = time.monotonic()
        ends = began + asked["duration_s"]
        while (now := time.monotonic()) < ends or not course.rounds:
            tell(folder, min(0.99, (now - began) / asked["duration_s"]), "collect")
            _poll(collector, asked["ue_ids"], course)
            next_at = now + asked["interval_s"]
            time.sleep(max(0.0, min(next_at, ends) - time.monotonic()))
    if not course.samples:
        why = next(iter(course.failures), "the NEF knows no UE whose state could be kept")
        told = f"not one sample in {course.rounds} rounds: {why}"
        conclude(folder, "refused", course.told(), told)
        return
    captures = Path(asked["captures"])
    captures.mkdir(parents=True, exist_ok=True, mode=0o700)
    made.replace(captures / folder.name)
    named = {"capture": folder.name, "file": f"{folder.name}/{JOURNAL}", "at": _now()}
    conclude(folder, "succeeded", course.told() | named)


def _poll(collector: NEFQoSCollector, ue_ids: list[str], course: Course) -> None:
    """One round: the states of all UEs, and now and then what their applications ask for."""
    try:
        course.take(collector.poll_states())
        if course.rounds % REQUIREMENTS_EVERY == 0:
            course.take(collector.poll(ue_ids or sorted(course.ue_ids)))
    except (NefError, CircuitOpen) as error:
        course.failures[redacted(str(error))] += 1
    course.rounds += 1


def _protection(key: bytes, grid_deg: float) -> Protection:
    """Pseudonyms and coarse positions as the pipeline makes them of every other source."""

    def coarse(latitude: float, longitude: float) -> tuple[float, float]:
        place = pl.DataFrame({"latitude_deg": [latitude], "longitude_deg": [longitude]})
        found: tuple[float, float] = coarsened(place, grid_deg).row(0)
        return found

    return Protection(lambda one: pseudonym(one, key), lambda text: scrub(text, key), coarse)


def _grid_deg(project: Path) -> float:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return float(((params or {}).get("collect") or {}).get("grid_deg", _GRID_DEG))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> None:
    """Of the command line."""
    folder = Path(sys.argv[1]).absolute()
    try:
        collect(folder, Path.cwd())
    except Exception as error:
        told = redacted(f"{type(error).__name__}: {error}".splitlines()[0])
        conclude(folder, "failed", error=told)
        raise


if __name__ == "__main__":
    main()
