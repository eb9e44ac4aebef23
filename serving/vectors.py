"""From requests and an online read to the model's matrix, every value with where it comes from.

A row is a request and one of its cells. The bundle learnt on serving cells, so of a cell that is not
the serving one: what the UE hears now is what it reports of that cell (SUBSTITUTED), its windowed radio
statistics are unknown (OF_SERVING_CELL), and its flow's past is the one it had in the serving cell.
Nothing is made up: what nobody told is NaN.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.services import SERVICES
from feature_repo.views.qos_margin import INPUTS, OBSERVED, QOS_MARGIN
from feature_repo.windows import OnDemandView
from models.bundle import Bundle
from schemas.errors import QosError, listed
from serving.asked import Asked
from serving.requests import Candidate, PredictRequest
from stores.answer import NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]
Ints = NDArray[np.int64]

OVERRIDDEN, ADDED, SUBSTITUTED, OF_SERVING_CELL, COMPUTED = 10, 11, 12, 13, 14
STATUS = {
    PRESENT: "present", NOT_FOUND: "not_found", OUTSIDE_MAX_AGE: "outside_max_age",
    OVERRIDDEN: "overridden", ADDED: "added", SUBSTITUTED: "substituted",
    OF_SERVING_CELL: "of_serving_cell", COMPUTED: "computed",
}  # fmt: skip
UNKNOWN = (NOT_FOUND, OUTSIDE_MAX_AGE, OF_SERVING_CELL)

_HEARD = ("ue_radio", "ue_neighbour")  # views of the UE that speak of its serving cell
_OFFSET = "ue_rsrp_offset_db_max_1s"
_REPLACES = {  # what is reported last, by the status that it has in a cell that is not the serving one
    "ue_rsrp_dbm_last_5s": SUBSTITUTED,
    "ue_rsrq_db_last_5s": SUBSTITUTED,
    "ue_sinr_db_last_5s": SUBSTITUTED,
    _OFFSET: SUBSTITUTED,
    "cell_prb_used_ratio_last_1m": OVERRIDDEN,
    "flow_downlink_mbps_last_5s": OVERRIDDEN,
}
_FILLS = (  # where the store knows nothing
    "cell_active_ue_count_mean_1m",
    "ue_speed_mps_mean_5s",
    "flow_downlink_mbps_mean_5s",
    "flow_downlink_delay_ms_mean_5s",
    "flow_packet_loss_ratio_mean_10s",
)
_MARGIN_OF = {  # the threshold that a margin is taken from
    "qos_downlink_margin_mbps": 0,
    "qos_delay_margin_ms": 1,
    "qos_loss_margin_ratio": 2,
}


class BadOverride(QosError):
    """An override of a feature that there is none of, or out of its range."""


@dataclass(frozen=True)
class Question:
    """One request made ready: ue: pseudonym; cells: the rows, the serving cell among them;
    reported: what was said of each cell, None: nothing; serving: its place in cells or None."""

    request: PredictRequest
    asked: Asked
    ue: str
    cells: tuple[str, ...]
    reported: tuple[Candidate | None, ...]
    serving: int | None

    @property
    def observed(self) -> bool:
        """Whether the request tells anything of the UE but who it is."""
        request = self.request
        return bool(
            request.features
            or request.observed_qos
            or request.speed_mps is not None
            or any(one is not None and one.rsrp_dbm is not None for one in self.reported)
        )


@dataclass(frozen=True)
class Vectors:
    """matrix: float64, rows x features, NaN = unknown; status: a code of `STATUS` each; age_s: rows x
    views, seconds from the newest event to the store's clock, NaN: never written; view_status: as read;
    starts: the first row of each question, then the count of rows; asked: 3 x rows, the thresholds
    downlink [Mbps], delay [ms] and loss ratio, NaN: not asked; event_us: rows x views, of the row that
    was read, 0: none; clock_us: the store's clock. Both are microseconds since 1970."""

    matrix: Floats
    status: Codes
    age_s: Floats
    view_status: Codes
    starts: tuple[int, ...]
    asked: Floats
    event_us: Ints
    clock_us: int


class Layout:
    """Where each feature of a bundle stands, what is read for it and what may replace it."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises `QosError` for a service unknown here, or of other features than the bundle's."""
        name = bundle.manifest["service"]
        service = next((one for one in SERVICES if one.name == name), None)
        if service is None:
            raise QosError(f"bundle: service {name!r}; known: {listed([s.name for s in SERVICES])}")
        features = service.features()
        if [one.name for one in features] != bundle.features:
            raise QosError(
                f"bundle: its {len(bundle.features)} features are not the {len(features)} of "
                f"service {name!r}, in that order; train again or check out the definitions"
            )
        self.service, self.names = name, tuple(bundle.features)
        self.place = {feature: place for place, feature in enumerate(self.names)}
        self.ranges = {one.name: (one.low, one.high, one.unit) for one in features}
        stored_views = [v for v in service.members() if not isinstance(v, OnDemandView)]
        self.views = tuple(view.name for view in stored_views)
        self.refs = [f"{view.name}:{f.name}" for view in stored_views for f in view.features()]
        self.of_ue = np.array(["ue_id" in view.keys for view in stored_views])
        self._stored = np.array([self.place[ref.partition(":")[2]] for ref in self.refs])
        whole = np.array_equal(self._stored, np.arange(len(self._stored)))
        self._in_front = len(self._stored) if whole else None
        of_view = {view.name: [f.name for f in view.features()] for view in service.members()}
        self._heard = np.array(
            [self.place[f] for view in _HEARD for f in of_view.get(view, ())], int
        )
        firsts = [of_view[view][0] for view in self.views]
        order = [ref.partition(":")[2] for ref in self.refs]
        self._first_of_view = np.array([order.index(first) for first in firsts])
        view_of = {f: self.views.index(v) for v in self.views for f in of_view[v]}
        self.view_of = np.array([view_of.get(feature, 0) for feature in self.names])
        self.is_computed = np.array([feature not in view_of for feature in self.names])
        replaced = [one for one in _REPLACES if one in self.place]
        filled = [one for one in _FILLS if one in self.place]
        columns = [*_REPLACES, *_FILLS]
        self._replaces = np.array([columns.index(one) for one in replaced], int)
        self._replaces_at = np.array([self.place[one] for one in replaced], int)
        self._replaces_as = np.array([_REPLACES[one] for one in replaced], np.uint8)
        self._fills = np.array([columns.index(one) for one in filled], int)
        self._fills_at = np.array([self.place[one] for one in filled], int)
        self._margins = [(n, self.place[n]) for n in of_view.get(QOS_MARGIN.name, ())]
        self._observed = [self.place.get(one) for one in OBSERVED]

    def check(self, request: PredictRequest) -> None:
        """Raises `BadOverride` for an override of no feature of the service, or out of its range."""
        for name, value in (request.features or {}).items():
            if name not in self.ranges:
                raise BadOverride(f"features: {name!r} is no feature of service {self.service!r}")
            low, high, unit = self.ranges[name]
            if (low is not None and value < low) or (high is not None and value > high):
                raise BadOverride(
                    f"features: {name} is {value:g}; allowed: {low} to {high} [{unit}]"
                )

    def entities(self, questions: Sequence[Question]) -> dict[str, list[Any]]:
        """The rows as the reader asks for them."""
        ues: list[str] = []
        qis: list[int] = []
        cells: list[str] = []
        for one in questions:
            cells += one.cells
            ues += [one.ue] * len(one.cells)
            qis += [one.asked.five_qi] * len(one.cells)
        return {"ue_id": ues, "five_qi": qis, "cell_id": cells}

    def vectors(self, questions: Sequence[Question], answer: Any) -> Vectors:
        """The matrix of all questions from one read of `entities`. Raises UnreadableValue."""
        read, told = answer.matrix, answer.status
        rows, width = len(read), len(self.names)
        matrix = np.full((rows, width), np.nan)
        status = np.full((rows, width), COMPUTED, np.uint8)
        target = slice(self._in_front) if self._in_front is not None else self._stored
        matrix[:, target], status[:, target] = read, told
        starts = [0, *accumulate(len(one.cells) for one in questions)]
        wanted = [
            (one.asked.downlink_mbps, one.asked.delay_ms, one.asked.loss_ratio) for one in questions
        ]
        asked = np.repeat(np.array(wanted, np.float64), np.diff(starts), axis=0).T
        self._fill(questions, starts, matrix, status)
        self._compute(matrix, status, asked)
        for one, start, stop in zip(questions, starts, starts[1:], strict=False):
            if one.request.features:
                self._override(one.request.features, matrix[start:stop], status[start:stop])
        first = self._first_of_view
        return Vectors(
            matrix, status, answer.age_s[:, first], told[:, first], tuple(starts),
            asked, answer.event_us[:, first], answer.clock_us,
        )  # fmt: skip

    def _fill(
        self, questions: Sequence[Question], starts: Sequence[int], matrix: Floats, status: Codes
    ) -> None:
        """What the requests report, all rows at once."""
        serving = np.zeros(len(matrix), np.bool_)
        serving[[
            start + one.serving
            for one, start in zip(questions, starts, strict=False)
            if one.serving is not None
        ]] = True  # fmt: skip
        elsewhere = np.flatnonzero(~serving)[:, None]
        matrix[elsewhere, self._heard] = np.nan
        status[elsewhere, self._heard] = OF_SERVING_CELL
        told = np.array([row for one in questions for row in _reported(one)], np.float64)
        last, filling = told[:, self._replaces], told[:, self._fills]
        at, known = self._replaces_at, ~np.isnan(last)
        codes = np.where(serving[:, None], OVERRIDDEN, self._replaces_as)
        matrix[:, at] = np.where(known, last, matrix[:, at])
        status[:, at] = np.where(known, codes, status[:, at])
        at, before = self._fills_at, matrix[:, self._fills_at]
        known = np.isnan(before) & ~np.isnan(filling)
        matrix[:, at] = np.where(known, filling, before)
        status[:, at] = np.where(known, ADDED, status[:, at])

    def _compute(self, matrix: Floats, status: Codes, asked: Floats) -> None:
        """The on-demand features, by the function of their own definition."""
        if not self._margins:
            return
        observed = [
            np.full(len(matrix), np.nan) if place is None else matrix[:, place]
            for place in self._observed
        ]
        made = QOS_MARGIN.compute(dict(zip(INPUTS, [*asked, *observed], strict=True)))
        for name, place in self._margins:
            matrix[:, place] = made[name]
            if (source := _MARGIN_OF.get(name)) is not None:
                absent = np.isfinite(asked[source]) & np.isnan(made[name])
                if absent.any():
                    status[absent, place] = NOT_FOUND

    def _override(self, given: Mapping[str, float], matrix: Floats, status: Codes) -> None:
        for name, value in given.items():
            place = self.place[name]
            matrix[:, place], status[:, place] = value, OVERRIDDEN


def _reported(one: Question) -> Iterator[tuple[float | None, ...]]:
    """Of each row what is said of it, in the order of `_REPLACES` and `_FILLS`; None: nothing."""
    got, speed = one.request.observed_qos, one.request.speed_mps
    flow = (
        (None,) * 3
        if got is None
        else (got.downlink_mbps, got.downlink_delay_ms, got.packet_loss_ratio)
    )
    heard = sorted(
        (
            (said.rsrp_dbm, -row)
            for row, said in enumerate(one.reported)
            if said is not None and said.rsrp_dbm is not None
        ),
        reverse=True,
    )
    for row, said in enumerate(one.reported):
        if said is None:
            yield (None, None, None, None, None, flow[0], None, speed, *flow)
            continue
        offset = None
        if row != one.serving and said.rsrp_dbm is not None and len(heard) > 1:
            strongest = heard[1] if heard[0][1] == -row else heard[0]
            offset = strongest[0] - said.rsrp_dbm
        yield (
            said.rsrp_dbm, said.rsrq_db, said.sinr_db, offset, said.prb_used_ratio, flow[0],
            said.active_ue_count, speed, *flow,
        )  # fmt: skip
