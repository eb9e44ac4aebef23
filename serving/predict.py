"""Answers requests: read, vectors, scores, decision; every fault on the way is a stated fallback."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle.pseudonym import pseudonym
from serving.asked import asked_of
from serving.budget import within
from serving.decide import Choice, choose, fallback
from serving.live import Live
from serving.requests import MOST_CANDIDATES, Candidate, PredictRequest
from serving.score import Scores, below
from serving.state import Metrics, Service
from serving.vectors import OF_SERVING_CELL, STATUS, SUBSTITUTED, UNKNOWN, Question, Vectors
from stores.answer import NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT
from stores.errors import StoreError
from stores.reader import OnlineStoreAway, OnlineStoreRefuses, UnreadableValue

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
log = logging.getLogger(__name__)
_PSEUDONYM = re.compile(r"ue-[0-9a-f]{20}")
_APART = 16  # so few are decided one by one where the fault of one spoils them all
_LATE_S = 0.005  # the reader keeps its budget itself, and sees whether only the loop was late
_IS_UNKNOWN = np.isin(np.arange(256), UNKNOWN)  # by code
_READ = {code: STATUS[code] for code in (PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE)}
_IN_LOOP_ROWS = 48  # more rows are scored in a thread, so that single requests need not wait


class Told(NamedTuple):
    """What was assessed as plain lists, one entry a row: requests share the making of them."""

    met: list[float]
    confidence: list[float]
    unknown: list[float]
    substituted: list[float]
    outside: list[float]
    missing: list[float]
    aged: list[float]
    stranger: list[bool]
    strange: list[bool]
    limits: dict[str, list[float]]
    rate: list[list[float]] | None
    delay: list[list[float]] | None
    view_status: list[list[int]]
    age_s: list[list[float]]


@dataclass(frozen=True)
class Assessed:
    """The rows of some questions, scored. Shares (0..1) are of the classifier's gain; missing, aged: of
    what the store should know; stranger: rows of a UE of which the store knows nothing; limits: per
    threshold (rows) the probability that it is kept, NaN: not asked or not known."""

    vectors: Vectors
    scores: Scores
    outside: Bools
    unknown_share: Floats
    substituted_share: Floats
    outside_share: Floats
    missing_share: Floats
    aged_share: Floats
    stranger: Bools
    confidence: Floats
    limits: dict[str, Floats]

    @cached_property
    def told(self) -> Told:
        """As lists; shares that rounding put above 1 are 1, and strange is what lies outside at all."""
        rate, delay = self.scores.rate, self.scores.delay
        strange: list[bool] = np.any(self.outside, axis=1).tolist()
        unknown, substituted, outside = np.minimum(
            (self.unknown_share, self.substituted_share, self.outside_share), 1.0
        ).tolist()
        return Told(
            self.scores.met.tolist(), self.confidence.tolist(), unknown, substituted, outside,
            self.missing_share.tolist(), self.aged_share.tolist(), self.stranger.tolist(),
            strange,
            {name: values.tolist() for name, values in self.limits.items()},
            None if rate is None else rate.tolist(), None if delay is None else delay.tolist(),
            self.vectors.view_status.tolist(), self.vectors.age_s.tolist(),
        )  # fmt: skip


@dataclass(frozen=True)
class Decided:
    """A question with its decision and what it rests on; assessed is None where nothing was scored.

    start: the question's first row in `assessed`; decided_us: microseconds since 1970.
    """

    decision_id: str
    decided_us: int
    question: Question
    choice: Choice
    live: Live
    assessed: Assessed | None
    start: int

    @property
    def rows(self) -> slice:
        """Those of this question in `assessed`."""
        return slice(self.start, self.start + len(self.question.cells))


class _Fallback(Exception):
    """Why nothing could be scored."""


async def decide_all(service: Service, requests: Sequence[PredictRequest]) -> list[Decided]:
    """One decision a request, in their order; one read and one scoring for all of them.

    Raises `BadOverride` for a feature override that is none; everything else is a fallback.
    """
    live, metrics = service.live, service.metrics
    for request in requests:
        if request.features:
            live.layout.check(request)
    questions, away = [], False
    for request in requests:
        try:
            questions.append(await question_of(service, live, request, away))
        except _Fallback:
            away = True  # what the next ones need of the store they are not kept waiting for
            questions.append(await question_of(service, live, request, away))
    asked = [one for one in questions if one.cells]
    assessed, why = None, "store_away" if away else "no_candidates"
    if asked and not away:
        try:
            assessed = await _assess(service, live, asked)
        except _Fallback as error:
            why = str(error)
            if 1 < len(requests) <= _APART and why in ("unreadable_features", "model_failed"):
                return [made for one in requests for made in await decide_all(service, [one])]
    decided: list[Decided] = []
    place, began = 0, time.perf_counter()
    for one in questions:
        at = place if one.cells else 0
        reason = None
        if not one.cells:
            reason = "store_away" if away and one.request.candidates is None else "no_candidates"
        elif assessed is None:
            reason = why
        start = assessed.vectors.starts[at] if assessed is not None and one.cells else 0
        place += bool(one.cells)
        made = _decide(service, live, one, assessed if reason is None else None, start, reason)
        decided.append(made)
        metrics.gated(made.choice.reason)
        if made.choice.verdict == "fallback_a3":
            metrics.fell_back(made.choice.reason, one.asked.service)
        elif made.choice.cell is not None:
            metrics.picked(made.choice.cell, made.choice.confidence or 0.0)
        service.log.append(made)
    metrics.staged("decide", time.perf_counter() - began)
    return decided


async def question_of(
    service: Service, live: Live, request: PredictRequest, away: bool = False
) -> Question:
    """The request made ready; cells that it does not name are those that the store knows it hears.

    away: the store is not asked, and there are none. Raises `_Fallback` where it does not answer.
    """
    ue = _pseudonym(request.ue_id, live.key)
    asked = asked_of(request)
    reported: tuple[Candidate | None, ...] = tuple(request.candidates or ())
    cells = tuple(one.cell_id for one in request.candidates or ())
    if request.candidates is None:
        cells = () if away else await _heard(service, live, ue)
        reported = (None,) * len(cells)
    serving = request.connected_to
    if serving is not None and serving not in cells:
        cells, reported = (*cells, serving), (*reported, None)
    place = None if serving is None else cells.index(serving)
    return Question(request, asked, ue, cells, reported, place)


async def _heard(service: Service, live: Live, ue: str) -> tuple[str, ...]:
    """The cells whose link to the UE the store holds and has not outlived, strongest first."""
    if live.heard is None or not live.cells:
        return ()
    cells = live.cells
    try:
        answer = await _read(service, live.heard, {"ue_id": [ue] * len(cells), "cell_id": cells})
        levels = answer.matrix[:, 0]
    except UnreadableValue:
        return ()
    order = np.argsort(-levels, kind="stable")[:MOST_CANDIDATES]
    return tuple(cells[place] for place in order.tolist() if np.isfinite(levels[place]))


async def _read(service: Service, reader: Any, entities: dict[str, Any]) -> Any:
    """One read within its budget; raises `_Fallback` store_away."""
    breakers = service.breakers
    if breakers.is_open("store"):
        raise _Fallback("store_away")
    try:
        answer = await within(service.settings.store_s + _LATE_S, reader.read_async(entities))
    except (TimeoutError, OnlineStoreAway, OnlineStoreRefuses, StoreError, OSError):
        breakers.failed("store")
        raise _Fallback("store_away") from None
    breakers.succeeded("store")
    return answer


async def _assess(service: Service, live: Live, questions: list[Question]) -> Assessed:
    metrics, clock = service.metrics, time.perf_counter
    began = clock()
    answer = await _read(service, live.reader, live.layout.entities(questions))
    read = clock()
    try:
        if answer.rows > _IN_LOOP_ROWS:
            assessed = await asyncio.to_thread(assess, live, questions, answer)
        else:
            assessed = assess(live, questions, answer)
    except UnreadableValue:
        raise _Fallback("unreadable_features") from None
    except Exception:  # whatever a model or a library raises is no reason for a 500
        log.exception("the model or its features failed; event A3 decides")
        service.metrics.dropped("score")
        raise _Fallback("model_failed") from None
    metrics.staged("read", read - began)
    metrics.staged("score", clock() - read)
    _count_read(metrics, live.layout.views, assessed.vectors)
    return assessed


def _count_read(metrics: Metrics, views: Sequence[str], vectors: Vectors) -> None:
    for view, age_s in zip(views, np.fmin.reduce(vectors.age_s, axis=0).tolist(), strict=True):
        metrics.aged(view, age_s)
    for code, name in _READ.items():
        counts = (vectors.view_status == code).sum(axis=0).tolist()
        for view, rows in zip(views, counts, strict=True):
            if rows:
                metrics.read(view, name, rows)


def assess(live: Live, questions: Sequence[Question], answer: Any) -> Assessed:
    """Vectors and scores of all rows; pure but for the model. Raises UnreadableValue."""
    vectors = live.layout.vectors(questions, answer)
    matrix, status = vectors.matrix, vectors.status
    scores = live.scorer(matrix)
    if not np.isfinite(scores.met).all():
        raise ValueError("the classifier gave no probability")
    domain, layout, nowhere = live.domain, live.layout, np.isnan(matrix)
    read = vectors.view_status.take(layout.view_of, axis=1)
    read = np.where(layout.is_computed, status, read)
    outside = domain.outside(matrix)
    outside &= status != OF_SERVING_CELL
    unknown_share, substituted_share, outside_share, missing_share, aged_share = domain.shares(
        _IS_UNKNOWN[status] & nowhere,
        status == SUBSTITUTED,
        outside,
        (read == NOT_FOUND) & nowhere,
        (read == OUTSIDE_MAX_AGE) & nowhere,
    )
    trust = np.clip(1 - unknown_share - substituted_share / 2, 0, 1)
    trust *= np.clip(1 - outside_share, 0, 1)
    return Assessed(
        vectors, scores, outside, unknown_share, substituted_share, outside_share, missing_share,
        aged_share, (vectors.view_status[:, layout.of_ue] == NOT_FOUND).all(axis=1),
        scores.met * trust, _limits(vectors.asked, scores),
    )  # fmt: skip


def _limits(asked: Floats, scores: Scores) -> dict[str, Floats]:
    """Per threshold the probability that it is kept; asked: as of `Vectors`.

    downlink_mbps, delay_ms: from the band (`score.below`); loss_ratio: one less the probability of any
    lost or late packet, so a lower bound.
    """
    nothing = np.full(len(scores.met), np.nan)
    kept = nothing if scores.disturbed is None else 1 - scores.disturbed
    return {
        "downlink_mbps": nothing if scores.rate is None else 1 - below(scores.rate, asked[0]),
        "delay_ms": nothing if scores.delay is None else below(scores.delay, asked[1]),
        "loss_ratio": np.where(np.isnan(asked[2]), np.nan, kept),
    }


def _decide(
    service: Service,
    live: Live,
    one: Question,
    assessed: Assessed | None,
    start: int,
    reason: str | None,
) -> Decided:
    now = time.time_ns() // 1000
    required = service.gate.required(one.asked.service, one.asked.priority)
    levels = [None if said is None else said.rsrp_dbm for said in one.reported]
    if assessed is not None:
        most = service.settings.most_unknown
        reason = _too_little(one, assessed, start, most)
    if reason is not None or assessed is None:
        choice = fallback(reason or "model_failed", one.cells, one.serving, levels, required)
    else:
        sure = assessed.told.confidence[start : start + len(one.cells)]
        choice = choose(
            one.ue, one.cells, one.serving, sure, levels, required, service.gate, time.monotonic()
        )
    return Decided(decision_id(now), now, one, choice, live, assessed, start)


def _too_little(one: Question, assessed: Assessed, start: int, most_unknown: float) -> str | None:
    """Whether nothing at all is known of the UE (unknown_ue), or too much of what the store should know
    is missing or too old, in every cell.

    What is unknown only because a cell is not the serving one does not count here: it lowers that
    cell's confidence.
    """
    rows, told = slice(start, start + len(one.cells)), assessed.told
    if told.stranger[start] and not one.observed:
        return "unknown_ue"
    missing, aged = told.missing[rows], told.aged[rows]
    least, older = min((lost + old, old > lost) for lost, old in zip(missing, aged, strict=True))
    if least <= most_unknown:
        return None
    return "stale_features" if older else "missing_features"


@lru_cache(maxsize=100_000)
def _pseudonym(ue: str, key: bytes) -> str:
    return ue if _PSEUDONYM.fullmatch(ue) else pseudonym(ue, key)


def _chances(at_once: int = 256) -> Iterator[bytes]:
    """80 bits each; the system is asked once for many."""
    while True:
        drawn = secrets.token_bytes(10 * at_once)
        for place in range(0, len(drawn), 10):
            yield drawn[place : place + 10]


_CHANCE = _chances()


def decision_id(now_us: int) -> str:
    """A UUID of version 7 (RFC 9562): sorts by time, 74 bits of chance."""
    random = int.from_bytes(next(_CHANCE)) >> 6
    value = (now_us // 1000) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62
    text = f"{value | (random & ((1 << 62) - 1)):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
