"""Messages that tell who is who: read as docs/identity_updates.md describes them, or rejected with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.email_logs import LogBlock
from schemas.identity_updates import IdentityUpdate
from schemas.rejections import Rejected
from tests.factories import message
from transforms.coders import StructCoder
from transforms.logic.parse_identity_update import parse_identity_update

GOLDEN = Path(__file__).parents[1] / "golden" / "identity_update_rejects.jsonl"
AT = "2026-01-01T00:00:00.000000Z"
UPDATE = {"workspace_id": "w1", "person_id": "p1", "user_id": "u1", "email": None, "at": AT, "version": 7}
CODER = StructCoder(LogBlock)


def payload(**fields: object) -> bytes:
    return json.dumps(UPDATE | fields).encode()


def test_an_update_is_read_as_it_is_written() -> None:
    assert parse_identity_update(message(payload())) == IdentityUpdate("w1", "p1", "u1", None, AT, 7)


def test_an_email_is_compared_as_identities_are() -> None:
    update = parse_identity_update(message(payload(user_id=None, email=" Ann@Example.COM ")))

    assert update.email == "ann@example.com"


def test_who_belongs_to_nobody_any_more_is_an_update_too() -> None:
    assert parse_identity_update(message(payload(person_id=None))).person_id is None


@pytest.mark.parametrize(
    "case", [json.loads(line) for line in GOLDEN.read_text().splitlines()], ids=lambda case: case["about"]
)
def test_rejects_are_rejected_for_the_reason_that_is_written_beside_them(case: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as verdict:
        parse_identity_update(message(case["payload"].encode()))

    assert (verdict.value.reason, verdict.value.detail) == (case["reason"], case["detail"])


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)


@given(st.binary() | st.dictionaries(st.sampled_from(list(UPDATE)), VALUES).map(lambda fields: payload(**fields)))
@example(payload(version=2**63))
@example(payload(user_id="\ud800"))
@example(b"[" * 10_000)
def test_any_payload_is_an_update_that_travels_or_rejected(data: bytes) -> None:
    try:
        update = parse_identity_update(message(data))
    except Rejected:
        return

    block = LogBlock([], [update])
    assert CODER.decode(CODER.encode(block)) == block
