"""Rebuilds decisions from history and the registered model, and says what differs.

    python -m serving.replay 0198c0de-0000-7000-8000-000000000001

The vector comes from the offline store's rows that the online store held at the decision
(`serving.history`), the request and its overrides from the record; the scores from the registered
model's own `Bundle.predict`. A whole log gives 0 differences; anything else is a changed history, another
model or another definition.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from feature_repo.catalog import catalog_hash
from feature_repo.services import SERVICES
from feature_repo.store import REPO, open_store, quiet
from lifecycle.bundles import load
from lifecycle.registry import load_version, open_registry, tracking_uri
from models.bundle import Bundle
from schemas.errors import QosError, listed
from serving.asked import asked_of
from serving.decision_log import all_decisions, read_decisions
from serving.domain import domain_of
from serving.history import Past, past_of
from serving.predict import assess
from serving.record import SCORES, DecisionRecord, Floats
from serving.recorded import scores_of
from serving.requests import PredictRequest
from serving.score import DELAY, WHOLE, Scorer, Scores
from serving.vectors import Layout, Question, Vectors

if TYPE_CHECKING:
    from feast import FeatureStore

MOST_SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """A value of a cell that is not the recorded one; null: unknown."""

    cell_id: str
    name: str
    recorded: float | None
    rebuilt: float | None


@dataclass(frozen=True)
class Replayed:
    """What the replay of a decision found.

    scored: whether there was a vector to rebuild; vector_differences, score_differences: values that are
    not equal to the last bit; status_differences: features whose status is another; max_score_difference:
    the largest of a score, infinite where one is unknown on one side only; behind: views of which the
    online store held an earlier arrival than the last known; lost: views whose row is not in the history,
    as (cell, view); faults: model or definitions that are not those of the record; first: at most 20 of
    the differences.
    """

    decision_id: str
    scored: bool
    vector_differences: int
    status_differences: int
    score_differences: int
    max_score_difference: float
    behind: int
    lost: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]
    first: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Whether all is as recorded."""
        return not (
            self.vector_differences or self.status_differences or self.score_differences
            or self.lost or self.faults
        )  # fmt: skip


class Model:
    """A registered model as a replay asks it."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises `QosError` where the definitions have other features than the bundle."""
        self.bundle, self.layout = bundle, Layout(bundle)
        self.scorer, self.domain = _Plain(bundle), domain_of(bundle)


class _Plain:
    """The scores of a bundle by `Bundle.predict`, task by task."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        served = Scorer(bundle)
        self._rate, self._delay = served.rate_task, served.delay_task

    def __call__(self, matrix: Floats) -> Scores:
        predict, tasks = self._bundle.predict, self._bundle.tasks
        return Scores(
            met=predict(WHOLE, matrix)[0],
            disturbed=predict(DELAY, matrix)[0] if DELAY in tasks else None,
            rate=None if self._rate is None else predict(self._rate, matrix)[1],
            delay=None if self._delay is None else predict(self._delay, matrix)[1],
        )


def replay_all(
    records: Sequence[DecisionRecord], store: "FeatureStore", model: Model
) -> list[Replayed]:
    """The replay of each record, in their order.

    store: its offline sources are the history; model: that of the records, and a fault of each record
    that names another. Raises `QosError` for a record that this version cannot read.
    """
    scored = [one for one in records if one.scored]
    for one in scored:
        _check_readable(one, model.layout)
    with quiet():
        pasts = iter(past_of(store, model.layout, scored))
    return [_replayed(one, next(pasts), model) if one.scored else _nothing(one) for one in records]


def question_of(record: DecisionRecord) -> Question:
    """The question that the record's request and overrides were.

    Raises `QosError` where the request is none that this version takes.
    """
    try:
        said = json.loads(record.request)
        given = said | {"ue_id": record.ue_id, "features": record.overrides or None}
        request = PredictRequest.model_validate_json(json.dumps(given))
    except ValueError as error:
        raise QosError(
            f"decision {record.decision_id}: its request cannot be read: {error}"
        ) from None
    named = {one.cell_id: one for one in request.candidates or ()}
    serving = record.cells.index(record.connected_to) if record.connected_to is not None else None
    reported = tuple(named.get(cell) for cell in record.cells)
    return Question(request, asked_of(request), record.ue_id, record.cells, reported, serving)


def _check_readable(record: DecisionRecord, layout: Layout) -> None:
    if record.views != layout.views or record.vectors.shape[1] != len(layout.names):
        raise QosError(
            f"decision {record.decision_id}: service {record.service!r} then had "
            f"{record.vectors.shape[1]} features of views {listed(record.views)}; the model has "
            f"{len(layout.names)} of {listed(layout.views)}: replay with the definitions of then"
        )


def _replayed(record: DecisionRecord, past: Past, model: Model) -> Replayed:
    live: Any = model  # `assess` asks for layout, scorer and domain
    assessed = assess(live, [question_of(record)], past)
    vectors: Vectors = assessed.vectors
    scores = scores_of(assessed)
    features, names = model.layout.names, SCORES
    differ = _unequal(record.vectors, vectors.matrix)
    changed = _unequal(record.scores, scores)
    statuses = record.statuses != vectors.status
    first = [
        *_shown(record, differ, features, record.vectors, vectors.matrix),
        *_shown(record, changed, names, record.scores, scores),
    ]
    return Replayed(
        decision_id=record.decision_id,
        scored=True,
        vector_differences=int(differ.sum()),
        status_differences=int(statuses.sum()),
        score_differences=int(changed.sum()),
        max_score_difference=_largest(record.scores, scores),
        behind=past.behind,
        lost=tuple((record.cells[row], view) for row, view in past.lost),
        faults=_faults(record, model),
        first=tuple(first[:MOST_SHOWN]),
    )


def _nothing(record: DecisionRecord) -> Replayed:
    return Replayed(record.decision_id, False, 0, 0, 0, 0.0, 0, (), (), ())


def _faults(record: DecisionRecord, model: Model) -> tuple[str, ...]:
    found = []
    if (digest := model.bundle.digest) != record.model_digest:
        found.append(
            f"model: {record.model_version} was {record.model_digest[:12]}…, replayed {digest[:12]}…"
        )
    views = next(one for one in SERVICES if one.name == model.layout.service).views
    if (now := catalog_hash(views)) != record.catalog_hash:
        found.append(f"definitions: catalog {record.catalog_hash} then, {now} now")
    return tuple(found)


def _unequal(recorded: Floats, rebuilt: Floats) -> Any:
    return ~((recorded == rebuilt) | (np.isnan(recorded) & np.isnan(rebuilt)))


def _largest(recorded: Floats, rebuilt: Floats) -> float:
    if (np.isnan(recorded) != np.isnan(rebuilt)).any():
        return float("inf")
    return float(np.nanmax(np.abs(recorded - rebuilt), initial=0.0))


def _shown(
    record: DecisionRecord, marked: Any, names: Sequence[str], then: Floats, now: Floats
) -> list[Difference]:
    places = np.argwhere(marked)[:MOST_SHOWN].tolist()
    return [
        Difference(record.cells[row], names[at], _number(then[row, at]), _number(now[row, at]))
        for row, at in places
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def registered(version: str, uri: str | None = None) -> Bundle:
    """The bundle of a record's `model_version`; raises `RegistryError`."""
    return load_version(open_registry(uri or tracking_uri()), version)


def main(
    decision_ids: Annotated[list[str] | None, typer.Argument(help="decisions; none: --all")] = None,
    log: Annotated[Path, typer.Option(help="folder of the decision log")] = Path("data/serving"),
    every: Annotated[bool, typer.Option("--all", help="all decisions of the log")] = False,
    model: Annotated[
        Path | None, typer.Option(help="a bundle's folder, where the model was not registered")
    ] = None,
    profile: Annotated[str, typer.Option(help="of the feature store")] = "embedded",
    repo: Annotated[Path, typer.Option(help="where the store's relative places start")] = REPO,
) -> None:
    """Rebuilds decisions and prints what differs as JSON; exits with 1 where something does."""
    try:
        found = _run(decision_ids or [], log, every, model, open_store(profile, repo))
    except QosError as error:
        sys.exit(str(error))
    for one in found:
        print(json.dumps(asdict(one) | {"identical": one.identical}, allow_nan=True))
    if not all(one.identical for one in found):
        sys.exit(1)


def _run(
    ids: Sequence[str], log: Path, every: bool, folder: Path | None, store: "FeatureStore"
) -> list[Replayed]:
    if not ids and not every:
        raise QosError("no decision is named; name some, or all of the log with --all")
    records = list(all_decisions(log)) if every else list(read_decisions(log, ids).values())
    if missing := set(ids) - {one.decision_id for one in records}:
        raise QosError(f"{log}: {len(missing)} decisions are not in the log: {listed(missing)}")
    by_model: dict[str, list[DecisionRecord]] = {}
    for one in records:
        by_model.setdefault(one.model_version, []).append(one)
    found = []
    for version, some in by_model.items():
        bundle = load(folder) if folder is not None else registered(version)
        found += replay_all(some, store, Model(bundle))
    return found


if __name__ == "__main__":
    typer.run(main)
