"""From scores to a decision: pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Verdict = Literal["apply", "stay", "fallback_a3"]
A3_OFFSET_DB = 3.0  # 3GPP TS 38.331, 5.5.4.4: a neighbour that much stronger is event A3
LEAST_GAIN = 0.05  # of confidence, for leaving a cell that meets the request


class Gate(Protocol):
    """What decides whether a score is sure enough; see `serving.gate`."""

    def required(self, service: str, priority: int) -> float:
        """The confidence needed, 0..1."""
        ...

    def suppressed(self, ue: str, to: str, confidence: float, now: float) -> str | None:
        """Why the UE is not moved there now."""
        ...

    def moved(self, ue: str, left: str | None, now: float) -> None:
        """A handover was decided."""
        ...


@dataclass(frozen=True)
class Choice:
    """What is decided. cell: where the UE should be, None: nobody knows one; place: its row, None: it
    has none; confidence: that the request is met there, None: not scored; ok: it passes the gate."""

    verdict: Verdict
    reason: str
    cell: str | None
    place: int | None
    confidence: float | None
    required: float
    ok: bool


def choose(
    ue: str,
    cells: Sequence[str],
    serving: int | None,
    confidence: Sequence[float],
    rsrp_dbm: Sequence[float | None],
    required: float,
    gate: Gate,
    now: float,
) -> Choice:
    """The cell with the highest confidence, if sure enough and worth the move.

    confidence and rsrp_dbm: one entry a cell; serving: place of the serving cell in them. A serving
    cell that meets the request is left only for `LEAST_GAIN` more. What is not sure enough is left to
    event A3 (reason low_confidence).
    """
    best = max(range(len(cells)), key=lambda at: (confidence[at], at == serving, -at))
    if confidence[best] < required:
        fall = fallback("low_confidence", cells, serving, rsrp_dbm, required)
        return Choice(
            "fallback_a3", "low_confidence", fall.cell, fall.place,
            None if fall.place is None else confidence[fall.place], required, False,
        )  # fmt: skip
    if serving is not None and best != serving:
        here = confidence[serving]
        if here >= required and confidence[best] < here + LEAST_GAIN:
            return _stay("serving_cell_meets_request", cells, serving, confidence, required)
    if best == serving:
        return _stay("serving_cell_is_best", cells, best, confidence, required)
    if serving is not None:
        why = gate.suppressed(ue, cells[best], confidence[best], now)
        if why is not None:
            return _stay(why, cells, serving, confidence, required)
        gate.moved(ue, cells[serving], now)
    return Choice("apply", "best_cell", cells[best], best, confidence[best], required, True)


def fallback(
    reason: str,
    cells: Sequence[str],
    serving: int | None,
    rsrp_dbm: Sequence[float | None],
    required: float,
) -> Choice:
    """Event A3 on what the request reports: the strongest cell, if `A3_OFFSET_DB` above the serving
    one; else the serving cell. Without a serving cell the strongest, else the first."""
    heard = [(level, -at) for at, level in enumerate(rsrp_dbm) if level is not None]
    place = serving
    if heard:
        level, strongest = max(heard)[0], -max(heard)[1]
        here = None if serving is None else rsrp_dbm[serving]
        if serving is None or (here is not None and level > here + A3_OFFSET_DB):
            place = strongest
    elif serving is None and cells:
        place = 0
    cell = None if place is None else cells[place]
    return Choice("fallback_a3", reason, cell, place, None, required, False)


def _stay(
    reason: str, cells: Sequence[str], place: int, confidence: Sequence[float], required: float
) -> Choice:
    sure = confidence[place]
    return Choice("stay", reason, cells[place], place, sure, required, sure >= required)
