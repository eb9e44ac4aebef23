"""Keyed pseudonyms of subscribers, the key's life, and coarse positions."""

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.pseudonym import KEY_FILE, pseudonym, pseudonymised, read_key, redacted, scrub
from schemas.errors import QosError

KEY = b"a key for the tests only"
IMSI, MSISDN, MAC = "001010123456789", "4915112345678", "aa:bb:cc:dd:ee:0f"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a key, in a world that gives none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QOS_PSEUDONYM_KEY", raising=False)
    return tmp_path


def test_a_pseudonym_is_a_keyed_hmac() -> None:
    digest = hmac.new(KEY, IMSI.encode(), hashlib.sha256).hexdigest()
    assert pseudonym(IMSI, KEY) == f"ue-{digest[:20]}"
    assert pseudonym(IMSI, KEY) != pseudonym(IMSI, b"another key, as long as it")


@pytest.mark.parametrize(
    "spellings",
    [
        (IMSI, f"imsi-{IMSI}", f"IMSI-{IMSI}", f"supi:{IMSI}", f" {IMSI} "),
        (MSISDN, f"+{MSISDN}", f"msisdn-{MSISDN}", f"gpsi-{MSISDN}"),
        (MAC, MAC.upper(), MAC.replace(":", "-"), "aabb.ccdd.ee0f", "AABBCCDDEE0F"),
    ],
)
def test_spellings_of_one_id_share_a_pseudonym(spellings: tuple[str, ...]) -> None:
    assert len({pseudonym(spelling, KEY) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    "identifier",
    [
        IMSI, f"imsi-{IMSI}", f"{IMSI}.0", f"{IMSI}{MSISDN}", f"ue_{IMSI}_a", f"a.{IMSI}.csv",
        "2.62011234567891e14", f"+{MSISDN}", "+49 151 1234567", "+1-202-555-0143", MAC, MAC.upper(),
        "aabb.ccdd.ee0f", "AABBCCDDEE0F", "192.168.17.4", "10.0.0.1:8080", "fe80::1ff:fe23:4567:890a",
        "2001:db8:0:0:8:800:200c:417a", "::ffff:192.168.17.4", "2001:DB8::1/64",
        "jane.doe@example.org", "nai-jane@realm.example",
    ],
)  # fmt: skip
def test_whatever_names_a_subscriber_leaves_a_text(identifier: str) -> None:
    for text in (identifier, f"x,{identifier},-90", f'{{"note": "call {identifier} back"}}'):
        for found in (scrub(text, KEY, 3), redacted(text)):
            assert identifier not in found and not any(
                run in found for run in (IMSI, MSISDN, "1234567", "168.17", "db8:", "jane", "ccdd")
            ), found


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-05 20:00:01", "B_2019.11.27_07.29.47", "20:00:01.123", "-90.5", "1E05,9E38",
        "2023-06-12_sm00_#02_All(wo_B1).csv", "ragged_line: 49 fields, the header has 30",
        "51.897", "0.043", "1709640000",
    ],
)  # fmt: skip
def test_times_and_measurements_stay(text: str) -> None:
    if text == "1709640000":  # ten digits are a subscriber's until the opposite is known
        assert scrub(text, KEY) != text
    else:
        assert scrub(text, KEY) == redacted(text) == text


def test_positions_in_text_become_coarse() -> None:
    assert scrub("25.0174389,121.5405512,-90", KEY, 3) == "25.017,121.540,-90"
    assert scrub("25.0174389", KEY, 1) == "25.0" and scrub("run 1.2345", KEY) == "run 1.2345"


@given(st.integers(10**9, 10**16).map(str), st.text("ab ,;-_/#\t", max_size=5))
def test_no_long_number_survives_in_any_surrounding(number: str, around: str) -> None:
    assert number not in scrub(f"{around}{number}{around}", KEY)


def _table(**columns: list[object]) -> pl.DataFrame:
    return pseudonymised(pl.DataFrame(columns), KEY, 0.001)


def test_id_columns_and_free_texts_are_changed() -> None:
    table = _table(
        ue_id=[IMSI, None],
        session_id=[f"run of {IMSI}", "s1"],
        source_text=[None, f"{MAC},1"],
        cqi=[1.0, 2.0],
    )
    name = pseudonym(IMSI, KEY)
    assert table.rows() == [
        (name, f"run of {name}", None, 1.0),
        (None, "s1", f"{pseudonym(MAC, KEY)},1", 2.0),
    ]


@given(st.floats(-90, 90), st.sampled_from([0.001, 0.01, 0.7, 1.0]))
def test_positions_go_to_the_middle_of_their_square(latitude: float, grid: float) -> None:
    table = pl.DataFrame({"latitude_deg": [latitude], "longitude_deg": [latitude * 2]})
    found = pseudonymised(table, KEY, grid)
    for name, limit in (("latitude_deg", 90), ("longitude_deg", 180)):
        middle = found[name].item()
        assert abs(middle) <= limit and abs(middle - table[name].item()) <= grid + 1e-9
        assert abs((middle - grid / 2) / grid - round((middle - grid / 2) / grid)) < 1e-5
        if abs(table[name].item()) < limit - grid:
            assert abs(middle - table[name].item()) <= grid / 2 + 1e-8


def test_a_position_out_of_range_stays_so() -> None:
    table = pl.DataFrame({"latitude_deg": [91.0, None], "longitude_deg": [-200.0, 180.0]})
    found = pseudonymised(table, KEY, 0.001)
    assert found["latitude_deg"].to_list() == [91.0005, None]
    assert found["longitude_deg"].to_list() == [-199.9995, 179.9995]


def test_the_key_is_made_once_for_its_owner_only(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(0)
    try:
        key = read_key()
    finally:
        os.umask(before)
    said = capsys.readouterr()
    assert (
        said.out == "" and len(said.err.splitlines()) == 1 and "made .qos/pseudonym.key" in said.err
    )
    assert key.decode() not in said.err and len(key) == 64
    assert stat.S_IMODE((alone / KEY_FILE).stat().st_mode) == 0o600
    assert read_key() == key and capsys.readouterr().err == ""


def test_the_environments_key_comes_first(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", KEY.decode())
    assert read_key() == KEY and not KEY_FILE.exists()
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", "short")
    with pytest.raises(QosError, match=r"^\$QOS_PSEUDONYM_KEY: the key has 5 bytes, at least 16"):
        read_key()


def _command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lifecycle.pseudonym", *words],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_rotation_changes_every_pseudonym(alone: Path) -> None:
    key = read_key()
    done = _command("rotate")
    assert done.returncode == 0 and "dvc repro --force collect" in done.stdout
    new = read_key()
    assert new != key and new.decode() not in done.stdout + done.stderr
    assert stat.S_IMODE(KEY_FILE.stat().st_mode) == 0o600
    assert pseudonym(IMSI, new) != pseudonym(IMSI, key)


def test_a_key_of_the_environment_is_not_rotated_here(alone: Path) -> None:
    done = _command("rotate", QOS_PSEUDONYM_KEY=KEY.decode())
    assert done.returncode == 1 and "rotate it where it is set" in done.stderr
    assert not KEY_FILE.exists() and KEY.decode() not in done.stdout + done.stderr
