"""Both public data sets to the row, and what is said where their files are wrong or absent."""

import hashlib
import io
import lzma
import os
import re
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl
import pytest

from pipelines.admit import split
from pipelines.collect import Params, Raw, collect
from pipelines.sources import datasets
from pipelines.sources.datasets import TAIWAN_HO, UCC5G, Dataset
from schemas.errors import QosError
from schemas.tables import TABLES

Source = Literal["ucc5g", "taiwan_ho"]
PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Run:
    """raw: what collect gave; admitted, quarantine: what admit made of it."""

    raw: Raw
    admitted: dict[str, pl.DataFrame]
    quarantine: dict[str, pl.DataFrame]

    def counts(self, table: str) -> tuple[int, int, int]:
        tables = (self.raw.tables, self.admitted, self.quarantine)
        read, good, bad = (len(found[table]) for found in tables)
        return read, good, bad

    def reasons(self, table: str) -> dict[str, int]:
        return dict(self.quarantine[table]["reason"].value_counts().rows())

    def nulls(self, column: str) -> dict[str, int]:
        nulls = self.raw.account["nulls"]
        assert isinstance(nulls, dict)
        return dict(nulls.get(column, {}))


@pytest.fixture(scope="session")
def measured() -> Path:
    """The folder that holds both files; without it these tests fail, for they prove nothing."""
    given = os.environ.get("QOS_DATASETS")
    places = [Path(given)] if given else [PROJECT.parent / "shared" / "data"]
    for place in places:
        if all((place / dataset.path).is_file() for dataset in (UCC5G, TAIWAN_HO)):
            return place
    pytest.fail(
        f"the measured data sets are missing: set QOS_DATASETS to a folder with {UCC5G.path} and "
        f"{TAIWAN_HO.path} (looked in {[str(place) for place in places]})"
    )


def _run(source: Source, folder: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QOS_DATASETS", str(folder))
        patch.setenv("QOS_PSEUDONYM_KEY", "a key for tests only")
        raw = collect(Params(source=source))
    parts = {name: split(name, rows, datetime.now(UTC)) for name, rows in raw.tables.items()}
    return Run(raw, {n: p[0] for n, p in parts.items()}, {n: p[1] for n, p in parts.items()})


@pytest.fixture(scope="session")
def ucc5g(measured: Path) -> Run:
    return _run("ucc5g", measured)


@pytest.fixture(scope="session")
def taiwan_ho(measured: Path) -> Run:
    return _run("taiwan_ho", measured)


def _places(rows: pl.DataFrame) -> set[tuple[str, int]]:
    return set(rows.select("source_file", "source_line").rows())


def _assert_accounted(run: Run) -> None:
    for name in TABLES:
        read, admitted, quarantined = run.counts(name)
        assert read == admitted + quarantined, name
        TABLES[name].validate(run.admitted[name].select(TABLES[name].column_names()))
    for name in ("ue_radio", "ue_flow", "ue_motion"):
        places = _places(run.raw.tables[name])
        good, bad = _places(run.admitted[name]), _places(run.quarantine[name])
        assert len(places) == run.raw.account["lines_read"], name
        assert good | bad == places and not good & bad, name


def test_every_line_of_ucc5g_is_accounted_for(ucc5g: Run) -> None:
    assert (ucc5g.raw.account["lines_read"], ucc5g.raw.account["files"]) == (188_711, 83)
    for name in ("ue_radio", "ue_flow", "ue_motion"):
        assert ucc5g.counts(name) == (188_711, 180_743, 7_968), name
    assert ucc5g.counts("ue_neighbour") == (137_908, 127_953, 9_955)
    assert ucc5g.counts("network_event") == (2_262, 2_262, 0)
    _assert_accounted(ucc5g)


def test_every_line_of_taiwan_ho_is_accounted_for(taiwan_ho: Run) -> None:
    assert (taiwan_ho.raw.account["lines_read"], taiwan_ho.raw.account["files"]) == (99_734, 354)
    for name in ("ue_radio", "ue_flow", "ue_motion"):
        assert taiwan_ho.counts(name) == (99_734, 99_434, 300), name
    _assert_accounted(taiwan_ho)


def test_the_ragged_line_of_taiwan_ho_is_named(taiwan_ho: Run) -> None:
    ragged = taiwan_ho.quarantine["ue_radio"].filter(pl.col("refusal").str.starts_with("ragged"))
    row = ragged.row(0, named=True)
    assert len(ragged) == 1
    assert (row["source_file"], row["source_line"]) == ("2023-06-12_sm00_#02_All(wo_B1).csv", 36)
    assert row["refusal"] == "ragged_line: 49 fields, the header has 30"
    assert row["source_text"].startswith("2023-06-12 ") and row["source_text"].count(",") == 48
    assert taiwan_ho.reasons("ue_radio") == {
        "ue_radio: ragged_line": 1,
        "ue_radio: repeated_session": 299,
    }


def test_equal_times_of_ucc5g_keep_the_last_line(ucc5g: Run) -> None:
    kept = 180_743
    for name, identical, other in (("ue_radio", 5_351, 2_617), ("ue_flow", 3_287, 4_681)):
        assert ucc5g.reasons(name) == {
            f"{name}: duplicate_identical": identical,
            f"{name}: duplicate_superseded": other,
        }
        raw = ucc5g.raw.tables[name]
        last: dict[tuple[str, datetime], int] = {}
        for file, line, time in raw.select("source_file", "source_line", "event_timestamp").rows():
            last[file, time] = max(line, last.get((file, time), 0))
        expected = {(file, line) for (file, _), line in last.items()}
        assert len(expected) == kept and _places(ucc5g.admitted[name]) == expected


def test_2g_and_3g_rows_do_not_pose_as_rsrp(ucc5g: Run) -> None:
    radio = ucc5g.raw.tables["ue_radio"]
    older = radio.filter(pl.col("rat").cast(pl.String).is_in(["GSM", "UMTS"]))
    assert len(older) == 15_880 + 492 + 470 + 163 + 78 + 13
    assert older["rsrp_dbm"].null_count() == older["rsrq_db"].null_count() == len(older)
    assert ucc5g.nulls("ue_radio.rsrp_dbm") == {
        "sentinel -200": 73,
        "2G/3G: another quantity": len(older) - 70,  # the others have the sentinel themselves
    }
    assert ucc5g.admitted["ue_radio"]["rsrp_dbm"].min() > -157  # type: ignore[operator]


def test_every_null_of_ucc5g_has_a_counted_reason(ucc5g: Run) -> None:
    tables = {
        "ue_radio": ("rsrp_dbm", "rsrq_db", "sinr_db", "cqi", "rssi_dbm", "cell_id"),
        "ue_flow": ("downlink_mbps", "uplink_mbps", "round_trip_ms", "packet_loss_ratio"),
        "ue_motion": ("latitude_deg", "longitude_deg", "speed_mps"),
    }
    for table, columns in tables.items():
        for column in columns:
            counted = sum(ucc5g.nulls(f"{table}.{column}").values())
            assert counted == ucc5g.raw.tables[table][column].null_count(), column


def test_units_of_ucc5g(ucc5g: Run) -> None:
    flow, motion = ucc5g.raw.tables["ue_flow"], ucc5g.raw.tables["ue_motion"]
    assert flow["downlink_mbps"].max() == 532.905
    assert flow["uplink_mbps"].max() == 6.862
    assert motion["speed_mps"].max() == pytest.approx(105 / 3.6)
    streaming = flow.filter(pl.col("traffic").cast(pl.String) == "streaming")
    assert streaming["downlink_capacity_mbps"].null_count() == len(streaming) == 145_503


def test_every_null_of_taiwan_ho_has_a_counted_reason(taiwan_ho: Run) -> None:
    radio = taiwan_ho.raw.tables["ue_radio"].filter(pl.col("refusal").is_null())
    assert not (radio["rsrp_dbm"] == 0).any() and not (radio["nr_rsrp_dbm"] == 0).any()
    read = len(taiwan_ho.raw.tables["ue_radio"]) - 1  # the ragged line has no value to lose
    for table, columns in {
        "ue_radio": ("rsrp_dbm", "nr_rsrp_dbm", "nr_rsrq_db"),
        "ue_flow": ("downlink_delay_ms", "uplink_delay_ms", "downlink_lost_packets"),
        "ue_motion": ("latitude_deg", "speed_mps"),
    }.items():
        rows = taiwan_ho.raw.tables[table]
        for column in columns:
            counted = sum(taiwan_ho.nulls(f"{table}.{column}").values())
            assert counted == rows[column].null_count() - (len(rows) - read), column


def test_both_forms_of_events_come_out_as_one(taiwan_ho: Run, measured: Path) -> None:
    """Counts until 2023-06-13 and fractions of the second later, added up from the text itself."""
    packed = lzma.decompress((measured / TAIWAN_HO.path).read_bytes())
    expected: dict[str, int] = {}
    kinds = dict(
        LTE_HO="lte_handover", MN_HO="mn_handover", eNB_to_ENDC="nr_added", gNB_Rel="nr_released",
        gNB_HO="nr_handover", RLF="radio_link_failure", SCG_RLF="scg_failure",
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if not member.name.endswith(".csv") or "example_dataset" in member.name:
                continue
            file = archive.extractfile(member)
            assert file is not None
            header, *lines = file.read().decode().splitlines()
            names = [name.strip() for name in header.split(",")]
            places = [(names.index(name), kind) for name, kind in kinds.items()]
            for line in lines:
                fields = line.split(",")
                for place, kind in places if len(fields) == len(names) else ():
                    text = fields[place].strip()
                    if text.isdigit():
                        expected[kind] = expected.get(kind, 0) + int(text)
                    elif float(text.split("@")[0]) > 0:
                        expected[kind] = expected.get(kind, 0) + len(text.split("@"))
    events = taiwan_ho.admitted["network_event"]
    found = dict(events["kind"].cast(pl.String).value_counts().rows())
    assert found == expected and sum(found.values()) == 12_508
    late = events["arrival_timestamp"] - events["event_timestamp"]
    counted = events["source_file"].str.head(10) <= "2023-06-13"
    assert counted.any() and set(late.filter(counted)) == {timedelta(0)}
    sharp = late.filter(~counted).dt.total_microseconds()
    assert sharp.min() > 0 and sharp.max() < 1_000_000 and sharp.n_unique() > 1000  # type: ignore[operator]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without any data set, and $QOS_DATASETS beside it, empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QOS_DATASETS", str(tmp_path / "given"))
    return tmp_path


def test_a_wrong_checksum_names_both(nowhere: Path) -> None:
    file = nowhere / "given" / UCC5G.path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"another file")
    found = hashlib.sha256(b"another file").hexdigest()
    said = (
        f"{file}: wrong checksum: SHA-256 {found}, expected {UCC5G.sha256} (12 bytes); it should be"
    )
    with pytest.raises(QosError, match=f"^{re.escape(said)} 5G-production-dataset.zip of github"):
        collect(Params(source="ucc5g"))


def test_an_absent_file_without_network_says_what_to_put_where(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:9/5G-production-dataset.zip"  # discard: nothing listens
    monkeypatch.setattr(
        "pipelines.sources.ucc5g.UCC5G", Dataset(UCC5G.path, UCC5G.sha256, url, UCC5G.made_from)
    )
    with pytest.raises(QosError) as raised:
        collect(Params(source="ucc5g"))
    said = str(raised.value)
    assert said.startswith(f"{url}: cannot be downloaded (") and "refused" in said
    assert said.endswith(f"put {UCC5G.made_from} at $QOS_DATASETS/{UCC5G.path}")
    assert not (nowhere / datasets.CACHE).exists()


def test_a_file_without_address_says_what_to_put_where(nowhere: Path) -> None:
    with pytest.raises(QosError, match=r"^taiwan_ho/single\.tar\.xz: not found.*: put the folder"):
        collect(Params(source="taiwan_ho"))
