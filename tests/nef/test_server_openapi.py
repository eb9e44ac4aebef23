"""The server keeps what its OpenAPI says: every check of schemathesis on every operation."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.schemas import BaseSchema

from tests.nef.server_kit import nef_server


@pytest.fixture(scope="module")
def described() -> Iterator[BaseSchema]:
    with nef_server(callback_timeout_s=0.2, network_handovers=False) as server:
        token = {"authorization": server.client.headers["authorization"]}
        made = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        made.config.update(headers=token)
        yield made


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_is_as_described(case: Case) -> None:
    case.call_and_validate()
