"""The fixtures of the tests, for use in a clone that has run, and nowhere else.

The tests revert tracked files and commit; `make reproduce` names the clone that they may do it in.
"""

import os
from pathlib import Path

import pytest

from tests.conftest import redis_address

__all__ = ["redis_address"]

if os.environ.get("ACCEPTANCE_CLONE") != str(Path.cwd()):
    raise pytest.UsageError(
        "acceptance/ reverts and commits: run it by `make reproduce`, in a clone"
    )
