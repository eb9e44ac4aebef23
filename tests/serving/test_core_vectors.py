"""Where each value of a vector comes from; what nobody told is unknown."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.services import SERVICES
from models.bundle import Bundle
from schemas.errors import QosError
from serving.asked import asked_of
from serving.domain import Domain, domain_of
from serving.predict import decision_id
from serving.requests import Candidate, PredictRequest
from serving.vectors import (
    ADDED,
    COMPUTED,
    OF_SERVING_CELL,
    OVERRIDDEN,
    SUBSTITUTED,
    BadOverride,
    Layout,
    Question,
    Vectors,
)
from stores.answer import NOT_FOUND, PRESENT
from tests.serving.core_kit import NAMES, rows_of
from tests.serving.filled_by_rule import filled

SERVICE = next(one for one in SERVICES if one.name == "qos_v1")
LAYOUT = Layout(Bundle({"service": "qos_v1", "features": NAMES}, {}))
AT = {name: place for place, name in enumerate(NAMES)}


class Read:
    """What a reader answers: the stored features, each row's own number in all of them."""

    def __init__(self, rows: int, absent: tuple[str, ...] = ()):
        count = len(LAYOUT.refs)
        gone = np.array([ref.partition(":")[0] in absent for ref in LAYOUT.refs])
        self.matrix = np.repeat(np.arange(1.0, rows + 1)[:, None], count, axis=1)
        self.matrix[:, gone] = np.nan
        self.status = (
            np.where(gone, NOT_FOUND, PRESENT).astype(np.uint8).repeat(rows).reshape(-1, rows).T
        )
        self.age_s = np.where(gone, np.nan, 3.0).repeat(rows).reshape(-1, rows).T
        self.clock_us = 1_000_000_000
        self.event_us = np.where(np.isnan(self.age_s), 0, self.clock_us - 3_000_000)


def question(*cells: dict[str, Any], serving: int | None = 0, **fields: Any) -> Question:
    request = PredictRequest.model_validate({"ue_id": "u", "five_qi": 9} | fields)
    reported = tuple(Candidate(cell_id=str(n), **one) for n, one in enumerate(cells))
    return Question(
        request, asked_of(request), "u", tuple(c.cell_id for c in reported), reported, serving
    )


def vectors(*questions: Question, absent: tuple[str, ...] = ()) -> Vectors:
    rows = sum(len(one.cells) for one in questions)
    return LAYOUT.vectors(questions, Read(rows, absent))


def told(found: Vectors, row: int, name: str) -> tuple[float, int]:
    return float(found.matrix[row, AT[name]]), int(found.status[row, AT[name]])


def test_the_serving_cell_keeps_what_the_store_has() -> None:
    found = vectors(question({}, {}))
    stored = ~LAYOUT.is_computed
    assert (found.matrix[0, stored] == 1).all() and (found.status[0, stored] == PRESENT).all()


def test_another_cell_has_what_is_reported_of_it_and_else_nothing_of_the_serving_one() -> None:
    found = vectors(question({"rsrp_dbm": -90.0}, {"rsrp_dbm": -95.0, "sinr_db": 4.0}))
    assert told(found, 0, "ue_rsrp_dbm_last_5s") == (-90.0, OVERRIDDEN)
    assert told(found, 1, "ue_rsrp_dbm_last_5s") == (-95.0, SUBSTITUTED)
    assert told(found, 1, "ue_sinr_db_last_5s") == (4.0, SUBSTITUTED)
    assert told(found, 1, "ue_rsrp_offset_db_max_1s") == (5.0, SUBSTITUTED)
    heard = [
        f.name
        for v in SERVICE.members()
        if v.name in ("ue_radio", "ue_neighbour")
        for f in v.features()
    ]
    rest = set(heard) - {"ue_rsrp_dbm_last_5s", "ue_sinr_db_last_5s", "ue_rsrp_offset_db_max_1s"}
    for name in rest:
        value, status = told(found, 1, name)
        assert np.isnan(value) and status == OF_SERVING_CELL, name
    assert told(found, 1, "ue_speed_mps_mean_5s") == (2.0, PRESENT)
    assert told(found, 1, "cell_sinr_db_mean_5m") == (2.0, PRESENT)


def test_the_offset_is_to_the_strongest_other_cell() -> None:
    found = vectors(question({}, {"rsrp_dbm": -80.0}, {"rsrp_dbm": -90.0}, {"rsrp_dbm": -85.0}))
    offsets = [told(found, row, "ue_rsrp_offset_db_max_1s")[0] for row in (1, 2, 3)]
    assert offsets == [-5.0, 10.0, 5.0]
    alone = vectors(question({}, {"rsrp_dbm": -80.0}))
    assert told(alone, 1, "ue_rsrp_offset_db_max_1s")[1] == OF_SERVING_CELL


def test_an_observation_replaces_what_is_last_and_adds_what_is_unknown() -> None:
    got = {"downlink_mbps": 20.0, "downlink_delay_ms": 30.0, "packet_loss_ratio": 0.5}
    one = question(
        {"active_ue_count": 4.0, "prb_used_ratio": 0.25}, observed_qos=got, speed_mps=9.0
    )
    known = vectors(one)
    assert told(known, 0, "flow_downlink_mbps_last_5s") == (20.0, OVERRIDDEN)
    assert told(known, 0, "cell_prb_used_ratio_last_1m") == (0.25, OVERRIDDEN)
    for name in ("flow_downlink_delay_ms_mean_5s", "cell_active_ue_count_mean_1m"):
        assert told(known, 0, name) == (1.0, PRESENT)
    empty = vectors(one, absent=("ue_flow", "cell_load", "ue_motion"))
    assert told(empty, 0, "flow_downlink_delay_ms_mean_5s") == (30.0, ADDED)
    assert told(empty, 0, "cell_active_ue_count_mean_1m") == (4.0, ADDED)
    assert told(empty, 0, "ue_speed_mps_mean_5s") == (9.0, ADDED)
    value, status = told(empty, 0, "flow_downlink_mbps_mean_60s")
    assert np.isnan(value) and status == NOT_FOUND


def test_margins_are_those_of_the_features_definition() -> None:
    found = vectors(question({}, thresholds={"downlink_mbps": 5.0, "loss_ratio": 0.25}))
    assert told(found, 0, "request_downlink_mbps") == (5.0, COMPUTED)
    assert told(found, 0, "qos_downlink_margin_mbps") == (1.0 - 5.0, COMPUTED)
    assert told(found, 0, "qos_loss_margin_ratio") == (0.25 - 1.0, COMPUTED)
    value, status = told(found, 0, "qos_delay_margin_ms")
    assert np.isnan(value) and status == COMPUTED  # no delay is asked
    missing = vectors(question({}, thresholds={"downlink_mbps": 5.0}), absent=("ue_flow",))
    value, status = told(missing, 0, "qos_downlink_margin_mbps")
    assert np.isnan(value) and status == NOT_FOUND


def test_each_question_keeps_to_its_own_rows() -> None:
    first = question({"rsrp_dbm": -90.0}, thresholds={"delay_ms": 3.0})
    second = question({}, {}, thresholds={"delay_ms": 8.0}, features={"ue_cqi_mean_10s": 6.0})
    both = vectors(first, second)
    assert both.starts == (0, 1, 3)
    assert both.matrix[:, AT["request_delay_ms"]].tolist() == [3.0, 8.0, 8.0]
    assert told(both, 2, "ue_cqi_mean_10s") == (6.0, OVERRIDDEN)
    assert told(both, 0, "ue_cqi_mean_10s") == (1.0, PRESENT)


def maybe(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high)


REPORTED = st.none() | st.builds(
    Candidate, cell_id=st.just("c"), rsrp_dbm=st.none() | st.sampled_from([-90.0, -100.0]),
    rsrq_db=maybe(-20, -3), sinr_db=maybe(-20, 40), prb_used_ratio=maybe(0, 1),
    active_ue_count=maybe(0, 50),
)  # fmt: skip
OBSERVED = st.none() | st.fixed_dictionaries(
    {}, optional={"downlink_mbps": st.floats(0, 90), "downlink_delay_ms": st.floats(1, 90),
                  "packet_loss_ratio": st.floats(0, 1)},
)  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> Question:
    reported = tuple(draw(st.lists(REPORTED, min_size=1, max_size=4)))
    serving = draw(st.none() | st.integers(0, len(reported) - 1))
    observed = draw(OBSERVED) or None
    asked = {"ue_id": "u", "five_qi": 9, "observed_qos": observed, "speed_mps": draw(maybe(0, 50))}
    request = PredictRequest.model_validate(asked)
    cells = tuple(map(str, range(len(reported))))
    return Question(request, asked_of(request), "u", cells, reported, serving)


@settings(deadline=None)
@given(
    st.lists(questions(), min_size=1, max_size=4),
    st.sets(st.sampled_from(["ue_radio", "ue_flow", "cell_load", "ue_motion"])),
)
def test_each_value_is_what_the_rules_make_of_it(asked: list[Question], absent: set[str]) -> None:
    found = vectors(*asked, absent=tuple(absent))
    read = Read(len(found.matrix), tuple(absent))
    stored = [ref.partition(":")[2] for ref in LAYOUT.refs]
    rows = [(one, row) for one in asked for row in range(len(one.cells))]
    for at, (one, row) in enumerate(rows):
        for place, name in enumerate(stored):
            wanted = filled(
                one, row, name, float(read.matrix[at, place]), int(read.status[at, place])
            )
            assert repr(told(found, at, name)) == repr(wanted), (one, row, name)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("ue_latitude_deg", 38.0, "no feature"), ("ue_rsrp_dbm_last_5s", 38.0, "allowed: -156")],
)
def test_an_override_of_no_feature_or_out_of_range_is_refused(
    name: str, value: float, said: str
) -> None:
    with pytest.raises(BadOverride, match=said):
        LAYOUT.check(PredictRequest(ue_id="u", features={name: value}))


def test_a_bundle_of_other_features_is_refused() -> None:
    with pytest.raises(QosError, match="in that order"):
        Layout(Bundle({"service": "qos_v1", "features": NAMES[::-1]}, {}))
    with pytest.raises(QosError, match="known: 'qos_v1'"):
        Layout(Bundle({"service": "qos_v0", "features": NAMES}, {}))


def test_outside_is_what_training_never_saw_and_nan_never_is() -> None:
    domain = Domain(
        np.array([0.0, -5, np.nan]), np.array([1.0, 5, np.nan]), np.array([0.5, 0.3, 0.2])
    )
    outside = domain.outside(np.array([[2.0, 0, 7], [0.5, -6, np.nan], [np.nan] * 3]))
    assert outside.tolist() == [[True, False, False], [False, True, False], [False] * 3]
    assert domain.shares(outside, ~outside).tolist() == [[0.5, 0.3, 0.0], [0.5, 0.7, 1.0]]


def test_the_domain_of_a_bundle_holds_its_training_rows(bundle: Bundle) -> None:
    features, _ = rows_of()
    domain = domain_of(bundle)
    known = np.isfinite(domain.low)
    assert known.sum() > 60
    assert not domain.outside(features).any()
    features[0, AT["ue_sinr_db_last_5s"]] = 39.0
    assert domain.outside(features)[0].sum() == 1
    assert domain.weight.sum() == pytest.approx(1)


def test_the_manifests_own_ranges_come_first(bundle: Bundle) -> None:
    manifest = bundle.manifest | {"domain": {"ue_sinr_db_last_5s": [0.0, 1.0]}}
    domain = domain_of(Bundle(manifest, bundle.tasks))
    assert (domain.low[AT["ue_sinr_db_last_5s"]], domain.high[AT["ue_sinr_db_last_5s"]]) == (0, 1)


def test_ids_of_decisions_are_uuids_of_version_7_that_sort_by_time() -> None:
    import uuid

    ids = [decision_id(1_700_000_000_000_000 + 1000 * step) for step in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50
    found = uuid.UUID(ids[7])
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == 1_700_000_000_007
