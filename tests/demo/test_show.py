"""What the demo shows is what was answered, counted once."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from demo.course import Asked, Course, Passed
from demo.show import Screen, ages, decisions, line, summary
from serving.messages.decisions import DecisionReply

PSEUDONYM = "ue-0123456789abcdef0123"


def scored(cell: str, serving: bool, chance: float | None) -> dict[str, Any]:
    return {
        "cell_id": cell, "serving": serving, "probability": chance, "confidence": chance,
        "unknown_share": 0.0, "substituted_share": 0.0, "out_of_domain_share": 0.0,
        "out_of_domain": [], "thresholds": {}, "throughput_mbps": None, "delay_ms": None,
    }  # fmt: skip


def reply(decision: str = "apply", **changes: Any) -> DecisionReply:
    content: dict[str, Any] = {
        "decision_id": "d", "decided_at": "2026-01-01T00:00:00Z", "ue_id": PSEUDONYM,
        "decision": decision, "reason": "best_cell", "predicted_antenna": "000002003",
        "connected_to": "000001001", "confidence": 0.75, "required_confidence": 0.7,
        "qos_compliance": {"service_priority_ok": True, "required_confidence": 0.7,
                           "observed_confidence": 0.75, "details": []},
        "asked": {"service": "embb", "priority": 6, "five_qi": 9, "source": "five_qi",
                  "downlink_mbps": None, "delay_ms": None, "loss_ratio": None, "jitter_ms": None},
        "candidates": [scored("000001001", True, 0.25), scored("000002003", False, 0.8125)],
        "features": {"ue_radio": {"status": "present", "age_s": 1.25},
                     "cell_load": {"status": "present", "age_s": 3.0},
                     "cell_history": {"status": "not_found", "age_s": None},
                     "qos_class": {"status": "present", "age_s": 8e8}},
        "unknown_features": [], "substituted_features": [], "overridden_features": [],
        "model": {"version": "qos/3", "digest": "0", "service": "qos_v1", "catalog_hash": "0"},
        "explanation": None,
    }  # fmt: skip
    return DecisionReply.model_validate(content | changes)


def asked(answer: DecisionReply | None, by: str = "decision_service", **told: Any) -> Asked:
    account = {"to": "000002003", "applied": True, "by": by, "reason": None} | told
    passed = Passed(answer, None if answer else "503: no answer", 12.5)
    return Asked(datetime(2026, 1, 1, tzinfo=UTC), account, passed)


@pytest.fixture
def course() -> Course:
    made = Course()
    made.count(asked(reply()))
    made.count(asked(reply("stay", reason="too_soon"), applied=False))
    unsure = reply("fallback_a3", reason="low_confidence")
    made.count(asked(unsure, "a3", reason="qos_compliance"))
    made.count(asked(None, "a3", applied=False, reason="unavailable"))
    return made


def seen(shown: Any, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_each_question_is_counted_once(course: Course) -> None:
    assert course.asked == 4 and course.handovers == 2
    assert course.decisions == {"apply": 1, "stay": 1, "fallback_a3": 1, "no answer": 1}
    assert course.reasons == {"low_confidence": 1}
    assert course.by_a3 == {"qos_compliance": 1, "unavailable": 1}
    assert (course.present, course.views) == (9, 12)


def test_a_row_says_what_was_answered_and_what_was_done(course: Course) -> None:
    table = seen(decisions(list(course.latest), wide=True)).splitlines()
    none, fallback, stay, apply = table[1:5]
    for told in ("ue-01234567", "1001 → 2003", "0.81", "0.75 / 0.70", "best_cell", "→ 2003", "12"):
        assert told in apply, told
    assert PSEUDONYM not in apply and "2/3  1.2 to 3.0 s, no cell_history" in apply
    assert "stays" in stay and "too_soon" in stay
    assert "A3: → 2003" in fallback
    assert "no answer" in none and "503" in none


def test_a_decision_that_read_nothing_shows_no_values() -> None:
    cells = [scored("000002003", False, None)]
    away = reply("fallback_a3", reason="store_away", features={}, candidates=cells, confidence=0.0)
    assert ages(away) == "none read"
    row = seen(decisions([asked(away, "a3")], wide=True)).splitlines()[1]
    assert " – " in row and "store_away" in row


def test_elsewhere_than_in_a_terminal_there_is_a_line_a_second(course: Course) -> None:
    told = io.StringIO()
    with Screen(Console(file=told, width=80), 60) as screen:
        screen.part("Redis", None)
        screen.part("Redis", 0.25)
        screen.second(course, 59.0)
    lines = told.getvalue().splitlines()
    assert lines[:2] == ["Redis: starts", "Redis: ready in 0.2 s"]
    assert len(lines) == 3 and lines[2].startswith("  1 s  4 decisions  1 apply")
    assert "views present 75%" in lines[2] and "lag ?" in lines[2]


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_terminal_of_any_width_shows_the_minute(course: Course, width: int) -> None:
    told = io.StringIO()
    console = Console(file=told, width=width, height=30, force_terminal=True)
    with Screen(console, 60) as screen:
        screen.part("network", None)
        screen.second(course, 12.0)
    assert "12 s left" in told.getvalue() and "Traceback" not in told.getvalue()


def test_the_summary_of_nothing_makes_nothing_up() -> None:
    text = seen(summary(Course(), 60, "qos@champion"))
    assert "none yet" in text and "decisions      0: none" in text and "%" not in text
    assert "lag" not in text and "none" in line(Course())
