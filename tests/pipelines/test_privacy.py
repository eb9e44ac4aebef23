"""No raw subscriber id and no exact position anywhere after the stages have run, whatever fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from pipelines.collect import Params, collect
from schemas.errors import QosError

PROJECT = Path(__file__).parents[2]
PLANTED = {
    "id column": "001010123456789",
    "prefixed id": "imsi-001017777777777",
    "session column": "4915112345678",
    "ragged line": "001010555555555",
    "unparsable number": "4915187654321",
    "unparsable time": "+49 151 2223334",
    "shifted into a number": "001010666666666",
    "free text": "aa:bb:cc:dd:ee:0f",
    "free text of a bad line": "02:42:ac:11:00:07",
    "address": "192.168.177.14",
    "address of a bad line": "2001:db8::ff00:42:8329",
    "mail of a bad line": "jane.doe@example.org",
    "header": "001010444444444",
    "exact position": "51.89765432",
    "exact position of a bad line": "51.87654321",
}
FIRST = f"{PLANTED['id column']},{PLANTED['session column']},-90,51.89765432"
FILE = f"""time,imsi,run,rsrp,lat,note,{PLANTED["header"]}
2024-03-05T12:00:00Z,{FIRST},{PLANTED["free text"]},1
2024-03-05T12:00:01Z,{PLANTED["prefixed id"]},a,-91,51.1,{PLANTED["address"]},1
2024-03-05T12:00:02Z,{PLANTED["ragged line"]},{PLANTED["free text of a bad line"]},51.87654321
2024-03-05T12:00:03Z,{PLANTED["address of a bad line"]},{PLANTED["mail of a bad line"]}
2024-03-05T12:00:04Z,001010123456789,a,{PLANTED["unparsable number"]}x,51.1,,1
{PLANTED["unparsable time"]},001010123456789,a,-90,51.1,,1
2024-03-05T12:00:06Z,001010123456789,a,{PLANTED["shifted into a number"]},51.1,,1
2024-03-05T12:00:07Z,001010123456789,a,-90,51.87654321x,,1
2024-03-05T12:00:08Z,001010123456789,a,-300,51.1,,1
"""
MAPPING = """
files: private.csv
event_time: {column: time}
ue: imsi
session: run
tables:
  ue_radio: {columns: {rsrp_dbm: {column: rsrp, unit: dBm}}}
  ue_motion: {columns: {latitude_deg: {column: lat, unit: deg}}}
  qos_request: {columns: {request_id: run}, constants: {five_qi: 9}}
"""
KEY = "a key for the tests, 32 bytes.."


class Scratch:
    """A project folder of two stages with a DVC cache of its own, and all that was said in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        (folder / "mine").mkdir()
        self.source = folder / "mine" / "private.csv"
        self.source.write_text(FILE, encoding="utf-8")
        (folder / "mine" / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
        (folder / "params.yaml").write_text(
            "collect: {source: table, table: mine}\nadmit: {min_acceptance: 0.1}\n"
        )
        stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        kept = {name: stages[name] for name in ("collect", "admit")}
        for stage in kept.values():
            python = f"{sys.executable} -m pipelines"
            stage["cmd"] = stage["cmd"].replace("python -m pipelines", python)
            stage["deps"] = [dep for dep in stage.get("deps", ()) if dep.startswith("data/")]
        kept["collect"]["deps"] = ["mine/mapping.yaml", "mine/private.csv"]
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": kept}), encoding="utf-8")
        self.run("init", "--no-scm", "-q")

    def run(self, *words: str) -> int:
        dvc = shutil.which("dvc", path=str(Path(sys.executable).parent))
        assert dvc is not None
        quiet = {"DVC_NO_ANALYTICS": "1", "QOS_PSEUDONYM_KEY": KEY, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(
            [dvc, *words], cwd=self.folder, env=os.environ | quiet, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        self.said += done.stdout + done.stderr
        return done.returncode

    def files(self) -> list[Path]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path for path in found if path != self.source]


def _spellings(identifier: str) -> set[bytes]:
    """The identifier as planted, and its digits or letters alone."""
    bare = identifier.removeprefix("imsi-")
    forms = {identifier, bare, bare.lstrip("0") if bare.isdigit() else bare}
    return {form.encode() for form in forms}


def _leaks(content: bytes) -> set[str]:
    return {
        what
        for what, identifier in PLANTED.items()
        if any(form in content for form in _spellings(identifier))
    }


def _content(path: Path) -> bytes:
    """The bytes as they lie there, and for Parquet every value of every column in plain."""
    data = path.read_bytes()
    if data[:4] != b"PAR1":
        return data
    rows = pl.read_parquet(path)
    numbers = [pl.col(n).cast(pl.Int64, strict=False).cast(pl.String).alias(f"whole {n}")
               for n, t in rows.schema.items() if t.is_float()]  # fmt: skip
    plain = rows.with_columns(pl.all().cast(pl.String)).with_columns(
        rows.select(numbers).get_columns()
    )
    return data + plain.write_csv().encode() + "\n".join(rows.columns).encode()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    scratch = Scratch(tmp_path_factory.mktemp("private"))
    assert scratch.run("repro") == 0, scratch.said
    return scratch


def test_the_search_finds_what_is_planted(scratch: Scratch, tmp_path: Path) -> None:
    assert _leaks(scratch.source.read_bytes()) == set(PLANTED)
    planted = pl.DataFrame({"a": list(PLANTED.values()), "b": 1010666666666.0})
    planted.write_parquet(tmp_path / "a.parquet", compression="zstd")
    assert _leaks(_content(tmp_path / "a.parquet")) == set(PLANTED)
    planted.select("b").write_parquet(tmp_path / "b.parquet", compression="zstd")
    assert _leaks(_content(tmp_path / "b.parquet")) == {"shifted into a number"}


def test_every_planted_line_went_its_way(scratch: Scratch) -> None:
    admitted = pl.read_parquet(scratch.folder / "data/admitted/ue_radio.parquet")
    quarantine = pl.read_parquet(scratch.folder / "data/quarantine/ue_radio.parquet")
    assert admitted["source_line"].to_list() == [2, 3, 9]
    assert dict(quarantine.select("source_line", "reason").rows()) == {
        4: "ue_radio: ragged_line",
        5: "ue_radio: ragged_line",
        6: "ue_radio.rsrp_dbm: unparseable",
        7: "ue_radio.event_timestamp: unparseable",
        8: "ue_radio.rsrp_dbm: unparseable",
        10: "ue_radio.rsrp_dbm: below [-156, -31] dBm (3GPP TS 38.133, 10.1.6)",
    }
    texts = quarantine["source_text"].drop_nulls().to_list()
    assert len(texts) == 2 and all(
        "ue-" in text and text.startswith("2024-03-05T12") for text in texts
    )


def test_no_byte_of_cache_outputs_or_logs_bears_an_identifier(scratch: Scratch) -> None:
    files = scratch.files()
    cached = [path for path in files if "cache/files" in path.as_posix()]
    tables = [path for path in files if path.read_bytes()[:4] == b"PAR1"]
    assert len(cached) >= 22 and len(tables) >= 42  # 21 tables and an account, twice
    assert {str(path): leaks for path in files if (leaks := _leaks(_content(path)))} == {}
    assert _leaks(scratch.said.encode()) == set()
    assert not any(KEY.encode() in path.read_bytes() for path in files) and KEY not in scratch.said


def test_a_failed_run_tells_no_identifier(tmp_path: Path) -> None:
    """A typo in the header: the error quotes the columns that there are."""
    scratch = Scratch(tmp_path)
    scratch.source.write_text(FILE.replace("time,", "tmie,", 1), encoding="utf-8")
    assert scratch.run("repro") != 0
    assert "no column 'time'; they have 'tmie'" in scratch.said
    assert "Traceback" not in scratch.said and _leaks(scratch.said.encode()) == set()
    assert {str(path): leaks for path in scratch.files() if (leaks := _leaks(_content(path)))} == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FILE.split("\n")[0] + "\n", "", "the files have no column 'rsrp'; they have"),
        (",note,", f",{PLANTED['header']},", "columns named twice: ['<subscriber id>']"),
        ("T12:00:00Z", "T12:00:00", "bear no zone"),
        (FILE, f"{PLANTED['header']}\n", "empty: 1 lines"),
    ],
)
def test_no_error_quotes_an_identifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", KEY)
    (tmp_path / "private.csv").write_text(FILE.replace(old, new, 1), encoding="utf-8")
    (tmp_path / "mapping.yaml").write_text(MAPPING, encoding="utf-8")
    with pytest.raises(QosError, match=re.escape(said)) as raised:
        collect(Params(source="table", table=str(tmp_path)))
    assert _leaks(str(raised.value).encode()) == set()
