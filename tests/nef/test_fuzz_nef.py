"""The fuzzing benchmark in small."""

from benchmarks.fuzz_nef import fuzz


def test_nothing_breaks_and_nothing_bad_is_taken() -> None:
    found = fuzz(400, seed=3)
    assert found["payloads"] == 400 and found["bad"] > 130 and found["refused"] >= found["bad"]
    for key in ("crashes", "server_errors", "accepted_invalid", "refused_valid"):
        assert found[key] == 0, found
