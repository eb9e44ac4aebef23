"""Requests that come at the same time: one read for all, and each decided as if it came alone."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.gate import GateParams
from serving.gate import AdaptiveGate
from serving.gathered import MOST_TOGETHER, Gathered
from serving.live import load_live
from serving.predict import Decided
from serving.replies import reply_of
from serving.requests import PredictRequest
from serving.state import CoreSettings, Service
from serving.vectors import BadOverride
from tests.conftest import World
from tests.serving.core_kit import bundle_folder, busiest, filled

OF_THE_MOMENT = ("decision_id", "decided_at")


@pytest.fixture(scope="module")
def service(
    small_world: World, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("gathered")
    repo = filled(small_world, "embedded", folder / "feature_repo")
    settings = CoreSettings(model=str(bundle_folder(folder / "b")), repo=repo, store_s=5.0)
    yield Service(settings, load_live(settings))


@pytest.fixture(scope="module")
def requests(small_world: World) -> list[PredictRequest]:
    """Of known and unknown UEs, with one to four cells."""
    ue, five_qi, cells = busiest(small_world)
    drawn = np.random.default_rng(3)
    return [
        PredictRequest.model_validate(
            {
                "ue_id": ue if number % 5 else f"stranger {number}",
                "five_qi": five_qi,
                "connected_to": cells[0],
                "candidates": [
                    {"cell_id": cell, "rsrp_dbm": float(drawn.uniform(-120, -70))}
                    for cell in cells[: 1 + number % 4]
                ],
                "features": {"ue_speed_mps_mean_5s": 2.0} if number % 3 == 0 else None,
                "explain": number % 2 == 0,
            }
        )
        for number in range(2 * MOST_TOGETHER + 3)
    ]


def shown(decided: Decided) -> dict[str, Any]:
    """The reply but for what is of the moment."""
    return {name: value for name, value in reply_of(decided).items() if name not in OF_THE_MOMENT}


async def at_once(service: Service, requests: Sequence[PredictRequest]) -> list[Any]:
    """What becomes of requests that come in one turn of the loop."""
    gathered = Gathered(service)
    return await asyncio.gather(*map(gathered.decide, requests), return_exceptions=True)


async def alone(service: Service, requests: Sequence[PredictRequest]) -> list[Decided]:
    """Each after the one before."""
    return [await Gathered(service).decide(one) for one in requests]


def test_a_decision_is_the_same_to_the_last_bit_whoever_came_along(
    service: Service, requests: list[PredictRequest]
) -> None:
    forgetful = GateParams(min_interval_s=0.0, per_minute=10_000, return_s=0.0)
    service.gate = AdaptiveGate(forgetful)  # who was moved before plays no part
    together = asyncio.run(at_once(service, requests))
    service.gate = AdaptiveGate(forgetful)
    one_by_one = asyncio.run(alone(service, requests))
    assert [shown(one) for one in together] == [shown(one) for one in one_by_one]
    assert len({one.decision_id for one in together}) == len(requests)


def test_those_of_one_turn_share_a_read(
    service: Service, requests: list[PredictRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = [], service.live.reader.read_async

    async def counted(entities: dict[str, Any]) -> Any:
        reads.append(len(entities["ue_id"]))
        return await read(entities)

    monkeypatch.setattr(service.live.reader, "read_async", counted)
    asyncio.run(at_once(service, requests))
    assert len(reads) == 3  # of at most MOST_TOGETHER requests each
    assert sum(reads) == sum(len(one.candidates or ()) for one in requests)


def test_an_override_that_is_none_spoils_no_other(
    service: Service, requests: list[PredictRequest]
) -> None:
    bad = requests[0].model_copy(update={"features": {"no_such_feature": 1.0}})
    first, second, third = asyncio.run(at_once(service, [requests[0], bad, requests[1]]))
    assert isinstance(second, BadOverride)
    assert isinstance(first, Decided) and isinstance(third, Decided)


def test_an_override_that_only_the_next_model_refuses_spoils_no_other(
    service: Service, requests: list[PredictRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a swap between the request's coming and the loop's next turn."""
    bad = requests[0].model_copy(update={"features": {"no_such_feature": 1.0}})

    async def both() -> list[Any]:
        gathered = Gathered(service)
        with monkeypatch.context() as patch:
            patch.setattr(service.live.layout, "check", lambda request: None)
            waiting = [asyncio.ensure_future(gathered.decide(one)) for one in (bad, requests[1])]
            await asyncio.sleep(0)
        return await asyncio.gather(*waiting, return_exceptions=True)

    refused, made = asyncio.run(both())
    assert isinstance(refused, BadOverride) and isinstance(made, Decided)


def test_a_row_that_the_model_fails_on_spoils_no_other(
    service: Service, requests: list[PredictRequest]
) -> None:
    plain, speed = service.live, 7.25
    poison = requests[2].model_copy(update={"features": {"ue_speed_mps_mean_5s": speed}})
    place = plain.layout.place["ue_speed_mps_mean_5s"]

    def broken(matrix: Any) -> Any:
        if (matrix[:, place] == speed).any():
            raise RuntimeError("broken")
        return plain.scorer(matrix)

    service.live = replace(plain, scorer=broken)  # type: ignore[arg-type]
    try:
        found = asyncio.run(at_once(service, [requests[1], poison, requests[3]]))
    finally:
        service.live = plain
    assert [one.choice.reason == "model_failed" for one in found] == [False, True, False]


def test_a_client_that_went_away_spoils_no_other(
    service: Service, requests: list[PredictRequest]
) -> None:
    async def one_leaves() -> Any:
        gathered = Gathered(service)
        leaving = asyncio.ensure_future(gathered.decide(requests[1]))
        staying = asyncio.ensure_future(gathered.decide(requests[2]))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert isinstance(asyncio.run(one_leaves()), Decided)
