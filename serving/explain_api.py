"""Why a decision was as it was: from its record, and the model that it names."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request

from models.bundle import Bundle
from schemas.errors import QosError
from serving.messages.explained import CellExplained, Explained, FeaturePart, OutcomeTold
from serving.outcome import Outcome
from serving.problems import Problem, problem_responses
from serving.record import SCORES, DecisionRecord, decided_us_of
from serving.score import Scorer
from serving.state import Service, service_of
from serving.vectors import STATUS

MOST_CONTRIBUTIONS = 20
MOST_MODELS = 4


class Scorers:
    """The scorers of models that decided, the last few kept; `load` gives a bundle by its version."""

    def __init__(self, load: Callable[[str], Bundle]) -> None:
        """None yet."""
        self._load = load
        self._known: OrderedDict[str, tuple[Scorer, tuple[str, ...]]] = OrderedDict()

    def of(self, record: DecisionRecord) -> tuple[Scorer, tuple[str, ...]]:
        """Scorer and features of the record's model; raises `QosError` for another or an absent one."""
        known = self._known.get(record.model_digest)
        if known is None:
            bundle = self._load(record.model_version)
            if bundle.digest != record.model_digest:
                raise QosError(
                    f"model {record.model_version} has digest {bundle.digest[:12]}…, the decision's "
                    f"had {record.model_digest[:12]}…"
                )
            known = Scorer(bundle), tuple(bundle.features)
            self._known[record.model_digest] = known
            while len(self._known) > MOST_MODELS:
                self._known.popitem(last=False)
        return known


def explain_routes(load: Callable[[str], Bundle]) -> APIRouter:
    """The route that explains; `load` gives the bundle of a version that is not the live one."""
    router, scorers = APIRouter(tags=["decisions"]), Scorers(load)

    @router.get(
        "/api/explain/{decision_id}", summary="Why a decision was as it was",
        responses=problem_responses(404, 409, 422, 503),
    )  # fmt: skip
    async def explain(
        request: Request,
        decision_id: Annotated[str, Path(max_length=64, description="as it was answered")],
    ) -> Explained:
        """From the log: vectors as they were seen, and the contributions of the model that scored
        them. 409: that model is not in the registry any more; 503: the
        registry does not answer."""
        service = service_of(request)
        if decided_us_of(decision_id) is None:
            raise Problem(404, [("decision_id", "a UUID of version 7 is needed")])
        return await asyncio.to_thread(_look, service, scorers, decision_id)

    return router


def _look(service: Service, scorers: Scorers, decision_id: str) -> Explained:
    log: Any = service.log
    record: DecisionRecord | None = log.find([decision_id]).get(decision_id)
    if record is None:
        raise Problem(404, [("decision_id", "no decision of this id is in the log")])
    model, live = None, service.live
    if record.scored and live.bundle.digest == record.model_digest:
        model = live.scorer, live.layout.names
    elif record.scored:
        try:
            model = scorers.of(record)
        except QosError as error:
            raise Problem(409, [("model", str(error))]) from None
    told = log.outcomes_of([decision_id]).get(decision_id, {})
    return explained(record, model, list(told.values()))


def explained(
    record: DecisionRecord,
    model: tuple[Scorer, tuple[str, ...]] | None,
    outcomes: list[Outcome],
) -> Explained:
    """The explanation; model: scorer and features, None where nothing was scored."""
    asked = {
        name: getattr(record, f"requested_{name}")
        for name in ("downlink_mbps", "delay_ms", "loss_ratio", "jitter_ms")
    }
    seconds, micros = divmod(record.decided_us, 1_000_000)
    cells = (
        [] if model is None else [_cell(record, row, *model) for row in range(len(record.cells))]
    )
    return Explained(
        decision_id=record.decision_id,
        decided_at=f"{np.datetime64(seconds, 's')}.{micros:06d}Z",
        ue_id=record.ue_id,
        decision=record.decision,
        reason=record.reason,
        chosen_cell=record.chosen_cell,
        required_confidence=record.required_confidence,
        observed_confidence=record.observed_confidence,
        requested={name: value for name, value in asked.items() if value is not None},
        overrides=record.overrides,
        model_version=record.model_version,
        service=record.service,
        catalog_hash=record.catalog_hash,
        cells=cells,
        outcomes=[
            OutcomeTold(kind=one.kind, late=one.late, met=one.met, success=one.success)
            for one in outcomes
        ],
    )


def _cell(
    record: DecisionRecord, row: int, scorer: Scorer, names: tuple[str, ...]
) -> CellExplained:
    vector, codes = record.vectors[row], record.statuses[row].tolist()
    parts, base = scorer.contributions(vector)
    largest = np.argsort(-np.abs(parts), kind="stable")[:MOST_CONTRIBUTIONS].tolist()
    statuses = [STATUS[code] for code in codes]
    scores = dict(zip(SCORES, record.scores[row].tolist(), strict=True))
    clock = record.clock_us or 0
    cell = record.cells[row]
    return CellExplained(
        cell_id=cell,
        chosen=cell == record.chosen_cell,
        serving=cell == record.connected_to,
        scores={name: value for name, value in scores.items() if not math.isnan(value)},
        statuses={name: statuses.count(name) for name in sorted(set(statuses))},
        age_s={
            view: (clock - at) / 1e6
            for view, at in zip(record.views, record.event_us[row].tolist(), strict=True)
            if at
        },
        base=base,
        contributions=[
            FeaturePart(
                feature=names[at],
                value=None if math.isnan(vector[at]) else float(vector[at]),
                status=statuses[at],
                contribution=float(parts[at]),
            )
            for at in largest
        ],
    )
