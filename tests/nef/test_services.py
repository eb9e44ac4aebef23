"""Requests and the traffic that follows them."""

from typing import Any

import numpy as np
import pytest

from nef.simulator import services
from schemas.five_qi import FIVE_QIS


@pytest.fixture(scope="module")
def asked() -> Any:
    profile = np.repeat(np.arange(len(services.PROFILES)), 20)
    first = np.arange(profile.size) % 30
    return profile, first, services.requests(
        profile, first, first + 200, np.random.default_rng(1)
    )  # fmt: skip


def test_every_profile_is_a_standard_5qi_and_guarantees_are_the_tables() -> None:
    assert {profile.five_qi for profile in services.PROFILES} <= set(FIVE_QIS)
    named = {
        p.five_qi for p, gbr in zip(services.PROFILES, services.GUARANTEED, strict=True) if gbr
    }
    assert named == {1, 2, 82}
    assert sum(profile.share for profile in services.PROFILES) == pytest.approx(1.0)


def test_requests_come_every_5_to_10_seconds_within_the_session(asked: Any) -> None:
    profile, first, made = asked
    for session in range(profile.size):
        ticks = made.tick[made.session == session]
        gaps = np.diff(ticks, prepend=first[session])
        assert gaps.min() >= 5 and gaps.max() <= 10
        assert ticks.max() < first[session] + 200 and ticks.size >= 19


def test_an_application_offers_more_than_it_asked_for_while_it_counts(asked: Any) -> None:
    profile, _, made = asked
    offered = services.offered_mbps(made, profile, 240, np.random.default_rng(2))
    mean = np.array(
        [
            offered[tick + 1 : tick + 11, session].mean()
            for tick, session in zip(made.tick, made.session, strict=True)
        ]
    )
    assert (mean > made.mbps).all()


def test_machines_are_as_many_as_asked_for_and_none_by_default() -> None:
    plain = services.choose(4000, np.random.default_rng(1))
    some = services.choose(4000, np.random.default_rng(1), 0.3)
    machine = len(services.PROFILES) - 1
    assert services.PROFILES[machine].five_qi == 10
    assert (plain != machine).all()
    assert (some == machine).mean() == pytest.approx(0.3, abs=0.03)
