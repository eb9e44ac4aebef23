"""From requests and an online read to the model's matrix, every value with where it comes from.

A row is a request and one of its cells. The bundle learnt on serving cells, so of a cell that is not
the serving one: what the UE hears now is what it reports of that cell (SUBSTITUTED), its windowed radio
statistics are unknown (OF_SERVING_CELL), and its flow's past is the one it had in the serving cell.
Nothing is made up: what nobody told is NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
_REPLACES = {
    "rsrp_dbm": "ue_rsrp_dbm_last_5s",
    "rsrq_db": "ue_rsrq_db_last_5s",
    "sinr_db": "ue_sinr_db_last_5s",
    "prb_used_ratio": "cell_prb_used_ratio_last_1m",
}
_OFFSET = "ue_rsrp_offset_db_max_1s"
_FILLS_CELL = {"active_ue_count": "cell_active_ue_count_mean_1m"}
_LAST_OF_FLOW = {"downlink_mbps": "flow_downlink_mbps_last_5s"}
_FILLS_FLOW = {
    "downlink_mbps": "flow_downlink_mbps_mean_5s",
    "downlink_delay_ms": "flow_downlink_delay_ms_mean_5s",
    "packet_loss_ratio": "flow_packet_loss_ratio_mean_10s",
}
_MARGIN_OF = {  # the threshold that a margin is taken from
    "qos_downlink_margin_mbps": 0,
    "qos_delay_margin_ms": 1,
    "qos_loss_margin_ratio": 2,
}
_SPEED = "ue_speed_mps_mean_5s"


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
    starts: the first row of each question, then the count of rows; event_us: rows x views, of the row
    that was read, 0: none; clock_us: the store's clock. Both are microseconds since 1970."""

    matrix: Floats
    status: Codes
    age_s: Floats
    view_status: Codes
    starts: tuple[int, ...]
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
        starts = [0]
        asked = np.full((3, rows), np.nan)
        for one in questions:
            start, stop = starts[-1], starts[-1] + len(one.cells)
            self._fill(one, matrix[start:stop], status[start:stop])
            wanted = one.asked
            for row, value in zip(
                asked, (wanted.downlink_mbps, wanted.delay_ms, wanted.loss_ratio), strict=True
            ):
                if value is not None:
                    row[start:stop] = value
            starts.append(stop)
        self._compute(matrix, status, asked)
        for one, start, stop in zip(questions, starts, starts[1:], strict=False):
            self._override(one.request.features or {}, matrix[start:stop], status[start:stop])
        first = self._first_of_view
        return Vectors(
            matrix, status, answer.age_s[:, first], told[:, first], tuple(starts),
            answer.event_us[:, first], answer.clock_us,
        )  # fmt: skip

    def _fill(self, one: Question, matrix: Floats, status: Codes) -> None:
        strongest = self._strongest(one)
        for row, (values, codes) in enumerate(zip(matrix, status, strict=True)):
            if row == one.serving:
                continue
            values[self._heard], codes[self._heard] = np.nan, OF_SERVING_CELL
            said = one.reported[row]
            best = strongest[1] if strongest[0][0] == row else strongest[0]
            if said is not None and said.rsrp_dbm is not None and best[0] is not None:
                self._set(values, codes, _OFFSET, best[1] - said.rsrp_dbm, SUBSTITUTED)
        for row, said in enumerate(one.reported):
            if said is None:
                continue
            code = OVERRIDDEN if row == one.serving else SUBSTITUTED
            for field, feature in _REPLACES.items():
                if (value := getattr(said, field)) is not None:
                    mark = OVERRIDDEN if feature.startswith("cell_") else code
                    self._set(matrix[row], status[row], feature, value, mark)
            for field, feature in _FILLS_CELL.items():
                self._add(matrix[row], status[row], feature, getattr(said, field))
        got, speed = one.request.observed_qos, one.request.speed_mps
        for row in range(len(matrix)):
            self._add(matrix[row], status[row], _SPEED, speed)
            if got is None:
                continue
            for field, feature in _LAST_OF_FLOW.items():
                if (value := getattr(got, field)) is not None:
                    self._set(matrix[row], status[row], feature, value, OVERRIDDEN)
            for field, feature in _FILLS_FLOW.items():
                self._add(matrix[row], status[row], feature, getattr(got, field))

    def _strongest(self, one: Question) -> list[tuple[int | None, float]]:
        """Row and RSRP of the two strongest reported cells; row None where there is none."""
        heard = [
            (row, said.rsrp_dbm)
            for row, said in enumerate(one.reported)
            if said is not None and said.rsrp_dbm is not None
        ]
        found: list[tuple[int | None, float]] = [*sorted(heard, key=lambda pair: -pair[1])[:2]]
        return found + [(None, float("nan"))] * (2 - len(found))

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

    def _set(self, values: Floats, codes: Codes, feature: str, value: float, code: int) -> None:
        if (place := self.place.get(feature)) is not None:
            values[place], codes[place] = value, code

    def _add(self, values: Floats, codes: Codes, feature: str, value: float | None) -> None:
        """Sets what the store did not know."""
        place = self.place.get(feature)
        if value is not None and place is not None and np.isnan(values[place]):
            values[place], codes[place] = value, ADDED
