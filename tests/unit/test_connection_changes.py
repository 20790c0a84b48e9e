import base64
import errno
import os
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.api_core.exceptions import DeadlineExceeded, NotFound
from google.cloud import secretmanager
from google.cloud.bigquery import Client
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.connections import Connection, ConnectionKind
from services.connection_changes import Change, fold_changes
from services.connection_store import ConnectionStore
from services.keys import find_key_id, hash_key, is_key, make_key
from services.limit_rate import Bucket
from services.manage_connections import (
    RefusedConnectionError,
    create_connection,
    find_connection,
    keep_signing_secret,
    revoke_keys,
    rotate_key,
)
from services.secret_store import READ_SECONDS, FolderStore, SecretStoreError, open_secret_store, signing_secret_name
from tests.factories import HOUR, NOW, SECOND


class MemoryStore:
    """Stands in for the table, and gives its rows in another order each time."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def load(self) -> dict[str, Connection]:
        return fold_changes(random.Random(len(self.changes)).sample(self.changes, len(self.changes)))

    def append(self, changes: Iterable[Change]) -> None:
        self.changes += changes


@pytest.fixture
def table() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(table: MemoryStore) -> ConnectionStore:
    return cast(ConnectionStore, table)


def create(store: ConnectionStore, name: str = "Web site", **fields: Any) -> tuple[Connection, str]:
    return create_connection(store, name, "acme", fields.pop("kind", ConnectionKind.SEGMENT), NOW, **fields)


# The sum of changes

times = st.integers(0, 3)
some = st.sampled_from
changes = st.builds(
    Change,
    changed_at=times,
    connection_id=some(("c1", "c2")),
    change=some(("created", "set", "key_added", "key_expires", "secret_kept", "unknown")),
    workspace_id=some((None, "w1", "w2")),
    kind=some((None, "segment", "sendgrid", "of_a_later_version")),
    name=some((None, "one", "two")),
    calls_per_second=some((None, 1, 2)),
    topic_arn=some((None, "arn")),
    key_id=some((None, "k1", "k2")),
    key_salt=some((None, b"s1", b"s2")),
    key_hash=some((None, b"h1")),
    expires_at=st.none() | times,
)
histories = st.lists(changes, max_size=12)
WHOLE = [
    Change(0, "c1", "created", "w1", "segment", "one", 1),
    Change(0, "c2", "created", "w1", "sendgrid", "two", 1),
    Change(1, "c1", "key_added", "w1", key_id="k1", key_salt=b"s1", key_hash=b"h1"),
]


@given(histories, st.randoms(use_true_random=False), st.booleans())
def test_neither_order_nor_repetition_counts(history: list[Change], chance: random.Random, is_whole: bool) -> None:
    history = WHOLE * is_whole + history
    again = history + chance.choices(history, k=3) if history else []
    chance.shuffle(again)

    assert list(fold_changes(again).items()) == list(fold_changes(history).items())


@given(histories, times)
@example([Change(3, "c1", "key_expires", key_id="k1", expires_at=3)], 1)
@example([Change(3, "c1", "key_expires", key_id="k1", expires_at=9)], 4)
@example([Change(0, "c1", "created", None, "segment", "one", 1)], 0)
def test_a_revoked_key_stays_revoked(history: list[Change], ended_at: int) -> None:
    ended = Change(2, "c1", "key_expires", key_id="k1", expires_at=ended_at)

    for rows in ([ended, *WHOLE, *history], [*history, *WHOLE, ended]):
        # None if somebody else's creation came first: the key is of another workspace then, and opens nothing either.
        assert not any(key.is_valid(ended_at) for key in fold_changes(rows)["c1"].keys if key.key_id == "k1")
    assert [key.key_id for key in fold_changes([ended, *WHOLE])["c1"].keys] == ["k1"]


def test_a_second_creation_changes_nothing() -> None:
    second = Change(5, "c1", "created", "w2", "mailgun", "other", 9, topic_arn="arn")
    same_key = Change(5, "c1", "key_added", "w1", key_id="k1", key_salt=b"s2", key_hash=b"h2")
    key_of_another_workspace = Change(5, "c1", "key_added", "w2", key_id="k2", key_salt=b"s2", key_hash=b"h2")

    assert fold_changes([*WHOLE, second, same_key, key_of_another_workspace]) == fold_changes(WHOLE)


# Keys


def test_a_key_opens_what_it_was_made_for_and_is_nowhere_to_be_read() -> None:
    text, key = make_key(NOW)
    other_text, other = make_key(NOW)
    secret = text.split("_", 2)[2]

    assert find_key_id(text) == key.key_id
    assert is_key(text, key)
    assert not is_key(other_text, key)
    assert not is_key(text[:-1], key)
    assert not is_key(text, None)
    assert not is_key(text, msgspec.structs.replace(key, salt=other.salt))
    assert secret not in repr(key)
    assert hash_key(text, key.salt) == key.hash != hash_key(text, other.salt)


@pytest.mark.parametrize("text", ["", "sw_", "sw_0123456789ab_short", "SW_" + "0" * 56, "sw_0123456789AB_" + "x" * 43])
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert find_key_id(text) is None
    assert find_key_id(f"sw_0123456789ab_{'x' * 43}\n") is None


# What people do


def test_a_connection_is_made_with_one_key_that_is_not_kept(table: MemoryStore, store: ConnectionStore) -> None:
    connection, text = create(store, " Web site! ")

    assert connection.connection_id.startswith("web-site-")
    assert table.load() == {connection.connection_id: connection}
    assert [is_key(text, key) for key in connection.keys] == [True]
    assert text.split("_", 2)[2] not in repr(table.changes)


def test_a_rotated_key_ends_later_and_one_that_ends_sooner_still_does(store: ConnectionStore) -> None:
    connection, old = create(store)
    name = connection.connection_id

    rotate_key(store, name, NOW + 1, keep_seconds=3600)
    rotate_key(store, name, NOW + 2, keep_seconds=7200)

    first, second, third = find_connection(store, name).keys
    assert is_key(old, first)
    assert (first.expires_at, second.expires_at, third.expires_at) == (NOW + 1 + HOUR, NOW + 2 + 2 * HOUR, None)


def test_revoked_keys_end_at_once(store: ConnectionStore) -> None:
    name = create(store)[0].connection_id
    rotate_key(store, name, NOW + 1)
    first, second = find_connection(store, name).keys

    assert revoke_keys(store, name, NOW + 2, second.key_id) == [second.key_id]
    assert [key.is_valid(NOW + 2) for key in find_connection(store, name).keys] == [True, False]
    assert revoke_keys(store, name, NOW + 3) == [first.key_id]
    assert revoke_keys(store, name, NOW + 4) == []
    assert find_connection(store, name).is_revoked(NOW + 3)


def test_a_revoked_key_stays_so_where_the_clock_is_an_hour_behind(store: ConnectionStore) -> None:
    name = create(store)[0].connection_id
    rotate_key(store, name, NOW + HOUR, keep_seconds=3600)
    assert [key.is_valid(NOW) for key in find_connection(store, name).keys] == [True, True]

    revoke_keys(store, name, NOW + HOUR)

    assert find_connection(store, name).is_revoked(NOW)


class Rows:
    """A BigQuery whose table has these rows."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def get_table(self, table: str, **about: object) -> str:
        return table

    def list_rows(self, table: str, **about: object) -> list[dict[str, Any]]:
        return self.rows


def test_a_column_that_a_newer_version_has_added_changes_nothing() -> None:
    about = {"connection_id": "c1", "workspace_id": "acme", "kind": "segment", "name": "Shop", "calls_per_second": 9}
    row = {"changed_at": datetime.fromtimestamp(NOW / 1e6, UTC), "change": "created", **about, "colour": "red"}

    connections = ConnectionStore(cast(Client, Rows([row])), "p1.d").load()

    assert connections["c1"].calls_per_second == 9
    assert connections["c1"].created_at == NOW


def public_key(curve: ec.EllipticCurve) -> str:
    key = ec.generate_private_key(curve).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def test_what_webhooks_are_checked_with_is_checked_itself(store: ConnectionStore) -> None:
    key, arn = public_key(ec.SECP256R1()), "arn:aws:sns:us-east-1:123456789012:mail"

    sendgrid, _ = create(store, kind=ConnectionKind.SENDGRID, verification_key=f" {key}\n")
    amazon, _ = create(store, kind=ConnectionKind.AMAZON_SES, topic_arn=arn)

    assert (sendgrid.verification_key, amazon.topic_arn) == (key, arn)


@pytest.mark.parametrize(
    "asked",
    [
        {"name": " "},
        {"name": "x" * 81},
        {"name": "a\nb"},
        {"connection_id": "Web site"},
        {"connection_id": "x" * 64},
        {"connection_id": "taken"},
        {"calls_per_second": 0},
        {"calls_per_second": 1_000_001},
        {"verification_key": public_key(ec.SECP256R1())},
        {"kind": ConnectionKind.SENDGRID, "verification_key": "MFkw"},
        {"kind": ConnectionKind.SENDGRID, "verification_key": public_key(ec.SECP384R1())},
        {"kind": ConnectionKind.AMAZON_SES, "topic_arn": "arn"},
        {"topic_arn": "arn:aws:sns:us-east-1:123456789012:mail"},
    ],
    ids=lambda asked: "-".join(asked),
)
def test_what_cannot_be_is_refused_in_one_line(
    table: MemoryStore, store: ConnectionStore, asked: dict[str, Any]
) -> None:
    create(store, connection_id="taken")
    before = list(table.changes)

    with pytest.raises(RefusedConnectionError) as refused:
        create(store, **asked)

    assert len(str(refused.value).splitlines()) == 1
    assert table.changes == before


@pytest.mark.parametrize("workspace_id", ["", "a\tb", "é" * 513])
def test_a_workspace_has_to_fit_into_an_attribute_of_pubsub(store: ConnectionStore, workspace_id: str) -> None:
    with pytest.raises(RefusedConnectionError):
        create_connection(store, "Web site", workspace_id, ConnectionKind.SEGMENT, NOW)


def test_a_connection_that_is_not_there_or_has_no_such_key_is_told(store: ConnectionStore) -> None:
    create(store, connection_id="c1")
    for act in (
        lambda: rotate_key(store, "c2", NOW),
        lambda: revoke_keys(store, "c2", NOW),
        lambda: revoke_keys(store, "c1", NOW, "0" * 12),
    ):
        with pytest.raises(RefusedConnectionError):
            act()


def test_a_signing_secret_goes_to_the_secret_store_alone(
    table: MemoryStore, store: ConnectionStore, tmp_path: Path
) -> None:
    secrets = FolderStore(tmp_path / "secrets")
    create(store, connection_id="c1")
    create(store, connection_id="c2", kind=ConnectionKind.POSTMARK)

    keep_signing_secret(store, secrets, "c1", "the secret", NOW + SECOND)

    assert secrets.read(signing_secret_name("c1")) == "the secret"
    assert find_connection(store, "c1").secret_kept_at == NOW + SECOND
    assert "the secret" not in repr(table.changes)
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == [signing_secret_name("c1")]
    for name, secret in (("c2", "x"), ("c1", ""), ("c1", "a\nb"), ("c1", "x" * 513)):
        with pytest.raises(RefusedConnectionError):
            keep_signing_secret(store, secrets, name, secret, NOW)


def test_a_secret_that_cannot_be_written_leaves_the_old_one_and_no_part_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = FolderStore(tmp_path)
    secrets.write("name", "old")

    def fail(file: int) -> None:
        assert os.fstat(file).st_size == len("new")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(SecretStoreError, match="No space left on device"):
        secrets.write("name", "new")

    assert secrets.read("name") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


class SecretManager:
    """Answers as it is told; remembers how it was asked."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked: dict[str, object] = {}

    def access_secret_version(self, **about: object) -> secretmanager.AccessSecretVersionResponse:
        self.asked = about
        if isinstance(self.answer, Exception):
            raise self.answer
        return secretmanager.AccessSecretVersionResponse(payload={"data": self.answer})


@pytest.mark.parametrize(
    ("answer", "secret"), [(b"secret", "secret"), (NotFound("no"), None), (DeadlineExceeded("slow"), SecretStoreError)]
)
def test_secret_manager_is_not_waited_for(
    answer: bytes | Exception, secret: str | type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = SecretManager(answer)
    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", lambda: manager)
    secrets = open_secret_store("projects/p1")

    if secret is SecretStoreError:
        with pytest.raises(SecretStoreError, match=r"cannot be read \(DeadlineExceeded\)"):
            secrets.read("name")
    else:
        assert secrets.read("name") == secret
    path = "projects/p1/secrets/name/versions/latest"
    assert manager.asked == {"name": path, "timeout": READ_SECONDS, "retry": None}


# Rates

pauses = st.sampled_from((0.0, 1e-9, 0.1, 1 / 3, 1.0, 7.3)) | st.floats(0, 5)


@given(st.integers(1, 1000), st.lists(st.tuples(pauses, st.integers(0, 2500)), max_size=20), st.floats(0, 1e9))
@example(10, [(0.0, 1), (5.0, 10), *[(0.0, 10)] * 5], 0.0)
def test_no_more_pass_than_the_rate_a_second_and_one_batch(
    rate: int, history: list[tuple[float, int]], start: float
) -> None:
    bucket, now = Bucket(rate, start), start
    largest = max((calls for _, calls in history), default=0)
    passed = [(start, 0)]
    for pause, calls in history:
        now += pause
        if bucket.take(calls, rate, now) == 0:
            passed.append((now, calls))

        for since, _ in passed:
            in_between = sum(count for at, count in passed if since <= at)
            assert in_between <= rate * (now - since) + rate + largest + 1e-3


@given(st.integers(1, 1000), st.lists(st.tuples(pauses, st.integers(1, 2500)), max_size=9), st.floats(0, 1e9))
@example(1, [(0.4, 340)], 16101.3)
def test_who_comes_back_when_told_to_passes(rate: int, history: list[tuple[float, int]], start: float) -> None:
    bucket, now = Bucket(rate, start), start
    for pause, calls in history:
        now += pause
        bucket.take(calls, rate, now)

    if wait := bucket.take(1, rate, now):
        assert bucket.take(1, rate, now + wait) == 0
