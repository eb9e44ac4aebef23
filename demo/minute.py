"""The minute itself: whom the network is told to ask about, what came of it, and all of it counted.

A decision's outcome is what the network says of the UE `OUTCOME_S` after it: the cell that serves it,
and what its flow got in that second. It is told of decisions that the service stood by; what became of
those that it left to event A3 is not its doing.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from demo.course import OUTCOME_S, Asked, Course
from demo.line import Line
from demo.parts import USER, Places
from schemas.errors import QosError
from serving.client import (
    Access,
    DecisionClient,
    DecisionServiceError,
    tell_handovers,
    tell_qos,
)
from serving.messages.decisions import DecisionReply

ASKED_A_SECOND = 6
AGAIN_S = 4.0  # before the network asks about a UE once more
_QOS = ("downlink_mbps", "downlink_delay_ms", "jitter_ms", "packet_loss_ratio")
State = Mapping[str, Any]


class Minute:
    """Asks, waits and tells, a second at a time."""

    def __init__(self, at: Places, line: Line) -> None:
        """Everything must be running."""
        self.course = Course()
        self._at, self._line = at, line
        self._http = httpx.Client(base_url=at.nef, timeout=10.0, trust_env=False)
        self._service = DecisionClient(at.service, Access(api_key=at.api_key))
        self._asked_at: dict[str, float] = {}
        self._waiting: deque[tuple[datetime, str, DecisionReply]] = deque()

    def run(self, seconds: float, watch: Callable[[float], None]) -> Course:
        """The course of so many seconds; watch: called each second with those that are left."""
        form = {"grant_type": "password", "username": USER, "password": self._at.password}
        reply = self._http.post("/api/v1/login/access-token", data=form)
        reply.raise_for_status()
        self._http.headers["authorization"] = f"Bearer {reply.json()['access_token']}"
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            began = time.monotonic()
            self.second(began + 0.8)
            watch(left)
            time.sleep(max(0.0, min(began + 1.0, until) - time.monotonic()))
        self._measure()
        watch(0.0)
        return self.course

    def second(self, until: float) -> None:
        """Tells outcomes that are due, asks about those nearest to a handover, and measures."""
        states = self._get("/api/v1/ue_movement/state-ues").json()
        self._outcomes(states)
        for supi in _nearest(states, self._asked_at, time.monotonic())[:ASKED_A_SECOND]:
            if time.monotonic() > until:
                break
            self._ask(supi, datetime.fromisoformat(states[supi]["event_timestamp"]))
        self._measure()

    def _get(self, path: str) -> httpx.Response:
        try:
            reply = self._http.get(path)
            reply.raise_for_status()
        except httpx.HTTPError as error:
            raise QosError(f"network: {path}: {type(error).__name__}") from None
        return reply

    def _ask(self, supi: str, now: datetime) -> None:
        self._asked_at[supi] = time.monotonic()
        try:
            reply = self._http.post("/api/v1/ml/handover", params={"ue_id": supi})
        except httpx.HTTPError as error:
            raise QosError(f"network: handover: {type(error).__name__}") from None
        if reply.status_code == 409:  # without coverage by now
            return
        reply.raise_for_status()
        self._count(supi, Asked(now, reply.json(), self._line.passed.pop(supi, None)))

    def _count(self, supi: str, one: Asked) -> None:
        self.course.count(one)
        answer = None if one.passed is None else one.passed.reply
        if answer is not None and answer.decision != "fallback_a3":
            self._waiting.append((one.at + timedelta(seconds=OUTCOME_S), supi, answer))

    def _outcomes(self, states: Mapping[str, State]) -> None:
        qos: list[dict[str, Any]] = []
        moves: list[dict[str, Any]] = []
        while self._waiting:
            due, supi, answer = self._waiting[0]
            state = states.get(supi)
            if state is not None and datetime.fromisoformat(state["event_timestamp"]) < due:
                break
            self._waiting.popleft()
            if state is None:
                continue
            got = {name: (state["qos"] or {}).get(name) for name in _QOS}
            cell = state["cell_id_hex"]
            known = {k: v for k, v in got.items() if v is not None}
            qos.append({"decision_id": answer.decision_id} | known)
            if answer.decision == "apply":
                success = cell == answer.predicted_antenna
                moves.append(
                    {"decision_id": answer.decision_id, "success": success, "cell_id": cell}
                )
        try:
            if qos:
                for became in self._service.run(tell_qos(qos)).results:
                    self.course.outcomes[_outcome(became.status, became.met)] += 1
            if moves:
                self._service.run(tell_handovers(moves))
        except DecisionServiceError as error:
            if error.status is None:
                raise
            self.course.outcomes["refused"] += len(qos)

    def _measure(self) -> None:
        try:
            text = httpx.get(self._at.stream, timeout=5.0, trust_env=False).text
        except httpx.HTTPError:
            return
        course = self.course
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        rows = [one for one in samples if one.name == "qos_stream_rows_total"]
        course.rows = _sum(one.value for one in rows if one.labels["outcome"] == "admitted")
        course.refused_rows = _sum(one.value for one in rows if one.labels["outcome"] != "admitted")
        by_name = {one.name: one.value for one in samples if not one.labels}
        made = (one.value for one in samples if one.name == "qos_stream_feature_rows_total")
        course.feature_rows = _sum(made)
        course.lag_s = by_name.get("qos_stream_lag_seconds")
        count = by_name.get("qos_stream_event_to_feature_seconds_count", 0.0)
        if count:
            total = by_name["qos_stream_event_to_feature_seconds_sum"]
            course.event_to_feature_s = total / count

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()
        self._service.close()


def _nearest(states: Mapping[str, State], asked_at: Mapping[str, float], now: float) -> list[str]:
    """The served UEs that were not asked about just now, those first whose neighbour is strongest
    beside the serving cell."""
    gains = {}
    for supi, state in states.items():
        heard = {one["cell_id"]: one["rsrp_dbm"] for one in state["cells"]}
        serving = heard.pop(state["cell_id_hex"], None)
        if serving is None or now - asked_at.get(supi, -AGAIN_S) < AGAIN_S:
            continue
        gains[supi] = max(heard.values(), default=-999.0) - serving
    return sorted(gains, key=lambda supi: -gains[supi])


def _outcome(status: str, met: bool | None) -> str:
    if status != "accepted":
        return status
    return {True: "met", False: "missed", None: "not observed"}[met]


def _sum(values: Iterable[float]) -> int:
    return int(sum(values))
