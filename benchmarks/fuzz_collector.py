"""Payloads of known worth at the NEF collector: good ones, spoiled ones and noise.

    python -m benchmarks.fuzz_collector --payloads 100000

Each good payload is spoiled in one known way or left as it is; noise is changed blindly and may be
either. What the collector keeps, refuses or breaks on is counted against that.
"""

import json
import random
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import typer

from benchmarks.fuzzing import BAD, Kinds, Spoil, command, cut, judge, made, put, without
from nef.client.intake import Intake
from nef.client.payload import THRESHOLDS
from nef.client.protect import Protection
from schemas.service_class import SERVICE_CLASSES

EVENTS = ("QOS_GUARANTEED", "QOS_NOT_GUARANTEED", "QOS_MONITORING", "USAGE_REPORT")
NO_COUNT: tuple[Any, ...] = (-1, 1.5, True, "x", [], {}, 2**60, "nan")
NO_NUMBER: tuple[Any, ...] = (-1, "nan", "inf", "-Infinity", True, "fast", [], {}, 1e9, 10**400)
NO_TEXT: tuple[Any, ...] = ("", 5, True, [], {})


def fuzz(payloads: int, seed: int = 0) -> dict[str, int]:
    """payloads; crashes: exceptions; server_errors: answers of 500 or more; refused; accepted_invalid
    and refused_valid: against what each payload is known to be; bad: how many are known to be so."""
    draw = random.Random(seed)
    counts: Counter[str] = Counter(payloads=payloads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nef.ndjson"
        with Intake(path, Protection(lambda _: "ue", lambda text: text), batch=10_000) as intake:
            for kind, worth, body in islice(made(draw, KINDS), payloads):
                counts["bad"] += worth == BAD
                try:
                    refused, status = _offered(intake, kind, body)
                except Exception as error:
                    counts["crashes"] += 1
                    print(f"{kind} {worth}: {type(error).__name__}: {body[:200]!r}")
                    continue
                judge(counts, worth, not refused, status)
            counts["quarantined"] = intake.quarantine.sequence
    keys = ("payloads", "crashes", "server_errors", "refused", "accepted_invalid", "refused_valid",
            "quarantined", "bad")  # fmt: skip
    return {key: counts[key] for key in keys}


def _offered(intake: Intake, kind: str, body: bytes) -> tuple[bool, int]:
    """Whether it was refused, and the status of a callback."""
    if kind == "requirement":
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):  # the client refuses it before the intake sees it
            intake.refuse("poll", body, [("body", "not JSON")])
            return True, 0
        return intake.requirement("ue", content) is None, 0
    receipt = intake.receive(body)
    return receipt.problem is not None, receipt.status


# -- good ones ------------------------------------------------------------------------------------


def _requirement(draw: random.Random) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for spec in THRESHOLDS.values():
        if draw.random() < 0.7:
            value = round(draw.uniform(0.01, min(spec.high, 1000)), 3)
            asked[draw.choice(spec.names)] = draw.choice((value, str(value)))
    if draw.random() < 0.5:
        asked = {draw.choice(("requirements", "qos_requirements", "qosRequirements")): asked}
    name = draw.choice(list(SERVICE_CLASSES))
    asked[draw.choice(("service_type", "serviceType"))] = draw.choice((name, name.upper()))
    if draw.random() < 0.5:
        asked["service_priority"] = draw.choice((draw.randint(1, 10), str(draw.randint(1, 10))))
    return asked


def _qos(draw: random.Random) -> dict[str, Any]:
    delays = [draw.randint(0, 500) for _ in range(draw.randint(1, 3))]
    report: dict[str, Any] = {"event": draw.choice(EVENTS), "qosMonReports": [{"dlDelays": delays}]}
    if draw.random() < 0.5:
        report["accumulatedUsage"] = {"totalVolume": draw.choice((None, draw.randint(0, 10**9)))}
    found: dict[str, Any] = {"transaction": f"http://nef/s/{draw.randint(1, 99)}"}
    if draw.random() < 0.5:
        found["ipv4Addr"] = f"10.0.0.{draw.randint(1, 254)}"
    return found | {"eventReports": [report] * draw.randint(1, 2)}


def _monitoring(draw: random.Random) -> dict[str, Any]:
    report = {
        "monitoringType": "LOCATION_REPORTING",
        "externalId": f"1000{draw.randint(1, 9)}@domain.com",
        "locationInfo": {
            "cellId": "AAAAA1001",
            draw.choice(("gNBId", "enodeBId")): draw.choice((None, "AAAAA1")),
        },
    }
    link = {"subscription": f"http://nef/m/{draw.randint(1, 99)}"}
    return link | (report if draw.random() < 0.5 else {"monitoringEventReports": [report]})


def _camara(draw: random.Random) -> dict[str, Any]:
    return {
        "id": str(draw.random()),
        "source": "https://api.example.com",
        "specversion": "1.0",
        "type": "org.camaraproject.quality-on-demand.v1.qos-status-changed",
        "time": "2026-01-01T00:00:00Z",
        "data": {
            "sessionId": "123e4567-e89b-12d3-a456-426614174000",
            "qosStatus": draw.choice(("AVAILABLE", "UNAVAILABLE")),
        },
    }


# -- spoilt ones ----------------------------------------------------------------------------------


def _no_object(draw: random.Random, _: dict[str, Any]) -> Any:
    return draw.choice((None, [], "text", 5, {}, b"", b"<html></html>", b"[" * 2000, b"\xff\xfe"))


def _literal(draw: random.Random, content: dict[str, Any]) -> bytes:
    wrong = draw.choice(("NaN", "Infinity", "-Infinity", "undefined"))
    return json.dumps(content | {"transaction": "@"}).replace('"@"', wrong).encode()


def _bad_threshold(draw: random.Random, content: dict[str, Any]) -> dict[str, Any]:
    spec = draw.choice(list(THRESHOLDS.values()))
    place = next((v for v in content.values() if isinstance(v, dict)), content)
    for name in spec.names:
        place.pop(name, None)
    place[draw.choice(spec.names)] = draw.choice(NO_NUMBER)
    return content


_ANY: list[Spoil] = [cut, _no_object]
_REQUIREMENT_SPOILS: list[Spoil] = [
    *_ANY,
    *[_bad_threshold] * 4,
    lambda draw, content: (
        {k: v for k, v in content.items() if k != "serviceType"}
        | {"service_type": draw.choice(("gaming", "urllc2", 7, True, ["urllc"]))}
    ),
    put("service_priority", to=(0, 11, -3, 2.5, True, "high", "nan", [], 10**400)),
]
_QOS_SPOILS: list[Spoil] = [
    *_ANY,
    _literal,
    without("eventReports"),
    put("transaction", to=(None, *NO_TEXT)),
    put("eventReports", to=(None, [], {}, "x", [None], [5])),
    put("eventReports", 0, "event", to=("EXPLODED", None, 5, "")),
    put("eventReports", 0, "qosMonReports", 0, "dlDelays", to=([], *([n] for n in NO_COUNT))),
    put(
        "eventReports",
        0,
        "qosMonReports",
        0,
        "ulDataRate",
        to=("10 mbps", "fast", 5, "-1 bps", "NaN bps"),
    ),
    put("eventReports", 0, "accumulatedUsage", to=tuple({"totalVolume": n} for n in NO_COUNT)),
    put("ipv4Addr", to=("10.0.0.256", "262011234567890", 5, "")),
]
_MONITORING_SPOILS: list[Spoil] = [
    *_ANY,
    _literal,
    put("subscription", to=NO_TEXT),
    put("monitoringType", to=("EXPLODED", 5, "", True)),
    put("monitoringEventReports", to=([], {}, "x", [None], [{}])),
]
_CAMARA_SPOILS: list[Spoil] = [
    *_ANY,
    *(without(name) for name in ("id", "source", "type", "time", "data")),
    put("specversion", to=("2.0", 1, "")),
    put("time", to=("yesterday", "2026-01-01T00:00:00", "", {})),
    put("data", "qosStatus", to=("REQUESTED", 5, None)),
    put("data", "sessionId", to=("7", None, [])),
]

KINDS: Kinds = {
    "requirement": (_requirement, _REQUIREMENT_SPOILS),
    "qos": (_qos, _QOS_SPOILS),
    "monitoring": (_monitoring, _MONITORING_SPOILS),
    "camara": (_camara, _CAMARA_SPOILS),
}
main = command("fuzz_collector", fuzz)

if __name__ == "__main__":
    typer.run(main)
