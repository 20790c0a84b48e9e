"""Email calls as they are sent: names, ids and contents, and Segment's own rules for them.

After a change that is meant: UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_make_call.py; then read the
diff.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.calls import MAX_CALL_BYTES
from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_logs import EmailEvent, LogLine
from schemas.outgoing_calls import OutgoingCall
from tests.factories import NOW, SECOND, json_of, message
from tests.unit.email_histories import line
from transforms.logic.make_call import CALLS_AT_ONCE, derive_message_id, make_calls
from transforms.logic.outgoing_blocks import join_block, split_block
from transforms.logic.parse_call import parse_call

GOLDEN = Path(__file__).parents[1] / "golden" / "email_calls.jsonl"

PROPERTIES = [
    "event",
    "userId",
    "email_id",
    "campaign_id",
    "campaign_run_id",
    "campaign_name",
    "email_subject",
    "email_link_url",
    "is_unique_open",
    "is_unique_click",
]
"""https://segment.com/docs/connections/sources/catalog/cloud-apps/inflection/#event-properties, in its order."""

NOT_TRACKS = (EmailCallKind.PAGE, EmailCallKind.GROUP, EmailCallKind.IDENTIFY)

OPENED = line(
    "sendgrid:1",
    "opened",
    email="ann@example.com",
    person_id="p-1",
    email_id="welcome-1",
    campaign_id="c-1",
    campaign_run_id="r-1",
    campaign_name="Welcome",
    email_subject="Hello, Zoë",
    user_agent="Mozilla/5.0",
    ip="192.0.2.1",
)
CLICKED = replace(OPENED, log_id="sendgrid:2", event="clicked", email_link_url="https://example.com/a?b=1#c")
VIEWED = replace(CLICKED, log_id="own:3", event="page_viewed")
BARE = LogLine("w1", "own:4", "opened", NOW, NOW, "ann@example.com", person_id="p-1")
MEMBER = replace(OPENED, account_id="acme", account_name="Acme, Inc.")
KIND = EmailCallKind


def call(kind: EmailCallKind, about: LogLine, user_id: str | None = None, **fields: Any) -> EmailCall:
    return EmailCall(kind.value, about, user_id, **{"at": about.at, **fields})


def made(kind: EmailCallKind, about: LogLine, user_id: str | None = None, **fields: Any) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(json_of(call(kind, about, user_id, **fields)))
    return payload


CASES = {
    "delivered": call(KIND.EMAIL_DELIVERED, replace(OPENED, event="delivered")),
    "delivered to a known user": call(KIND.EMAIL_DELIVERED, replace(OPENED, event="delivered"), "u1"),
    "bounced": call(KIND.EMAIL_BOUNCED, replace(OPENED, event="bounced")),
    "reported as spam": call(KIND.EMAIL_REPORTED_AS_SPAM, replace(OPENED, event="reported_as_spam")),
    "unsubscribed": call(KIND.EMAIL_UNSUBSCRIBED, replace(OPENED, event="unsubscribed")),
    "first open": call(KIND.EMAIL_OPENED, OPENED, is_unique_open=True),
    "later open": call(KIND.EMAIL_OPENED, OPENED),
    "open of which little is known": call(KIND.EMAIL_OPENED, BARE),
    "open by a machine": call(KIND.EMAIL_OPENED, replace(OPENED, is_machine=True)),
    "unique open": call(KIND.EMAIL_UNIQUE_OPENS, OPENED, "u1", is_unique_open=True),
    "implied open": call(KIND.EMAIL_UNIQUE_OPENS, CLICKED, is_unique_open=True, is_implied_open=True),
    "first click": call(KIND.LINK_CLICKED, CLICKED, is_unique_click=True),
    "later click": call(KIND.LINK_CLICKED, CLICKED, "u1"),
    "click by a bot": call(KIND.LINK_CLICKED, replace(CLICKED, is_machine=True)),
    "unique click": call(KIND.UNIQUE_LINK_CLICK, CLICKED, is_unique_click=True),
    "click and open": call(
        KIND.UNIQUE_LINK_CLICK_PER_UNIQUE_OPEN, CLICKED, "u1", at=NOW + 1, is_unique_open=True, is_unique_click=True
    ),
    "page": call(KIND.PAGE, VIEWED),
    "page of a known user": call(KIND.PAGE, replace(VIEWED, email_link_url="https://example.com"), "u1"),
    "page with an address that is none": call(KIND.PAGE, replace(VIEWED, email_link_url="https://[oops")),
    "page without an address": call(KIND.PAGE, replace(VIEWED, email_link_url=None)),
    "group": call(KIND.GROUP, MEMBER),
    "group of a known user, without a name": call(KIND.GROUP, replace(MEMBER, account_name=None), "u1"),
    "identify": call(KIND.IDENTIFY, replace(OPENED, log_id="", event=""), "u1"),
}


def test_calls_are_written_so() -> None:
    actual = []
    for case, each in CASES.items():
        actual.append({"case": case, "workspace_id": each.line.workspace_id, "call": json.loads(json_of(each))})
    if os.environ.get("UPDATE_GOLDEN"):
        lines = [json.dumps(one, ensure_ascii=False) for one in actual]
        GOLDEN.write_text("\n".join(lines) + "\n", encoding="utf-8")

    # As text, since the order of the fields counts.
    assert GOLDEN.read_text(encoding="utf-8").splitlines() == [json.dumps(one, ensure_ascii=False) for one in actual]


def test_each_kind_is_golden() -> None:
    assert {each.kind for each in CASES.values()} == {kind.value for kind in EmailCallKind}


@pytest.mark.parametrize("kind", [kind for kind in EmailCallKind if kind not in NOT_TRACKS])
@pytest.mark.parametrize("about", [OPENED, CLICKED, BARE])
def test_every_event_has_the_ten_properties_in_the_pages_order(kind: EmailCallKind, about: LogLine) -> None:
    assert list(made(kind, about)["properties"]) == PROPERTIES


def test_the_property_user_id_is_the_email_and_the_calls_own_is_the_customers() -> None:
    sent = made(KIND.EMAIL_OPENED, OPENED, "u1")

    assert (sent["userId"], sent["properties"]["userId"]) == ("u1", "ann@example.com")
    assert "anonymousId" not in sent


def test_only_who_has_no_user_id_is_named_by_the_person_and_by_the_email() -> None:
    known, unknown = made(KIND.PAGE, VIEWED, "u1"), made(KIND.PAGE, VIEWED)

    assert (unknown["anonymousId"], unknown["context"]["traits"]) == ("p-1", {"email": "ann@example.com"})
    assert "anonymousId" not in known
    assert "traits" not in known["context"]


def test_an_identify_has_both_ids() -> None:
    sent = made(KIND.IDENTIFY, OPENED, "u1")

    assert (sent["userId"], sent["anonymousId"], sent["traits"]) == ("u1", "p-1", {"email": "ann@example.com"})


# messageIds

FIELDS = ("log_id", "email", "person_id", "campaign_run_id", "email_id", "email_link_url", "account_id", "workspace_id")
LINE_KINDS = (
    KIND.EMAIL_DELIVERED,
    KIND.EMAIL_OPENED,
    KIND.EMAIL_BOUNCED,
    KIND.EMAIL_REPORTED_AS_SPAM,
    KIND.LINK_CLICKED,
    KIND.EMAIL_UNSUBSCRIBED,
    KIND.PAGE,
)
GOES_BY = {
    **{kind: {"log_id", "email"} for kind in LINE_KINDS},
    KIND.EMAIL_UNIQUE_OPENS: {"person_id", "campaign_run_id", "email_id"},
    KIND.UNIQUE_LINK_CLICK: {"person_id", "campaign_run_id", "email_id", "email_link_url"},
    KIND.UNIQUE_LINK_CLICK_PER_UNIQUE_OPEN: {"person_id", "campaign_run_id", "email_id"},
    KIND.GROUP: {"person_id", "account_id"},
    KIND.IDENTIFY: {"person_id"},
}


@pytest.mark.parametrize("kind", EmailCallKind)
def test_a_message_id_goes_by_what_there_is_one_call_of(kind: EmailCallKind) -> None:
    full = replace(MEMBER, email_link_url="https://example.com")
    before = derive_message_id(call(kind, full, "u1"))

    changed = {
        field for field in FIELDS if derive_message_id(call(kind, replace(full, **{field: "other"}), "u1")) != before
    }

    assert changed == GOES_BY[kind] | {"workspace_id"}
    assert derive_message_id(call(kind, replace(full, at=1, is_machine=True), "u1", at=2)) == before
    assert (derive_message_id(call(kind, full, "u2")) != before) == (kind == KIND.IDENTIFY)


def test_each_kind_of_one_line_has_a_message_id_of_its_own() -> None:
    ids = {derive_message_id(call(kind, MEMBER, "u1")) for kind in EmailCallKind}

    assert len(ids) == len(EmailCallKind)


def test_a_message_id_is_what_python_calls_a_uuid_of_version_5() -> None:
    name = json.dumps(["Email Opened", "w1", "ü:1", "ann@example.com"], separators=(",", ":"), ensure_ascii=False)
    expected = uuid.uuid5(uuid.UUID("b1f6c8e2-5d1f-5c7f-a3c5-f0a4d2c96e37"), name)

    assert derive_message_id(call(KIND.EMAIL_OPENED, replace(OPENED, log_id="ü:1"))) == str(expected)
    assert expected.version == 5


texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(("r", "r\n", '","', "é", "\u2028"))


@given(st.lists(st.tuples(texts | st.none(), texts | st.none(), texts | st.none()), unique=True, max_size=8))
def test_no_two_names_have_one_message_id(names: list[tuple[str | None, ...]]) -> None:
    ids = set()
    for run, email_id, link in names:
        about = replace(CLICKED, campaign_run_id=run, email_id=email_id, email_link_url=link)
        ids.add(derive_message_id(call(KIND.UNIQUE_LINK_CLICK, about)))

    assert len(ids) == len(names)


# What is sent is what Segment takes

maybe = texts | st.none()
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
lines = st.builds(
    LogLine,
    workspace_id=ids,
    log_id=ids,
    event=st.sampled_from([event.value for event in EmailEvent]),
    at=st.integers(-62_135_596_800 * SECOND, 253_402_300_799 * SECOND + SECOND - 1),
    arrived_at=st.integers(0, 2**53),
    email=st.sampled_from(("a@x", "ü@ü")),
    person_id=ids,
    email_id=maybe,
    campaign_id=maybe,
    campaign_run_id=maybe,
    campaign_name=maybe,
    email_subject=maybe,
    email_link_url=maybe | st.sampled_from(("https://x/a?b#c", "https://[", "//x]", "http://\u2100/")),
    user_agent=maybe,
    ip=maybe,
    is_machine=st.booleans(),
    account_id=ids,
    account_name=maybe,
)
calls = st.builds(
    EmailCall,
    st.sampled_from([kind.value for kind in EmailCallKind]),
    lines,
    ids | st.none(),
    st.integers(-62_135_596_800 * SECOND, 253_402_300_799 * SECOND + SECOND - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(calls)
def test_every_call_is_one_that_the_other_pipeline_reads(made_of: EmailCall) -> None:
    if made_of.kind == EmailCallKind.IDENTIFY and made_of.user_id is None:
        made_of.user_id = "u1"

    sent = json_of(made_of)
    read = parse_call(message(sent, published_at=2**53), 0, "other")

    assert (read.message_id, read.type) == (derive_message_id(made_of), json.loads(sent)["type"])
    assert uuid.UUID(read.message_id).version == 5
    assert read.user_id == made_of.user_id
    assert read.anonymous_id == (made_of.line.person_id if read.user_id is None or read.type == "identify" else None)
    assert read.timestamp == min(made_of.at, read.timestamp)
    assert read.group_id == (made_of.line.account_id if read.type == "group" else None)
    if read.user_id is None or read.type == "identify":
        assert read.email == made_of.line.email
    assert msgspec.json.decode(sent)["timestamp"].endswith("Z")


@given(st.lists(st.one_of(st.integers(2, 300), st.sampled_from([-1, 0, 1])), max_size=3 * CALLS_AT_ONCE))
@example([0] * CALLS_AT_ONCE + [1] + [0] * CALLS_AT_ONCE)
def test_each_call_of_a_block_is_sent_or_too_large_in_their_order(sizes: list[int]) -> None:
    """From 2 on a size is the bytes of the subject; else how many the call has over what Segment takes."""
    least = len(json_of(call(KIND.EMAIL_OPENED, replace(OPENED, email_subject=""))))
    calls = []
    for number, size in enumerate(sizes):
        subject = "x" * (size if size > 1 else MAX_CALL_BYTES - least + size)
        calls.append(call(KIND.EMAIL_OPENED, replace(OPENED, log_id=f"l{number:03}", email_subject=subject)))

    block, too_large = make_calls(calls)

    sent = split_block(block)
    assert sent == [OutgoingCall(each, json_of(each)) for each, size in zip(calls, sizes, strict=True) if size != 1]
    assert [each.made_of for each in too_large] == [each for each, size in zip(calls, sizes, strict=True) if size == 1]
    assert {len(each.payload) for each in too_large} <= {MAX_CALL_BYTES + 1}
    assert join_block(sent) == block
