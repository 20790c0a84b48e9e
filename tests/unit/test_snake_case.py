import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.logic.snake_case import snake_case

FIXTURE = Path(__file__).parents[1] / "golden/segment_go_snakecase_cases.json"
CASES = [(case["in"], case["out"]) for case in json.loads(FIXTURE.read_text(encoding="utf-8"))["cases"]]


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_a_name_becomes_what_segment_makes_of_it(name: str, expected: str) -> None:
    assert snake_case(name) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("Email Delivered", "email_delivered"),
        ("Email Opened", "email_opened"),
        ("Email Unique Opens", "email_unique_opens"),
        ("Email Bounced", "email_bounced"),
        ("Email Reported as Spam", "email_reported_as_spam"),
        ("Link Clicked", "link_clicked"),
        ("Unique Link Click", "unique_link_click"),
        ("Unique Link Click per Unique Open", "unique_link_click_per_unique_open"),
        ("Email Unsubscribed", "email_unsubscribed"),
        ("Order Completed Last 30days", "order_completed_last_30days"),
        ("Last 30 Days", "last_30_days"),
        ("_id", "id"),
        ("id_", "id"),
        ("userID", "user_id"),
        ("名前", ""),
        ("", ""),
    ],
)
def test_the_names_of_the_facts_come_out_as_stated(event: str, expected: str) -> None:
    assert snake_case(event) == expected


@given(st.text() | st.text("aB1_ é"))
def test_a_name_is_made_of_small_letters_digits_and_single_underscores(name: str) -> None:
    snake = snake_case(name)

    assert snake == "" or re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", snake)
    assert snake_case(snake) == snake
