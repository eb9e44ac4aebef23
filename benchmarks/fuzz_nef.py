"""Payloads of known worth at the NEF collector and, over HTTP, at a NEF server of its own.

    python -m benchmarks.fuzz_nef --payloads 100000

Half of them go to the collector (`benchmarks.fuzz_collector`). The server gets good bodies, bodies
spoiled in one way that the standard or the API's description rules out, and noise; what each is
worth is known from how it was made, not from what any validation says of it.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import typer

from benchmarks.fuzz_collector import fuzz as fuzz_collector
from benchmarks.fuzzing import (
    BAD,
    Body,
    Draw,
    Kinds,
    Spoil,
    command,
    cut,
    judge,
    literal,
    made,
    put,
    without,
)

KEYS = (
    "payloads",
    "crashes",
    "server_errors",
    "refused",
    "accepted_invalid",
    "refused_valid",
    "bad",
)
QOS = "/nef/api/v1/3gpp-as-session-with-qos/v1/fuzz/subscriptions"
MONITORING = "/nef/api/v1/3gpp-monitoring-event/v1/fuzz/subscriptions"
UES = 24
CALLBACK = "http://127.0.0.1:9/callback"


def fuzz(payloads: int, seed: int = 0) -> dict[str, Any]:
    """The sums of both, and each alone."""
    collector = fuzz_collector(payloads // 2, seed)
    with nef() as (client, server):
        emulator = fuzz_server(client, server, payloads - payloads // 2, seed)
    sums = {key: collector[key] + emulator[key] for key in KEYS}
    return sums | {"collector": collector, "emulator": emulator}


@contextlib.contextmanager
def nef() -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A logged-in client of a NEF server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    password = secrets.token_urlsafe(12)
    environment = os.environ | {
        "NEF_SERVER_PASSWORD": password,
        "NEF_SERVER_DATABASE_URL": "sqlite://",
        "NEF_SERVER_CALLBACK_TIMEOUT_S": "0.5",
    }
    command = [sys.executable, "-m", "nef.server", "--port", str(port), "--ues", str(UES)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            _wait(client, server)
            form = {"grant_type": "password", "username": "admin", "password": password}
            reply = client.post("/api/v1/login/access-token", data=form).raise_for_status()
            client.headers["authorization"] = f"Bearer {reply.json()['access_token']}"
            yield client, server
    finally:
        server.terminate()
        server.wait(30)


def _wait(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            client.get("/health").raise_for_status()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the NEF server did not come up; its exit status is {server.poll()}")


def fuzz_server(
    client: httpx.Client, server: subprocess.Popen[bytes], payloads: int, seed: int = 0
) -> dict[str, int]:
    """crashes: requests without an answer, an ended process or a clock that has stopped."""
    draw, counts = Draw(seed), Counter[str](payloads=payloads)
    began = client.get("/health").json()["second"]
    for path, worth, body in islice(made(draw, KINDS), payloads):
        counts["bad"] += worth == BAD
        try:
            reply = client.post(path, content=body, headers={"content-type": "application/json"})
        except httpx.TransportError as error:
            counts["crashes"] += 1
            print(f"{path} {worth}: {type(error).__name__}: {body[:200]!r}")
            if server.poll() is not None:
                break
            continue
        accepted = reply.status_code < 300
        if judge(counts, worth, accepted, reply.status_code):
            print(f"{path} {worth}: {reply.status_code}: {body[:300]!r} {reply.text[:200]}")
        if "location" in reply.headers and accepted:
            counts["crashes"] += client.delete(reply.headers["location"]).status_code != 204
    counts["crashes"] += server.poll() is not None
    if server.poll() is None:
        time.sleep(1.5)
        counts["crashes"] += client.get("/health").json()["second"] <= began
    return {key: counts[key] for key in KEYS}


# -- good ones ------------------------------------------------------------------------------------


def _qos(draw: Draw) -> Body:
    monitor = {
        "reqQosMonParams": draw.sample(["DOWNLINK", "UPLINK", "ROUND_TRIP"], draw.randint(1, 3)),
        "repFreqs": ["PERIODIC"], "repPeriod": draw.randint(1, 60),
    }  # fmt: skip
    name = draw.choice(("ueIpv4Addr", "ipv4Addr"))
    found: Body = {
        name: f"10.0.0.{draw.randint(1, UES)}", "notificationDestination": CALLBACK,
        "qosReference": draw.choice(("9", 9, "82", "urllc")), "qosMonInfo": monitor,
    }  # fmt: skip
    if draw.random() < 0.5:
        found["altQoSReferences"] = ["80", "9"]
    if draw.random() < 0.5:
        found["usageThreshold"] = {"totalVolume": draw.randint(1, 10**9)}
    return found


def _monitoring(draw: Draw) -> Body:
    return {
        "externalId": f"ue{draw.randint(1, UES)}@example.com", "notificationDestination": CALLBACK,
        "monitoringType": draw.choice(("LOCATION_REPORTING", "LOSS_OF_CONNECTIVITY")),
        "maximumNumberOfReports": draw.randint(2, 100),
    }  # fmt: skip


def _ue(draw: Draw) -> Body:
    return {
        "supi": f"99970{draw.randrange(10**10):010d}", "five_qi": draw.choice((1, 2, 9, 82)),
        "mobility": draw.choice(("static", "linear", "waypoint")),
        "latitude": draw.uniform(50, 51), "longitude": draw.uniform(6, 7), "speed_mps": 1.5,
    }  # fmt: skip


def _gnb(draw: Draw) -> Body:
    return {"gnb_id": f"f{draw.randrange(16**5):05x}", "latitude": draw.uniform(-60, 60),
            "longitude": draw.uniform(-170, 170)}  # fmt: skip


def _path(draw: Draw) -> Body:
    points = [
        {"latitude": draw.uniform(50, 51), "longitude": draw.uniform(6, 7)}
        for _ in range(draw.randint(2, 5))
    ]
    return {"path_id": f"path{draw.randrange(10**6)}", "points": points}


def _anomaly(draw: Draw) -> Body:
    return {"anomaly_id": f"a{draw.randrange(10**6)}", "kind": "interference", "latitude": 50.7,
            "longitude": 6.1, "lasts_s": draw.randint(1, 100)}  # fmt: skip


# -- spoilt ones ----------------------------------------------------------------------------------


def _no_object(draw: Draw, _: Body) -> Any:
    return draw.choice((None, [], "text", 5, b"", b"<html></html>", b"[" * 2000, b"\xff\xfe"))


def _two_addresses(_: Draw, content: Body) -> Body:
    return content | {"macAddr": "00-00-00-00-00-01"}


NO_URL = ("", 5, "nowhere", "file:///etc/passwd", "http://", "ftp://h/", "http://h:99999/",
          "http://user:secret@h/", "//h/", "http://" + "h" * 5000)  # fmt: skip
NO_ANGLE: tuple[Any, ...] = (91.0, -91, "50", True, [], {})
ANY: list[Spoil] = [cut, _no_object, literal]
KINDS: Kinds = {
    QOS: (_qos, [
        *ANY, _two_addresses, without("notificationDestination"),
        without("ueIpv4Addr", "ipv4Addr"), without("qosReference"),
        put("notificationDestination", to=NO_URL),
        put("ueIpv4Addr", to=("10.0.0.256", "10.0.0", "x", 5, "10.9.9.9", "1.2.3.4/24")),
        put("qosReference", to=("gold", "91", "-1", 1.5, True, [], {}, "0", "9" * 5000)),
        put("altQoSReferences", to=([], ["gold"], "9", [None], {})),
        put("qosMonInfo", "repFreqs", to=([], ["DAILY"], "PERIODIC", [5])),
        put("qosMonInfo", "reqQosMonParams", to=([], ["SIDELINK"], "DOWNLINK", [None])),
        put("qosMonInfo", "repPeriod", to=(-1, 1.5, True, "often", [], 2**60)),
        put("usageThreshold", to=(5, [], {"totalVolume": -1}, {"duration": 1.5})),
        put("qosDuration", to=(-1, 1.5, True, "long")),
    ]),
    MONITORING: (_monitoring, [
        *ANY, *(without(n) for n in ("externalId", "notificationDestination", "monitoringType",
                                      "maximumNumberOfReports")),
        put("notificationDestination", to=NO_URL),
        put("monitoringType", to=("EXPLODED", 5, "", True, [], "ROAMING_STATUS")),
        put("maximumNumberOfReports", to=(0, -1, 1.5, True, "x", [], 2**60)),
        put("externalId", to=("nobody@example.com", 5, [], {})),
        put("monitorExpireTime", to=("yesterday", {}, [], "2026-13-01T00:00:00Z")),
    ]),
    "/api/v1/UEs": (_ue, [
        *ANY, without("supi"), put("other", to=(1, None)),
        put("supi", to=("12", 5, None, "x" * 15, "001010000000001", "١" * 15)),
        put("five_qi", to=(3, -1, "9", True, 9.5, None)),
        put("mobility", to=("flying", None, 5, "path")),
        put("latitude", to=NO_ANGLE), put("speed_mps", to=(-1, 141, "1", True, None)),
        put("ipv4", to=("10.0.0.256", 5, "10.0.0.1")), put("path_id", to=("nowhere", 5, "../x")),
        put("name", to=("\x00", "x" * 300, 5, None)),
    ]),
    "/api/v1/gNBs": (_gnb, [
        *ANY, without("gnb_id"), without("latitude"), put("latitude", to=NO_ANGLE),
        put("gnb_id", to=("xyz", "", 5, None, "F00001", "0000001", "000001")),
    ]),
    "/api/v1/paths": (_path, [
        *ANY, without("points"), put("points", to=([], [{}], 5, [None, None], "x")),
        put("path_id", to=("", "a b", "../x", 5, None, "x" * 65)),
    ]),
    "/api/v1/anomalies": (_anomaly, [
        *ANY, without("kind"), without("latitude"), put("latitude", to=NO_ANGLE),
        put("kind", to=("earthquake", None, 5, "sleeping_cell", "sensor_fault")),
        put("lasts_s", to=(0, -1, 1.5, True, "x")), put("radius_m", to=(0, -5, "x", None)),
    ]),
}  # fmt: skip

main = command("fuzz_nef", fuzz)

if __name__ == "__main__":
    typer.run(main)
