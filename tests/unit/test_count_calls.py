from schemas.outcomes import MICROSECONDS_A_MINUTE, Outcome, OutcomeKey, outcome_key
from schemas.rejections import DeadLetter
from tests.factories import MINUTE, NOW, call
from transforms.logic.count_calls import count_calls, count_dead_letter


def test_calls_are_counted_by_minute_of_arrival_workspace_connection_and_type() -> None:
    calls = [
        call(arrived_at=NOW),
        call(arrived_at=NOW + MINUTE - 1, timestamp=0),
        call(arrived_at=NOW + MINUTE),
        call(arrived_at=NOW, workspace_id="w2"),
        call(arrived_at=NOW, connection_id="c1"),
        call(arrived_at=NOW, call_type="page"),
    ]

    assert count_calls(calls, Outcome.WRITTEN) == {
        OutcomeKey(NOW, "w1", "", "track", "written", ""): 2,
        OutcomeKey(NOW + MINUTE, "w1", "", "track", "written", ""): 1,
        OutcomeKey(NOW, "w2", "", "track", "written", ""): 1,
        OutcomeKey(NOW, "w1", "c1", "track", "written", ""): 1,
        OutcomeKey(NOW, "w1", "", "page", "written", ""): 1,
    }


def test_no_call_counts_nothing() -> None:
    assert count_calls([], Outcome.DUPLICATE) == {}


def test_a_window_starts_at_its_minute_before_1970_too() -> None:
    assert outcome_key(-1, "w", None, None, Outcome.DUPLICATE).window_start == -MICROSECONDS_A_MINUTE


def test_a_dead_letter_counts_as_rejected_for_its_reason() -> None:
    letter = DeadLetter(b"", "ParseCalls", "bad_request", "", NOW + 1, "w1", "c1", "track")

    assert count_dead_letter(letter) == OutcomeKey(NOW, "w1", "c1", "track", "rejected", "bad_request")


def test_a_dead_letter_that_says_nothing_of_itself_is_of_unknown_type() -> None:
    letter = DeadLetter(b"", "ParseCalls", "bad_request", "", NOW, "w1")

    assert count_dead_letter(letter) == OutcomeKey(NOW, "w1", "", "unknown", "rejected", "bad_request")
