"""A file of requests, as the generator writes it, through the service and out again."""

import re
from pathlib import Path

import httpx
import polars as pl
import pytest
from typer import Typer
from typer.testing import CliRunner

from nef.requests import Format, Plan, requests, write
from schemas.service_class import ServiceClassName
from serving.ask import SCHEMA, main
from tests.serving.test_service import app, http, places

__all__ = ["app", "http", "places"]
WEIGHTS: dict[ServiceClassName, float] = {"embb": 1, "urllc": 1, "mmtc": 1, "default": 1}
command = Typer()
command.command()(main)


@pytest.mark.parametrize("kind", list(Format))
def test_what_the_generator_writes_is_decided(
    kind: Format, http: httpx.Client, tmp_path: Path
) -> None:
    rows = requests(Plan(WEIGHTS, records=30, seed=4))
    asked, told = tmp_path / f"requests.{kind.value}", tmp_path / f"decisions.{kind.value}"
    write(rows, asked, kind)
    done = CliRunner().invoke(
        command, [str(asked), "--output", str(told), "--url", str(http.base_url)]
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"30 requests: .*, 0 refused", done.output)
    found = {"csv": pl.read_csv, "json": pl.read_json, "ndjson": pl.read_ndjson,
             "parquet": pl.read_parquet}[kind.value](told)  # fmt: skip
    assert found.columns == list(SCHEMA)
    assert found["request_id"].to_list() == rows["request_id"].to_list()
    assert found["decision_id"].n_unique() == 30
    assert not set(found["ue_id"]) & set(rows["ue_id"])


def test_a_refused_request_keeps_its_reason_and_its_place(
    http: httpx.Client, tmp_path: Path
) -> None:
    rows = requests(Plan(WEIGHTS, records=3, seed=4)).with_columns(
        pl.Series("latency_ms", [10.0, -1.0, 20.0])
    )
    rows.write_parquet(tmp_path / "requests.parquet")
    told = tmp_path / "decisions.parquet"
    done = CliRunner().invoke(
        command,
        [str(tmp_path / "requests.parquet"), "--output", str(told), "--url", str(http.base_url)],
    )
    assert done.exit_code == 0 and "1 refused" in done.output
    found = pl.read_parquet(told)
    assert found["refusal"].is_null().to_list() == [True, False, True]
    assert "delay_ms" in found["refusal"][1] and found["decision"][1] is None
    assert found["request_id"].to_list() == rows["request_id"].to_list()


def test_what_cannot_be_asked_is_one_line(tmp_path: Path) -> None:
    for name, word in (("requests.txt", "'.txt' is none of"), ("requests.csv", "no such file")):
        done = CliRunner().invoke(command, [str(tmp_path / name), "--output", "x.csv"])
        assert done.exit_code == 1 and word in done.output
