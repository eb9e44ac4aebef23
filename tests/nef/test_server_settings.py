"""The key of the decision service among the NEF's settings: kept to itself."""

from typing import Any

import pytest

from nef.server.settings import read_settings
from schemas.errors import QosError

KEY = "qosk_" + "k" * 43


def test_the_key_comes_from_the_environment_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEF_SERVER_DECISION_KEY", KEY)
    found = read_settings()
    assert found.decision_key is not None and found.decision_key.get_secret_value() == KEY
    assert KEY not in f"{found!r} {found} {found.model_dump_json()}"


def test_without_one_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEF_SERVER_DECISION_KEY", raising=False)
    assert read_settings().decision_key is None


@pytest.mark.parametrize("key", ["", "two words", "line\nX-Other: 1", "schlüssel", "k" * 257])
def test_what_no_header_carries_is_refused_without_showing_it(key: str) -> None:
    wrong: dict[str, Any] = {"decision_key": key}
    with pytest.raises(QosError, match="NEF_SERVER_DECISION_KEY: 1 to 256 visible") as told:
        read_settings(**wrong)
    assert not key or key not in str(told.value)
