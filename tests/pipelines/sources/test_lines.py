"""Lines of delimited text: read as they stand, the ragged ones kept apart with their place."""

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.lines import read_lines
from schemas.errors import QosError


def test_every_value_is_text_as_it_stands() -> None:
    lines = read_lines(b"cell,node,empty\n1E05,9e38,\n0012,inf,-\n", "a.csv")
    assert lines.rows.rows() == [(2, "1E05", "9e38", ""), (3, "0012", "inf", "-")]
    assert set(lines.rows.schema.dtypes()[1:]) == {pl.String()}


def test_padding_of_header_and_values_is_stripped() -> None:
    lines = read_lines(b"RSRP      ;  RSRQ \n -90  ;\t-12 \n", "a.csv", ";")
    assert lines.rows.to_dicts() == [{"source_line": 2, "RSRP": "-90", "RSRQ": "-12"}]


def test_ragged_lines_are_kept_apart_with_place_text_and_reason() -> None:
    lines = read_lines(b"a,b\n1,2\n\n1,2,3\n7\n3,4\n", "a.csv")
    assert lines.rows["source_line"].to_list() == [2, 6]
    assert lines.ragged.rows() == [
        (4, "1,2,3", "ragged_line: 3 fields, the header has 2"),
        (5, "7", "ragged_line: 1 fields, the header has 2"),
    ]
    assert lines.count == 4


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_line_ends_end_a_line(end: str) -> None:
    text = end.join(["\ufeffa,b", "x\u2028y,\x85", "\x0b1,2\x1c"]) + end
    lines = read_lines(text.encode(), "a.csv")
    assert lines.rows["source_line"].to_list() == [2, 3]
    assert lines.rows["a"].to_list() == ["x\u2028y", "1"]


def test_quoted_fields_hold_separators() -> None:
    lines = read_lines(b'a,"b, c"\n"1,5","say ""no"""\nplain,x"y\n', "a.csv")
    assert lines.rows.rows() == [(2, "1,5", 'say "no"'), (3, "plain", 'x"y')]


def test_an_open_quote_spoils_only_its_own_line() -> None:
    lines = read_lines(b'a,b\n1,"2\n3,4\n"5",6\n"7"x,8\n', "a.csv")
    assert lines.rows.rows() == [(3, "3", "4"), (4, "5", "6")]
    assert lines.ragged["source_line"].to_list() == [2, 5]
    assert all(why.startswith("ragged_line: ") for why in lines.ragged["refusal"])


def test_a_separator_beyond_ascii_is_one_too() -> None:
    lines = read_lines("a§b\n1§2\n".encode(), "a.csv", "§")
    assert lines.rows.rows() == [(2, "1", "2")]


def test_only_ragged_lines_leave_an_empty_table_of_text() -> None:
    lines = read_lines(b"a,b\n1\n", "a.csv")
    assert lines.rows.schema == {"source_line": pl.Int64, "a": pl.String, "b": pl.String}
    assert (len(lines.rows), len(lines.ragged)) == (0, 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a.csv: empty: 0 lines, a header and rows are needed"),
        (b"a,b\n\n  \n", "a.csv: empty: 1 lines, a header and rows are needed"),
        (b"a,b\n\xff,1\n", "a.csv: not UTF-8: byte 0xff at 4"),
        (b"a, a ,b\n1,2,3\n", r"a.csv: line 1: columns named twice: \['a'\]"),
        (b"\na,a\n1,2\n", r"a.csv: line 2: columns named twice: \['a'\]"),
        (b"source_line,b\n1,2\n", "a.csv: line 1: 'source_line' is a name of the platform's own"),
        (b'a,"b\n1,2\n', "a.csv: line 1: the header cannot be read: "),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(QosError, match=f"^{said}") as raised:
        read_lines(data, "a.csv")
    assert "\n" not in str(raised.value)


field = st.text(st.sampled_from('ab"1 ,;\t\x85\u2028é-'), max_size=6)


@given(st.lists(st.one_of(field, st.lists(field, min_size=3, max_size=3).map(",".join))))
def test_no_line_is_lost_and_none_is_invented(garbage: list[str]) -> None:
    lines = read_lines("\n".join(["x,y,z", "1,2,3", *garbage]).encode(), "a.csv")
    filled = [n for n, line in enumerate(garbage, start=3) if line.strip()]
    places = [*lines.rows["source_line"], *lines.ragged["source_line"]]
    assert sorted(places) == [2, *filled]
    assert lines.count == 1 + len(filled)


@given(st.lists(st.lists(field, min_size=2, max_size=2), min_size=1))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["x", "y"], *rows])
    lines = read_lines(text.getvalue().encode(), "a.csv")
    assert lines.rows.drop("source_line").rows() == [(a.strip(), b.strip()) for a, b in rows]
    assert lines.ragged.is_empty()
