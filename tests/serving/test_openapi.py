"""The service keeps what its OpenAPI says: every check of schemathesis on every operation, keys on."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.config._checks import (
    NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES,
    POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES,
)
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema

from serving.limits import watched
from serving.service import service_app
from tests.conftest import World
from tests.serving.core_kit import running
from tests.serving.guard_kit import KEYS, secured
from tests.serving.models_kit import place_of

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, small_world: World) -> Iterator[httpx.Client]:
    """A registered model; one training at a time and none that waits; a NEF that is never given up."""
    place = place_of(small_world, tmp_path_factory.mktemp("described"))
    made = secured(
        model="qos@champion", repo=place.repo, data=place.folder / "data", registry_uri=place.uri,
        log_level="error", store_s=5.0, queue=0, answer_s=12.0, nef_failures=1000, rates_on=False,
    )  # fmt: skip
    with running(service_app(made)) as client:
        yield client


@pytest.fixture(scope="module")
def schema(http: httpx.Client) -> BaseSchema:
    """Rules between fields, and what an infer request must fit, are no part of a JSON schema: their
    422 and 400 are described; a body that is too long is refused by 413."""
    made: BaseSchema = schemathesis.openapi.from_url(f"{http.base_url}/openapi.json")
    made.config.request_timeout = 60
    made.config.checks.positive_data_acceptance.expected_statuses = [
        *POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES, "422", "400",
    ]  # fmt: skip
    made.config.checks.negative_data_rejection.expected_statuses = [
        *NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES, "413",
    ]  # fmt: skip
    return made


def can_be_wrong(operation: dict[str, Any]) -> bool:
    """Whether something that is no request of the operation can be told from one."""
    places = operation.get("parameters", [])
    return "requestBody" in operation or any("pattern" in one["schema"] for one in places)


@pytest.mark.parametrize("mode", [POSITIVE, NEGATIVE])
def test_every_operation_is_as_described(
    schema: BaseSchema, mode: GenerationMode, subtests: pytest.Subtests
) -> None:
    for path, many in schema.raw_schema["paths"].items():
        for method, one in many.items():
            if mode is POSITIVE or can_be_wrong(one):
                with subtests.test(path=path, method=method):
                    kept(schema[path][method.upper()], mode)


def test_what_the_guard_answers_is_described_of_every_operation(schema: BaseSchema) -> None:
    problem = {"$ref": "#/components/schemas/ProblemReply"}
    for path, many in schema.raw_schema["paths"].items():
        for method, one in many.items():
            wanted = {"401", "403", "429"} if "security" in one else set()
            wanted |= {"400", "408", "413", "415"} if "requestBody" in one else set()
            wanted |= set() if watched(path) else {"503"}
            assert wanted <= set(one["responses"]), (method, path)
            for status in wanted:
                content = one["responses"][status]["content"]
                assert content["application/problem+json"]["schema"] == problem, (path, status)
    shapes = schema.raw_schema["components"]["schemas"]
    assert "ProblemReply" in shapes and "HTTPValidationError" not in shapes


def kept(operation: Any, mode: GenerationMode) -> None:
    """Some requests of a kind, each with every check."""

    @settings(
        max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate], database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Case[Any]) -> None:
        case.call_and_validate(headers={"X-API-Key": KEYS["admin"]})

    each()


STRICT = """
import warnings
from pydantic.warnings import UnsupportedFieldAttributeWarning
warnings.simplefilter("error", UnsupportedFieldAttributeWarning)
import nef.server.app, serving.client, serving.service
"""


def test_no_message_loses_an_alias() -> None:
    """FastAPI's use of the same warning is ignored in all other tests; see pyproject.toml."""
    done = subprocess.run([sys.executable, "-c", STRICT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
