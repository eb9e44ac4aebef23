"""The short way to the routes that decide answers as the framework's own way does."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from models.bundle import Bundle
from serving.direct import Direct
from serving.service import service_app
from serving.settings import read_settings
from tests.conftest import World
from tests.served import served
from tests.serving.core_kit import bundle_folder, busiest, filled

OF_THE_MOMENT = ("decision_id", "decided_at", "job_id")


@pytest.fixture(scope="module")
def folder(small_world: World, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("direct")
    filled(small_world, "embedded", made / "feature_repo")
    bundle_folder(made / "b")
    return made


def app_of(folder: Path, name: str, direct: bool) -> FastAPI:
    settings = read_settings(
        model=str(folder / "b"), repo=folder / "feature_repo", data=folder / name, store_s=5.0,
        interval_s=0.0, handovers_a_minute=600, return_s=0.0,
    )  # fmt: skip
    app = service_app(settings)
    before = len(app.user_middleware)
    if not direct:
        app.user_middleware = [
            one
            for one in app.user_middleware
            if getattr(one.cls, "__name__", "") != Direct.__name__
        ]
        assert len(app.user_middleware) == before - 1
    return app


def test_each_answer_is_that_of_the_framework(folder: Path, small_world: World) -> None:
    ue, five_qi, cells = busiest(small_world)
    good = {"ue_id": ue, "five_qi": five_qi, "candidates": [{"cell_id": one} for one in cells]}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/predict-with-qos", {"json": good}),
        ("POST", "/api/predict", {"json": good}),
        ("POST", "/api/predict/batch", {"json": {"requests": [good, good]}}),
        ("POST", "/api/predict-async", {"json": good}),
        ("POST", "/api/predict", {"json": good | {"features": {"none": 1.0}}}),
        ("POST", "/api/predict", {"json": good | {"unknown": 1}}),
        (
            "POST",
            "/api/predict",
            {"content": b"{", "headers": {"content-type": "application/json"}},
        ),
        ("POST", "/api/predict", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        ("POST", "/api/predict/", {"json": good}),
        ("POST", "/api/predict?a=b", {"json": good}),
        ("GET", "/api/predict", {}),
        ("PUT", "/api/predict", {"json": good}),
        ("POST", "/api/predict/none", {"json": good}),
    ]
    answers = [told(app_of(folder, str(way), way), asked) for way in (True, False)]
    for (method, path, _), short, long in zip(asked, *answers, strict=True):
        assert short == long, (method, path)
    assert {status for status, *_ in answers[0]} >= {200, 202, 400, 404, 405, 415, 422}


def told(app: FastAPI, asked: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[Any, ...]]:
    """Status, kind and content of each answer, without what is of the moment."""
    with served(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        found = [client.request(method, path, **rest) for method, path, rest in asked]
    return [
        (one.status_code, one.headers.get("content-type"), one.headers.get("allow"), plain(one))
        for one in found
    ]


def plain(answer: httpx.Response) -> Any:
    """The content as far as it hangs on the request alone."""
    if "json" not in answer.headers.get("content-type", ""):
        return answer.content
    return without(answer.json())


def without(content: Any) -> Any:
    if isinstance(content, list):
        return [without(one) for one in content]
    if isinstance(content, dict):
        return {k: without(v) for k, v in content.items() if k not in OF_THE_MOMENT}
    return content
