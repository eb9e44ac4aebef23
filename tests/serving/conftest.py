"""What the tests of the decision service's core share."""

import pytest

from models.bundle import Bundle
from tests.serving.core_kit import KEY, small_bundle


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """Read only."""
    return small_bundle()


@pytest.fixture(scope="session", autouse=True)
def pseudonym_key() -> object:
    """A key of the tests, so that none is made in the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QOS_PSEUDONYM_KEY", KEY)
        yield
