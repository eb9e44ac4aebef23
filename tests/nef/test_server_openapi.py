"""The server keeps what its OpenAPI says: every check of schemathesis on every operation."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.config._checks import POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema

from nef.server.app import create_app
from nef.server.settings import read_settings
from tests.nef.server_kit import PASSWORD, Server, nef_server

DESCRIBED = create_app(read_settings(password=PASSWORD, database_url="sqlite://")).openapi()
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OPERATIONS = [
    (path, method, mode)
    for path, many in DESCRIBED["paths"].items()
    for method, one in many.items()
    for mode in (
        (POSITIVE, NEGATIVE) if {"parameters", "requestBody"} & one.keys() else (POSITIVE,)
    )
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server(callback_timeout_s=0.2, network_handovers=False) as made:
        yield made


@pytest.fixture(scope="module")
def schema(server: Server) -> BaseSchema:
    """Rules between fields are no part of a JSON schema: 422 names them, as is described."""
    made: BaseSchema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    made.config.checks.positive_data_acceptance.expected_statuses = [
        *POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES, "422",
    ]  # fmt: skip
    return made


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_every_operation_is_as_described(
    server: Server, schema: BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    headers = {"authorization": server.client.headers["authorization"]}
    operation = schema[path][method.upper()]

    @settings(
        max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate], database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def kept(case: Case) -> None:
        case.call_and_validate(headers=headers)

    kept()
