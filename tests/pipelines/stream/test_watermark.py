"""The watermark is the least promise of those who still send, and hangs on the entries alone."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nef.stream.entries import Entry
from pipelines.stream.times import NEVER
from pipelines.stream.watermark import Watermark


def entry(
    producer: str, number: int, through: int | None, time_ms: int = 0, *, last: bool = False
) -> Entry:
    return Entry(f"{time_ms}-{number}", producer, number, through, {}, last)


def test_the_slowest_producer_holds_it_until_it_ends() -> None:
    mark = Watermark()
    for made in (entry("a", 0, 10), entry("b", 0, 5), entry("a", 1, 20)):
        assert mark.take(made)
    assert mark.value == 10  # what "a" alone had promised stays
    mark.take(entry("b", 1, 12))
    assert mark.value == 12
    mark.take(entry("b", 2, 12, last=True))
    assert mark.value == 20


def test_a_producer_silent_for_too_long_is_not_waited_for() -> None:
    mark = Watermark(idle_ms=1000)
    mark.take(entry("a", 0, 5, time_ms=0))
    mark.take(entry("b", 0, 30, time_ms=900))
    assert mark.value == 5
    mark.take(entry("b", 1, 40, time_ms=1001))
    assert mark.value == 40


def test_an_entry_sent_twice_is_told_and_a_missing_one_is_lost() -> None:
    mark = Watermark()
    assert mark.take(entry("a", 0, 1))
    assert not mark.take(entry("a", 0, 1))
    assert mark.take(entry("a", 3, 4))
    assert mark.lost == 2


def test_a_clock_that_runs_ahead_does_not_take_the_watermark_along() -> None:
    mark = Watermark()
    mark.take(entry("a", 0, 10**15, time_ms=1000))
    assert mark.value == 6_000_000


def test_no_promise_is_no_watermark() -> None:
    mark = Watermark()
    mark.take(entry("a", 0, None))
    assert mark.value == NEVER


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans()), max_size=30),
    st.integers(0, 30),
)
def test_saved_and_restored_it_goes_on_as_before(
    sent: list[tuple[str, int, bool]], cut: int
) -> None:
    entries = [
        entry(name, number, through, number * 300, last=last)
        for number, (name, through, last) in enumerate(sent)
    ]
    whole, first, second = (Watermark(idle_ms=1000) for _ in range(3))
    values = []
    for made in entries:
        whole.take(made)
        values.append(whole.value)
    assert values == sorted(values)
    for made in entries[:cut]:
        first.take(made)
    second.restore(json.loads(json.dumps(first.saved())))
    for made in entries[cut:]:
        second.take(made)
    assert (second.value, second.lost) == (whole.value, whole.lost)
