"""Who may ask what: keys, tokens, roles, login, rates."""

import base64
import time
from collections.abc import Iterator

import httpx
import jwt
import orjson
import pytest
from typer.testing import CliRunner

from schemas.errors import QosError
from serving.keys import app, key_hash, new_key, owner_of, password_hash, password_is_right
from serving.metrics import Metrics
from serving.rate_limits import RateLimits
from serving.settings import ApiKey, User
from serving.tokens import ISSUER, ExpiredToken, Tokens, WrongToken
from tests.serving.guard_kit import (
    KEYS,
    PASSWORD,
    SECRET,
    app_of,
    client_of,
    secured,
    series,
    settings_with,
)

PATHS = {
    "predict": "/api/predict-with-qos",
    "train": "/api/train",
    "feedback": "/api/feedback",
    "data": "/api/collect-data",
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    settings = secured(
        rate_login="10000/minute", rate_refresh="10000/minute", rate_train="1000/minute"
    )
    with client_of(app_of(settings)) as made:
        yield made


def logged_in(client: httpx.Client) -> dict[str, str]:
    answer = client.post("/api/login", json={"username": "ana", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, str] = answer.json()
    return found


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    base = {"sub": "ana", "iss": ISSUER, "typ": "access", "jti": "a", "iat": now, "exp": now + 60}
    return {name: value for name, value in (base | changes).items() if value is not None}


@pytest.mark.parametrize("role", KEYS)
@pytest.mark.parametrize("needed", PATHS)
def test_a_key_opens_the_routes_of_its_role_and_admin_all(
    client: httpx.Client, role: str, needed: str
) -> None:
    answer = client.post(PATHS[needed], json={}, headers={"x-api-key": KEYS[role]})
    assert answer.status_code == (200 if role in (needed, "admin") else 403)


@pytest.mark.parametrize("path", PATHS.values())
def test_without_a_key_nothing_is_answered(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail", "errors"}


@pytest.mark.parametrize(
    "key",
    ["", "qosk_", new_key(), KEYS["predict"][:-1], KEYS["predict"] + "a", "ключ".encode()],
    ids=["empty", "prefix", "another", "cut", "longer", "not ASCII"],
)
def test_a_wrong_key_is_refused(client: httpx.Client, key: str | bytes) -> None:
    answer = client.post(PATHS["predict"], json={}, headers={"x-api-key": key})
    assert answer.status_code == 401


def test_a_user_logs_in_asks_and_refreshes_once(client: httpx.Client) -> None:
    first = logged_in(client)
    assert first["roles"] == ["predict", "train"]
    assert client.get("/api/who", headers=bearer(first["access_token"])).json() == "ana"
    denied = client.post(PATHS["feedback"], json={}, headers=bearer(first["access_token"]))
    assert denied.status_code == 403
    again = client.post("/api/refresh", json={"refresh_token": first["refresh_token"]})
    assert again.status_code == 200 and again.headers["cache-control"] == "no-store"
    assert client.get("/api/who", headers=bearer(again.json()["access_token"])).status_code == 200
    twice = client.post("/api/refresh", json={"refresh_token": first["refresh_token"]})
    assert twice.status_code == 401


def test_kinds_of_tokens_are_not_mixed_up(client: httpx.Client) -> None:
    given = logged_in(client)
    assert client.get("/api/who", headers=bearer(given["refresh_token"])).status_code == 401
    mixed = client.post("/api/refresh", json={"refresh_token": given["access_token"]})
    assert mixed.status_code == 401


def unsigned(header: dict[str, object], payload: dict[str, object]) -> str:
    parts = [base64.urlsafe_b64encode(orjson.dumps(one)).rstrip(b"=") for one in (header, payload)]
    return (b".".join(parts) + b".").decode()


WRONG = {
    "alg none": unsigned({"alg": "none", "typ": "JWT"}, claims()),
    "alg None": unsigned({"alg": "None"}, claims()),
    "no alg": unsigned({}, claims()),
    "other secret": jwt.encode(claims(), SECRET[::-1], algorithm="HS256"),
    "other algorithm": jwt.encode(claims(), SECRET * 2, algorithm="HS512"),
    "same secret, other algorithm": jwt.encode(claims(), SECRET.ljust(64, "0"), algorithm="HS384"),
    "expired": jwt.encode(claims(exp=int(time.time()) - 1), SECRET, algorithm="HS256"),
    "never expires": jwt.encode(claims(exp=None), SECRET, algorithm="HS256"),
    "expiry is text": jwt.encode(claims() | {"exp": "9999999999"}, SECRET, algorithm="HS256"),
    "other issuer": jwt.encode(claims(iss="another"), SECRET, algorithm="HS256"),
    "no kind": jwt.encode(claims(typ=None), SECRET, algorithm="HS256"),
    "no number": jwt.encode(claims(jti=None), SECRET, algorithm="HS256"),
    "unknown user": jwt.encode(claims(sub="eve"), SECRET, algorithm="HS256"),
    "roles of its own": jwt.encode(claims(sub="eve", roles=["admin"]), SECRET, algorithm="HS256"),
    "dot": ".",
    "no token": "a.b.c",
    "deep header": base64.urlsafe_b64encode(b"[" * 2000).decode().rstrip("=") + ".e30.e30",
    "long": "a" * 5000,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_token_that_is_none_of_ours_is_refused(client: httpx.Client, name: str) -> None:
    assert client.get("/api/who", headers=bearer(WRONG[name])).status_code == 401
    refreshed = client.post("/api/refresh", json={"refresh_token": WRONG[name]})
    assert refreshed.status_code in (401, 422)


def test_the_token_made_here_would_be_good_if_nothing_were_wrong_with_it(
    client: httpx.Client,
) -> None:
    good = jwt.encode(claims(), SECRET, algorithm="HS256")
    assert client.get("/api/who", headers=bearer(good)).json() == "ana"


def test_a_changed_token_is_refused(client: httpx.Client) -> None:
    token = logged_in(client)["access_token"]
    head, body, signature = token.split(".")
    for changed in (f"{head}.{body[:-2]}xx.{signature}", f"{head}.{body}.{signature[::-1]}"):
        assert client.get("/api/who", headers=bearer(changed)).status_code == 401


def test_tokens_are_over_when_their_time_is() -> None:
    now = [1000.0]
    tokens = Tokens(SECRET, access_s=60, refresh_s=600, clock=lambda: now[0])
    access, refresh = tokens.give("ana", "access"), tokens.give("ana", "refresh")
    now[0] = 1059.9
    assert tokens.owner_of(access) == "ana"
    now[0] = 1060.0
    with pytest.raises(ExpiredToken):
        tokens.owner_of(access)
    assert tokens.owner_of(refresh, "refresh") == "ana"
    with pytest.raises(WrongToken):
        tokens.owner_of(refresh, "refresh")
    now[0] = 1600.0
    with pytest.raises(ExpiredToken):
        tokens.owner_of(refresh, "refresh")
    tokens.owner_of(tokens.give("ana", "refresh"), "refresh")
    assert len(tokens._used) == 1  # what is over is forgotten


def test_tokens_that_were_looked_at_are_remembered_in_bounds() -> None:
    tokens = Tokens(SECRET)
    made = [tokens.give("ana", "access") for _ in range(3)]
    assert [tokens.owner_of(one) for one in made * 2] == ["ana"] * 6
    assert len(tokens._checked) == 3
    tokens._checked.update({str(n).encode(): ("a", 0) for n in range(10_000)})
    assert tokens.owner_of(tokens.give("ana", "access")) == "ana"
    assert len(tokens._checked) == 1


@pytest.mark.parametrize(
    ("name", "password"), [("ana", "wrong password"), ("eve", PASSWORD), ("ana", PASSWORD + "x")]
)
def test_a_wrong_login_says_not_what_was_wrong(
    client: httpx.Client, name: str, password: str
) -> None:
    answer = client.post("/api/login", json={"username": name, "password": password})
    assert answer.status_code == 401
    assert answer.json()["detail"] == "password: wrong name or password"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"username": "ana"},
        {"username": "ana", "password": 1},
        {"username": "", "password": ""},
        {"username": "ana", "password": PASSWORD, "roles": ["admin"]},
    ],
)
def test_a_login_of_another_form_is_refused_and_not_repeated(
    client: httpx.Client, body: object
) -> None:
    answer = client.post("/api/login", json=body)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text


def test_an_unknown_name_takes_as_long_as_a_wrong_password() -> None:
    users = {"ana": User(roles=("predict",), password=password_hash(PASSWORD))}

    def seconds(name: str) -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            assert not password_is_right(name, "wrong", users)
            taken.append(time.perf_counter() - began)
        return min(taken)

    assert 0.4 < seconds("eve") / seconds("ana") < 2.5
    assert not password_is_right("eve", "", {})
    assert password_is_right("ana", PASSWORD, users)


def test_every_key_is_compared_whatever_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant time: no early end."""
    compared: list[str] = []
    monkeypatch.setattr(
        "serving.keys.hmac.compare_digest", lambda a, b: (compared.append(b), a == b)[1]
    )
    made = [new_key() for _ in range(4)]
    keys = {str(n): ApiKey(roles=("predict",), sha256=key_hash(k)) for n, k in enumerate(made)}
    for key, owner in [*((k, str(n)) for n, k in enumerate(made)), (new_key(), None)]:
        compared.clear()
        assert owner_of(key, keys) == owner
        assert len(compared) == 4


def test_refusals_are_counted_by_reason(client: httpx.Client) -> None:
    start = 'ml_auth_failures_total{reason="missing"}'
    before = series(client, start)
    client.get("/api/who")
    assert series(client, start) == before + 1


def test_metrics_are_open_unless_a_token_is_set(client: httpx.Client) -> None:
    assert client.get("/metrics").status_code == 200
    with client_of(app_of(secured(metrics_token="scrape-me"))) as other:
        assert other.get("/metrics").status_code == 401
        assert other.get("/metrics", headers=bearer("scrape-you")).status_code == 401
        assert other.get("/metrics", headers=bearer("scrape-me")).status_code == 200


def test_in_the_development_profile_no_key_is_asked_for() -> None:
    with client_of(app_of(settings_with(auth="off"))) as client:
        assert client.post(PATHS["train"], json={}).status_code == 200
        login = client.post("/api/login", json={"username": "ana", "password": PASSWORD})
        assert login.status_code == 404


def test_calls_past_the_rate_are_refused_by_key_and_route_and_let_in_again() -> None:
    settings = secured(rate_predict="3/2 second", rate_feedback="1/hour")
    with client_of(app_of(settings)) as client:
        ask = {"headers": {"x-api-key": KEYS["predict"]}, "json": {}}
        statuses = [client.post(PATHS["predict"], **ask).status_code for _ in range(3)]
        refused = client.post(PATHS["predict"], **ask)
        assert [*statuses, refused.status_code] == [200, 200, 200, 429]
        other = client.post(PATHS["predict"], headers={"x-api-key": KEYS["admin"]}, json={})
        assert other.status_code == 200
        assert client.post(PATHS["train"], headers={"x-api-key": KEYS["admin"]}).status_code == 200
        assert series(client, 'ml_rate_limited_total{route="predict"}') == 1
        time.sleep(int(refused.headers["retry-after"]))
        assert client.post(PATHS["predict"], **ask).status_code == 200


@pytest.mark.parametrize("rate", ["2/second"])
def test_the_wait_that_is_told_is_long_enough(rate: str) -> None:
    rates = RateLimits(settings_with(auth="off", rate_default=rate), Metrics())
    made = [rates.wait_s("default", "a") for _ in range(3)]
    assert made[:2] == [None, None]
    assert made[2] is not None
    assert 1 <= made[2] <= 2
    time.sleep(made[2])
    assert rates.wait_s("default", "a") is None
    assert rates.wait_s("default", "b") is None


def test_logins_are_limited_before_any_password_is_looked_at() -> None:
    with client_of(app_of(secured(rate_login="3/minute"))) as client:
        wrong = {"username": "ana", "password": "wrong"}
        statuses = [client.post("/api/login", json=wrong).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]


def test_rates_can_be_left_off() -> None:
    rates = RateLimits(settings_with(auth="off", rates_on=False, rate_default="1/hour"), Metrics())
    assert [rates.wait_s("default", "a") for _ in range(5)] == [None] * 5


def test_commands_make_entries_that_the_settings_take() -> None:
    run = CliRunner()
    key = run.invoke(app, ["key", "app", "predict", "feedback"])
    made = key.stderr.split()[-1]
    assert made not in key.stdout
    user = run.invoke(app, ["user", "ana", "admin"], input=PASSWORD + "\n")
    settings = settings_with(
        api_keys=orjson.loads(key.stdout), users=orjson.loads(user.stdout), jwt_secret=SECRET
    )
    assert owner_of(made, settings.api_keys) == "app"
    assert password_is_right("ana", PASSWORD, settings.users)
    with pytest.raises(QosError, match="role 'root': there is no such; known: predict, train"):
        run.invoke(app, ["key", "app", "root"], catch_exceptions=False)
    with pytest.raises(QosError, match="password: 10 to 1024 characters"):
        run.invoke(app, ["user", "ana", "admin"], input="short\n", catch_exceptions=False)
