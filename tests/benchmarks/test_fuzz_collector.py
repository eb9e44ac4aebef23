"""The fuzz keeps its own books right, and finds a collector that takes what it must not."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_collector import fuzz, main
from nef.client import intake as intake_module
from nef.client.intake import Intake, Receipt


def test_nothing_breaks_and_every_bad_payload_is_refused_with_a_reason() -> None:
    found = fuzz(3000, seed=7)
    assert found["payloads"] == 3000 and found["bad"] > 1200
    assert found["crashes"] == found["server_errors"] == 0
    assert found["accepted_invalid"] == found["refused_valid"] == 0
    assert found["bad"] <= found["refused"] == found["quarantined"] < 3000


def test_a_collector_that_takes_all_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intake, "receive", lambda *_: Receipt(204))
    assert fuzz(400)["accepted_invalid"] > 50


def test_a_collector_that_breaks_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(intake_module, "read_requirement", broken)
    assert fuzz(200)["crashes"] > 10


def test_the_result_is_a_file_of_stable_keys(tmp_path: Path) -> None:
    main(payloads=50, seed=1, out=tmp_path)
    found = json.loads((tmp_path / "fuzz_collector.json").read_text())
    keys = {"payloads", "crashes", "server_errors", "refused", "accepted_invalid", "refused_valid"}
    assert keys <= set(found)
