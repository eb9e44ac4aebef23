"""Settings of the decision service: defaults, what is refused, the page."""

from pathlib import Path

import pytest

from schemas.errors import QosError
from serving.keys import key_hash, new_key
from serving.settings import (
    PREFIXES,
    ServingSettings,
    loopback,
    read_settings,
    unknown_variables,
    variables,
)
from serving.settings_page import PAGE, page
from tests.serving.guard_kit import SECRET


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_ask_for_no_key_and_stay_on_this_machine() -> None:
    settings = read_settings()
    assert not settings.secured
    assert loopback(settings.host)
    assert settings.profile == "embedded"


def test_a_variable_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNC_MODEL_WORKERS", "3")
    monkeypatch.setenv("ML_CONFIDENCE_THRESHOLD", "0.65")
    monkeypatch.setenv("RATELIMIT_PREDICT", "10/second;100/minute")
    monkeypatch.setenv(
        "ML_API_KEYS", '{"app": {"roles": ["predict"], "sha256": "' + "a" * 64 + '"}}'
    )
    settings = read_settings()
    assert (settings.workers, settings.confidence_floor) == (3, 0.65)
    assert settings.rate_predict == "10/second;100/minute"
    assert settings.api_keys["app"].roles == ("predict",)
    assert settings.secured  # a key is set, so it is asked for


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PORT", "")
    assert read_settings().port == 5050


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"auth": "off", "host": "0.0.0.0"}, "ML_AUTH"),
        ({"auth": "off", "profile": "redis"}, "ML_AUTH"),
        ({"host": "0.0.0.0"}, "ML_API_KEYS or ML_USERS"),
        ({"profile": "redis"}, "ML_API_KEYS or ML_USERS"),
        ({"auth": "on"}, "ML_API_KEYS or ML_USERS"),
        ({"auth": "on", "jwt_secret": "short"}, "ML_API_KEYS"),
        ({"rate_predict": "many"}, "no rate"),
        ({"store_s": 0}, "greater than 0"),
        ({"most_unknown": 1.5}, "less than or equal to 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(QosError, match=told):
        read_settings(**changes)


def test_users_need_a_secret_of_enough_bytes() -> None:
    user = {"ana": {"roles": ["predict"], "password": "scrypt:" + "0" * 32 + ":" + "0" * 128}}
    with pytest.raises(QosError, match="JWT_SECRET_KEY must be set"):
        read_settings(users=user)
    with pytest.raises(QosError, match="at least 32 bytes"):
        read_settings(users=user, jwt_secret=SECRET[:-1])
    assert read_settings(users=user, jwt_secret=SECRET).secured


def test_a_key_in_place_of_its_hash_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = new_key()
    for text in (f'{{"a": {{"roles": ["predict"], "sha256": "{key}"}}}}', f"{key} is no JSON"):
        monkeypatch.setenv("ML_API_KEYS", text)
        with pytest.raises(QosError) as refused:
            read_settings()
        assert "ML_API_KEYS" in str(refused.value)
        assert key not in str(refused.value)
        assert key not in repr(refused.value.__cause__)


def test_one_key_under_two_names_is_refused() -> None:
    one = {"roles": ["predict"], "sha256": key_hash(new_key())}
    with pytest.raises(QosError, match="two names"):
        read_settings(api_keys={"a": one, "b": one})


def test_no_secret_is_shown() -> None:
    settings = read_settings(
        jwt_secret=SECRET, metrics_token="scrape-me",
        api_keys={"a": {"roles": ["admin"], "sha256": "b" * 64}},
    )  # fmt: skip
    shown = f"{settings!r} {settings}"
    assert SECRET not in shown
    assert "scrape-me" not in shown
    assert "b" * 64 not in shown


def test_a_misspelt_variable_is_told_with_what_was_meant() -> None:
    told = unknown_variables(
        {"ML_CONFIDENCE_TRESHOLD": "1", "ML_PORT": "1", "ML_LOCAL": "1", "A": "b"}
    )
    assert told == ["ML_CONFIDENCE_TRESHOLD is no setting; did you mean ML_CONFIDENCE_THRESHOLD?"]


def test_the_page_has_every_setting_and_is_up_to_date() -> None:
    made = page()
    assert (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8") == made
    for name, field in ServingSettings.model_fields.items():
        assert f"| `{field.validation_alias}` |" in made, name
    assert {prefix for prefix in PREFIXES if any(v.startswith(prefix) for v in variables())} == set(
        PREFIXES
    )
