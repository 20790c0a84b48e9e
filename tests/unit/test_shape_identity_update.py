"""Identity updates: what other systems are told of a row of `identities`."""

import json

import msgspec
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage

from pipelines.write_identity_updates import address_update
from schemas.identity_updates import IdentityUpdate
from schemas.rows import Row
from schemas.tables import load_table
from tests.factories import NOW
from transforms.logic.shape_identity_update import shape_identity_update


def identity(kind: str = "email", identifier: str = "ann@example.com", **values: object) -> Row:
    """A row of `identities`."""
    known = {"workspace_id": "w1", "person_id": "p1", "version": NOW, "updated_at": NOW, "person_since": 5}
    known |= {"identifier_type": kind, "identifier": identifier, **values}
    return tuple(known.get(column) for column in load_table("identities").columns)


def shape(kind: str = "email", identifier: str = "ann@example.com", **values: object) -> object:
    update = shape_identity_update(identity(kind, identifier, **values))
    return None if update is None else json.loads(msgspec.json.encode(update))


def test_an_email_is_an_update_with_all_its_fields() -> None:
    assert shape() == {
        "workspace_id": "w1",
        "person_id": "p1",
        "user_id": None,
        "email": "ann@example.com",
        "at": "2026-01-01T00:00:00.000000Z",
        "version": NOW,
    }


def test_a_user_id_stands_where_user_ids_stand() -> None:
    update = shape("user_id", "ann@example.com")

    assert isinstance(update, dict)
    assert (update["user_id"], update["email"]) == ("ann@example.com", None)


def test_an_anonymous_id_concerns_nobody_else() -> None:
    assert shape("anonymous_id", "a1") is None


def test_who_belongs_to_none_any_more_has_null() -> None:
    update = shape(person_id=None)

    assert isinstance(update, dict)
    assert update["person_id"] is None


def test_the_version_and_its_time_are_told_apart() -> None:
    update = shape(version=7, updated_at=1)

    assert isinstance(update, dict)
    assert (update["version"], update["at"]) == (7, "1970-01-01T00:00:00.000001Z")


@pytest.mark.parametrize("workspace_id", ["w1", "é" * 2000])
def test_an_update_can_be_published_whatever_the_workspace_is_called(workspace_id: str) -> None:
    message = address_update(IdentityUpdate(workspace_id, "p1", "u1", None, "2026-01-01T00:00:00.000000Z", 12))

    assert isinstance(message, PubsubMessage)
    assert message._to_proto_str(for_publish=True)
    assert message.attributes == {"workspace_id": workspace_id[:512], "version": "12"}
    assert json.loads(message.data)["workspace_id"] == workspace_id
