"""The fixtures of the tests, for use in a clone that has run."""

from tests.conftest import redis_address

__all__ = ["redis_address"]
