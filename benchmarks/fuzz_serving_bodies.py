"""Bodies of every POST route of the decision service: good ones, and how each can be spoiled."""

import json
import secrets
from collections.abc import Callable
from typing import Any

from benchmarks.fuzzing import Body, Draw, Kinds, Spoil, cut, literal, put, without
from feature_repo.services import SERVICES

USER, PASSWORD = "ana", secrets.token_urlsafe(12)
RANGES = {
    one.name: (one.low, one.high)
    for service in SERVICES if service.name == "qos_v1" for one in service.features()
}  # fmt: skip

# -- good ones ------------------------------------------------------------------------------------


def _decision(draw: Draw) -> Body:
    cells = [f"00101-{site:09}" for site in draw.sample(range(1001, 1100), draw.randint(1, 6))]
    asked: Body = {
        "ue_id": f"imsi-00101{draw.randrange(10**10):010d}",
        "connected_to": draw.choice(cells),
        "candidates": [_candidate(draw, cell) for cell in cells],
        "observed_qos": {"downlink_mbps": draw.uniform(0, 900), "jitter_ms": draw.uniform(0, 50)},
        "thresholds": {"downlink_mbps": draw.uniform(1, 100), "delay_ms": draw.randint(5, 500)},
        "features": {name: _within(draw, name) for name in draw.sample(list(RANGES), 2)},
    }  # fmt: skip
    more = {
        "five_qi": draw.choice((1, 2, 5, 9, 69, 82)), "priority": draw.randint(1, 10),
        "service_class": draw.choice(("urllc", "embb", "mmtc", "default")),
        "speed_mps": draw.uniform(0, 60), "explain": draw.random() < 0.1,
        "event_timestamp": "2026-03-04T10:00:00.25Z",
    }  # fmt: skip
    for name in draw.sample(sorted(more), draw.randint(0, len(more))):
        asked[name] = more[name]
    return asked


def _candidate(draw: Draw, cell: str) -> Body:
    heard = {
        "rsrp_dbm": draw.uniform(-140, -44), "rsrq_db": draw.uniform(-20, -3),
        "sinr_db": draw.choice((None, draw.uniform(-20, 40))), "prb_used_ratio": draw.random(),
        "active_ue_count": draw.randint(0, 200),
    }  # fmt: skip
    return {"cell_id": cell} | {name: heard[name] for name in draw.sample(sorted(heard), 3)}


def _within(draw: Draw, name: str) -> float:
    low, high = RANGES[name]
    low = (high - 10 if high is not None else 0.0) if low is None else low
    return draw.uniform(low, low + 10 if high is None else high)


def _batch(draw: Draw) -> Body:
    return {"requests": [_decision(draw) for _ in range(draw.randint(1, 4))]}


def _infer(draw: Draw) -> Body:
    rows = draw.randint(1, 5)
    inputs = [
        {
            "name": name, "shape": draw.choice(([rows], [rows, 1])), "datatype": "FP64",
            "data": [draw.choice((None, _within(draw, name))) for _ in range(rows)],
        }
        for name in draw.sample(list(RANGES), draw.randint(1, 4))
    ]  # fmt: skip
    return {"id": str(draw.random()), "inputs": inputs}


def _infer_bytes(_: Draw) -> Body:
    tensor = {"name": "ue_rsrp_dbm_last_5s", "shape": [2], "datatype": "FP64",
              "parameters": {"binary_data_size": 16}}  # fmt: skip
    return {"inputs": [tensor], "parameters": {"binary_data_output": False}}


def _outcomes(draw: Draw) -> bytes:
    told = [{"decision_id": _id(draw), "success": draw.random() < 0.5, "cell_id": None}]
    return json.dumps(told * draw.randint(1, 3)).encode()


def _id(draw: Draw) -> str:
    return f"0198c0de-{draw.randrange(16**4):04x}-7000-8000-{draw.randrange(16**12):012x}"


def _observed(draw: Draw) -> Body:
    return {"decision_id": _id(draw), "downlink_mbps": draw.uniform(0, 900), "jitter_ms": 1.0,
            "packet_loss_ratio": draw.random()}  # fmt: skip


def _handover(draw: Draw) -> Body:
    return {"decision_id": _id(draw), "success": draw.random() < 0.5, "cell_id": None}


def _train(draw: Draw) -> Body:
    sample = {"ue_id": "imsi-001010000000001", "event_timestamp": "2026-03-04T10:00:00Z",
              "label": 1, "features": {"ue_rsrp_dbm_last_5s": -90.0}}  # fmt: skip
    return {"samples": [sample], "seed": draw.randrange(10**6)}


def _collect(_: Draw) -> Body:
    return {"duration_s": 1, "interval_s": 1.5}


def _login(_: Draw) -> Body:
    return {"username": USER, "password": PASSWORD}


# -- spoilt ones ----------------------------------------------------------------------------------


def _no_object(draw: Draw, _: Body) -> Any:
    return draw.choice((None, [], "text", 5, b"", b"<html></html>", b"[" * 2000, b"\xff\xfe",
                        b'{"a":' * 10_000, b"[" * 30_000 + b"]" * 30_000))  # fmt: skip


def _unheard(draw: Draw, content: Body) -> Body:
    strange: tuple[tuple[str, Any], ...] = (
        ("latitude", 48.1), ("longitude", 11.5), ("position", {"x": 1}), ("__proto__", {}), ("", 1),
        ("rsrp", -90), ("Candidates", []),
    )  # fmt: skip
    name, value = draw.choice(strange)
    return content | {name: value}


def _bad_text(draw: Draw, content: Body) -> bytes:
    """A string with bytes that are no UTF-8, half a character's escape, or a raw control one."""
    name = draw.choice(list(content))
    wrong = draw.choice((b'"\xff"', b'"\xc3("', b'"\\ud800"', b'"\\uZZZZ"', b'"\x01"'))
    return json.dumps(content | {name: "@@"}).encode().replace(b'"@@"', wrong)


def _in(place: str, spoils: list[Spoil]) -> Spoil:
    """The first of the things in a list, spoiled."""

    def spoil(draw: Draw, content: Body) -> Body:
        content[place][0] = draw.choice(spoils)(draw, content[place][0])
        return content

    return spoil


def _listed(made: Callable[[Draw], Body]) -> Callable[[Draw], Any]:
    return lambda draw: json.dumps([made(draw) for _ in range(draw.randint(1, 3))]).encode()


def _each(made: Callable[[Draw], Body], spoils: list[Spoil]) -> list[Spoil]:
    """Of a body that is a list of such."""

    def spoil(draw: Draw, _: Body) -> bytes:
        broken = draw.choice(spoils)(draw, made(draw))
        if isinstance(broken, bytes):
            return b"[" + broken + b"]"
        return json.dumps([made(draw), broken]).encode()

    return [spoil, lambda draw, _: json.dumps(draw.choice(([], {}, [[]], None, 5))).encode()]


ANY: list[Spoil] = [cut, _no_object, literal, _bad_text, _unheard]
NO_NUMBER: tuple[Any, ...] = ("1", True, [], {}, 10**400, -1e300, 1e300)
NO_ID: tuple[Any, ...] = ("", 5, None, [], {}, "x" * 129, True)
_HEARD: list[Spoil] = [
    _unheard, put("cell_id", to=NO_ID), put("rsrp_dbm", to=(97.5, 0, *NO_NUMBER)),
    put("sinr_db", to=NO_NUMBER), put("rsrq_db", to=(100, *NO_NUMBER)),
    put("prb_used_ratio", to=(50, -0.1, 1.1, *NO_NUMBER)), put("active_ue_count", to=(-1, "7", [])),
]  # fmt: skip
_DECISION: list[Spoil] = [
    *ANY, without("ue_id"), put("ue_id", to=NO_ID), put("connected_to", to=("", 5, [], "x" * 129)),
    put("five_qi", to=(11, 0, -1, "9", 9.5, True, 10**30)),
    put("service_class", to=("gaming", "URLLC ", 5, [], "")),
    put("priority", to=(0, 11, 2.5, True, "high")), put("speed_mps", to=(-1, 1e6, *NO_NUMBER)),
    put("event_timestamp", to=("yesterday", "2026-03-04T10:00:00", [], "2026-13-01T00:00:00Z")),
    put("thresholds", to=({}, [], 5, {"delay_ms": -1}, {"latency_ms": 5}, {"loss_ratio": 2})),
    put("observed_qos", to=([], "x", {"packet_loss_ratio": 1.5}, {"throughput": 1},
                            {"downlink_mbps": "12"}, {"downlink_mbps": -1})),
    put("features", to=({"nothing": 1.0}, {"ue_rsrp_dbm_last_5s": 97.0}, [], {"x": None},
                        {str(n): 1.0 for n in range(257)}, {"ue_rsrp_dbm_last_5s": "-90"})),
    put("qos_profile", to=({}, "QOS_L", {"name": "x"}, [], 5)), put("explain", to=("yes", 1, [])),
    put("candidates", to=([None], "x", {}, [{}], [{"cell_id": "a"}] * 2,
                          [{"cell_id": str(n)} for n in range(65)],
                          [{"cell_id": str(n)} for n in range(10_000)])),
    *[_in("candidates", _HEARD)] * 3,
]  # fmt: skip
_ONE_OF_MANY = [one for one in _DECISION if one not in (cut, literal, _bad_text, _no_object)]
_INFER: list[Spoil] = [
    *ANY, put("inputs", to=([], None, {}, [None], [{}])), put("outputs", to=([{"name": "fate"}], 5)),
    put("inputs", 0, "data", to=("x", ["1"], [True], [[[1.0]]], [], None, [10**400], [1e300] * 9)),
    put("inputs", 0, "shape", to=([], [0], [-1], [2**60], ["1"], [1, 2, 3], [10_001], 5, [1.5])),
    put("inputs", 0, "datatype", to=("BYTES", "fp64", 5, None)),
    put("inputs", 0, "name", to=("nothing", 5, None, "x" * 257, "features")),
    put("inputs", 0, "parameters", to=({"binary_data_size": -1}, {"binary_data_size": 1}, [])),
]  # fmt: skip
_INFER_BYTES: list[Spoil] = [
    cut, put("inputs", 0, "parameters", "binary_data_size", to=(0, 8, 15, 17, -1, "16", True, 2**60)),
    put("inputs", 0, "shape", to=([3], [0], [2, 2], [])), put("inputs", 0, "data", to=([1.0, 2.0],)),
    put("inputs", 0, "datatype", to=("FP32", "INT64", "BYTES")),
]  # fmt: skip
_OUTCOME: list[Spoil] = [*ANY, without("decision_id"), put("decision_id", to=("", 5, None, "x" * 65)),
                         put("observed_at", to=("yesterday", "2026-03-04T10:00:00", []))]  # fmt: skip
_TRAIN: list[Spoil] = [
    *ANY, without("samples"), put("samples", to=([], {}, [None], "x")), put("source", to=("frame", 5)),
    put("seed", to=(-1, 2**31, 1.5, "x")), put("tasks", to=(5, [""], ["x" * 65], [5], ["A b"])),
    _in("samples", [
        _unheard, without("ue_id"), without("label"), put("label", to=(2, -1, 0.5, "x", None)),
        put("features", to=({"nothing": 1.0}, {"ue_rsrp_dbm_last_5s": "x"}, [], None)),
        put("event_timestamp", to=("yesterday", "2026-03-04T10:00:00", None)),
        put("ue_id", to=NO_ID), put("label_value", to=("x", [], {})),
    ]),
]  # fmt: skip
_COLLECT: list[Spoil] = [
    *ANY, put("duration_s", to=(0, 3601, "5", True, [])), put("interval_s", to=(0.5, 61, "5", True)),
    put("ue_ids", to=(5, [5], "x", None, [f"ue{n}" for n in range(1001)])),
]  # fmt: skip
_SWAP: list[Spoil] = [
    _no_object, _unheard,
    put("model", to=("../../etc/passwd", "", 5, [], "qos", "qos@", "a b@c", "x" * 300, "qos/999",
                     "nothing@champion", "qos@nowhere", "file:///etc@x")),
]  # fmt: skip
_LOGIN: list[Spoil] = [*ANY, put("username", to=NO_ID), put("password", to=("", 5, None, "x" * 1025)),
                       without("password"), put("password", to=("wrong", "\x00"))]  # fmt: skip
_REFRESH: list[Spoil] = [
    *ANY,
    put("refresh_token", to=("", 5, None, "x" * 4097, "a.b.c", "\u0000", "é" * 30)),
]
KINDS: Kinds = {
    "decision": (_decision, _DECISION), "plain": (_decision, _DECISION), "later": (_decision, _DECISION),
    "batch": (_batch, [*ANY, put("requests", to=([], None, {}, [None], [{"ue_id": "u"}] * 501)),
                       *[_in("requests", _ONE_OF_MANY)] * 4]),
    "infer": (_infer, _INFER), "infer_bytes": (_infer_bytes, _INFER_BYTES),
    "feedback": (_listed(_handover), _each(_handover, [
        *_OUTCOME, put("success", to=("yes", 1, None)), put("cell_id", to=(5, "x" * 129, []))])),
    "qos_feedback": (_listed(_observed), _each(_observed, [
        *_OUTCOME, put("downlink_mbps", to=(-1, *NO_NUMBER)), put("packet_loss_ratio", to=(50, "0"))])),
    "train": (_train, _TRAIN), "train_later": (_train, _TRAIN), "collect": (_collect, _COLLECT),
    "swap": (lambda _: {}, _SWAP), "login": (_login, _LOGIN), "breaker": (lambda _: {}, []),
    "refresh": (lambda _: {"refresh_token": "x"}, _REFRESH),
}  # fmt: skip
