"""Erasing one person from a dataset: who that is, which rows go, and what is suppressed from then on.

The rows that go are those of the calls that are suppressed from then on: all that carry an identifier of the person.
Everything can be done again after a crash at any point. What tells who the person is goes last, the audit row follows,
and the request itself ends it.
"""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from google.cloud import bigquery

from schemas.identities import IdentifierType
from schemas.identity_rules import IdentityRules
from scripts.create_tables import RETRY
from scripts.publish_all import publish_all
from scripts.rows_of_person import CANDIDATES, CARRIES, COUNTS_FOR, LETTER, OF_PERSON, ROWS
from scripts.search_payload import PayloadSearch
from transforms.logic.suppress_calls import hash_identifier

# Namespaces of our ids. Never change them: a second run would suppress and record everything once more.
_ERASURE_NAMESPACE = uuid.UUID("0f3d5b0c-8e0c-5c44-9a53-3d1c2b6a7e55")
_MESSAGE_NAMESPACE = uuid.UUID("9b7c3c52-4a3e-5a0e-8d7e-6f1f0d2e4b66")


class Request(NamedTuple):
    """Somebody asked that a person be erased."""

    workspace_id: str
    identifiers: tuple[tuple[str, str], ...]
    """Type and value; the first one tells the person. None if all that the request carries is blocked."""
    requested_at: datetime
    message_id: str | None = None
    """Of the delete call; None if it was scripts/erase."""

    def make_erasure_id(self) -> str:
        """The same for the same delete call, so that a second run finishes the first; else a new one."""
        if self.message_id is None:
            return str(uuid.uuid4())
        return str(uuid.uuid5(_ERASURE_NAMESPACE, f"{self.workspace_id}\n{self.message_id}"))


@dataclass(frozen=True)
class Person:
    """Everything by which a person is known."""

    workspace_id: str
    identifiers: frozenset[tuple[str, str]]
    person_ids: frozenset[str]
    """Today's, and those that were merged into it. Our email events carry it as the anonymousId."""

    def values(self, identifier_type: str) -> list[str]:
        """The identifiers of one type, sorted."""
        return sorted(identifier for kind, identifier in self.identifiers if kind == identifier_type)

    @property
    def hashes(self) -> list[str]:
        """What is suppressed."""
        return sorted(hash_identifier(self.workspace_id, *identifier) for identifier in self.identifiers)


class Erased(NamedTuple):
    """What an erasure did, or would do."""

    identifiers: int
    rows: dict[str, int]
    """Table -> rows, without the tables that had none."""


class Eraser:
    """Finds and erases persons in one dataset. Raises Google's exceptions; `erase` may then be called again."""

    def __init__(self, client: bigquery.Client, dataset: str, rules: IdentityRules, topic: str | None = None) -> None:
        self._client = client
        self._dataset = dataset
        self._rules = rules
        self._topic = topic

    def find_requests(self, workspace_id: str | None) -> list[Request]:
        """The delete calls that were not carried out yet, of one workspace or of all, oldest first.

        The user_id of a call that counts for another identifier is blocked, or tied to it in the graph. An anonymousId
        comes along, since the call says that it is theirs.
        """
        rows = self._ask(
            """
SELECT workspace_id, message_id, identifier_type, identifier, anonymous_id, MIN(received_at) AS received_at
FROM `{dataset}.erasure_requests`
WHERE @workspace_id IS NULL OR workspace_id = @workspace_id
GROUP BY workspace_id, message_id, identifier_type, identifier, anonymous_id
ORDER BY received_at, workspace_id, message_id
""",
            workspace_id=workspace_id,
        )
        return [
            Request(row["workspace_id"], tuple(self._requested(row)), row["received_at"], row["message_id"])
            for row in rows
        ]

    def _requested(self, row: Any) -> Iterable[tuple[str, str]]:
        if row["identifier"] is None:
            return
        yield row["identifier_type"], row["identifier"]
        anonymous_id = row["anonymous_id"]
        if anonymous_id is not None and anonymous_id != row["identifier"] and not self._rules.is_blocked(anonymous_id):
            yield IdentifierType.ANONYMOUS_ID.value, anonymous_id

    def find_person(self, request: Request) -> Person:
        """Whom the request means: the person of its first identifier, whole.

        Its other identifiers come along unless they are another person's today: an anonymousId of a shared device is
        not the whole of whoever used it first.
        """
        asked = Person(request.workspace_id, frozenset(request.identifiers), frozenset())
        owners = {
            (row["identifier_type"], row["identifier"]): row["person_id"]
            for row in self._ask_person(
                "SELECT identifier_type, identifier, person_id FROM `{dataset}.current_identities` "
                f"WHERE workspace_id = @workspace_id AND {COUNTS_FOR}",
                asked,
            )
        }
        owner = owners.get(request.identifiers[0]) if request.identifiers else None
        person_ids = self._find_merged({owner} if owner is not None else set(), request.workspace_id)
        own = {identifier for identifier in request.identifiers if owners.get(identifier, owner) == owner}
        linked = self._ask(
            "SELECT identifier_type, identifier FROM `{dataset}.current_identities` "
            f"WHERE workspace_id = @workspace_id AND {OF_PERSON}",
            workspace_id=request.workspace_id,
            person_ids=sorted(person_ids),
        )
        own |= {(row["identifier_type"], row["identifier"]) for row in linked}
        own = {identifier for identifier in own if not self._rules.is_blocked(identifier[1])}
        own |= {(IdentifierType.ANONYMOUS_ID.value, person_id) for person_id in person_ids}
        return Person(request.workspace_id, frozenset(own), frozenset(person_ids))

    def _find_merged(self, person_ids: set[str], workspace_id: str) -> set[str]:
        """These persons and all that were merged into them, one after the other.

        Unless today's rows say since then that it is a person after all: a merge may have been undone.
        """
        found, new = set(person_ids), set(person_ids)
        while new:
            rows = self._ask(
                "SELECT DISTINCT from_person_id FROM `{dataset}.identity_merges` AS merges "
                "WHERE workspace_id = @workspace_id AND reason = 'merged' AND from_person_id IS NOT NULL "
                f"AND into_{OF_PERSON} AND NOT EXISTS ("
                "SELECT 1 FROM `{dataset}.current_identities` AS today WHERE today.workspace_id = merges.workspace_id "
                "AND today.person_id = merges.from_person_id AND today.updated_at > merges.recorded_at)",
                workspace_id=workspace_id,
                person_ids=sorted(new),
            )
            new = {row["from_person_id"] for row in rows} - found
            found |= new
        return found

    def count(self, request: Request) -> Erased:
        """What `erase` would remove."""
        person = self.find_person(request)
        rows = {
            table: self._count(table, f"workspace_id = @workspace_id AND ({condition})", person)
            for table, condition in ROWS.items()
        }
        rows["dead_letters"] = len(self._find_letters(person).rows)
        rows["erasure_requests"] = self._count("erasure_requests", self._requests(request), person, request)
        return Erased(len(person.identifiers), {table: count for table, count in rows.items() if count})

    def erase(self, request: Request) -> Erased:
        """Suppress, remove, record; finishes what an interrupted run has begun."""
        person = self.find_person(request)
        erasure_id = request.make_erasure_id()
        self._suppress(person, erasure_id)
        rows = {"dead_letters": self._erase_letters(person)}
        for table, condition in ROWS.items():
            rows[table] = self._delete(table, f"workspace_id = @workspace_id AND ({condition})", person)
        rows["erasure_requests"] = self._count("erasure_requests", self._requests(request), person, request)
        erased = Erased(len(person.identifiers), {table: count for table, count in rows.items() if count})
        self._record(request, person, erasure_id, erased)
        # After the record: without the request nobody would know that the record is missing.
        self._delete("erasure_requests", self._requests(request), person, request)
        return erased

    def _requests(self, request: Request) -> str:
        """Which rows of `erasure_requests` end with this one: a delete call's own, since each gets its audit row."""
        return (
            f"workspace_id = @workspace_id AND {CARRIES if request.message_id is None else 'message_id = @message_id'}"
        )

    def _suppress(self, person: Person, erasure_id: str) -> None:
        now = datetime.now(UTC).isoformat()
        messages = [
            {
                "type": "suppress",
                "messageId": str(uuid.uuid5(_MESSAGE_NAMESPACE, f"{person.workspace_id}\n{identifier_hash}")),
                "timestamp": now,
                "identifierHash": identifier_hash,
                "erasureId": erasure_id,
            }
            for identifier_hash in person.hashes
        ]
        if self._topic is None:
            self._insert_suppressions(person.workspace_id, messages)
        else:
            _publish(self._topic, messages, person.workspace_id)

    def _insert_suppressions(self, workspace_id: str, messages: list[dict[str, str]]) -> None:
        """What a running pipeline would write of them, without those that are there."""
        known = {
            row["identifier_hash"]
            for row in self._ask(
                "SELECT identifier_hash FROM `{dataset}.suppressions` "
                "WHERE workspace_id = @workspace_id AND identifier_hash IN UNNEST(@hashes)",
                workspace_id=workspace_id,
                hashes=[message["identifierHash"] for message in messages],
            )
        }
        self._insert(
            "suppressions",
            [
                {
                    "workspace_id": workspace_id,
                    "message_id": message["messageId"],
                    "identifier_hash": message["identifierHash"],
                    "erasure_id": message["erasureId"],
                    "timestamp": message["timestamp"],
                    "received_at": message["timestamp"],
                }
                for message in messages
                if message["identifierHash"] not in known
            ],
        )

    def _record(self, request: Request, person: Person, erasure_id: str, erased: Erased) -> None:
        recorded = self._ask(
            "SELECT 1 FROM `{dataset}.erasures` WHERE workspace_id = @workspace_id AND erasure_id = @erasure_id",
            workspace_id=request.workspace_id,
            erasure_id=erasure_id,
        )
        if recorded:
            return
        row = {
            "erasure_id": erasure_id,
            "workspace_id": request.workspace_id,
            "requested_at": request.requested_at.isoformat(),
            "erased_at": datetime.now(UTC).isoformat(),
            "requested_by": "scripts/erase" if request.message_id is None else "delete_call",
            "message_id": _without_identifiers(request.message_id, person),
            "identifiers": erased.identifiers,
            "rows_removed": sum(erased.rows.values()),
            "rows_removed_by_table": json.dumps(erased.rows),
        }
        self._insert("erasures", [{column: value for column, value in row.items() if value is not None}])

    # Dead letters

    def _erase_letters(self, person: Person) -> int:
        found = self._find_letters(person)
        if not found.letters:
            return 0
        return self._run(
            "DELETE FROM `{dataset}.dead_letters` "
            f"WHERE workspace_id = @workspace_id AND {LETTER} IN UNNEST(@letters)",
            workspace_id=person.workspace_id,
            letters=found.letters,
        )

    def _find_letters(self, person: Person) -> "_Letters":
        search = PayloadSearch(person.identifiers)
        rows = self._ask(CANDIDATES, workspace_id=person.workspace_id, needles=search.needles, backslash="\\")
        by_letter: dict[str, list[Any]] = {}
        for row in rows:
            by_letter.setdefault(row["letter"], []).append(row)
        found = _Letters([], [])
        for letter, parts in by_letter.items():
            payload = b"".join({row["part"]: row["payload"] for row in parts}.values())  # a part may stand there twice
            if any(search.is_held(payload, _attributes(row)) for row in parts):
                found.letters.append(letter)
                found.rows.extend(parts)
        return found

    # BigQuery

    def _count(self, table: str, condition: str, person: Person, request: Request | None = None) -> int:
        rows = self._ask_person(f"SELECT COUNT(*) AS n FROM `{{dataset}}.{table}` WHERE {condition}", person, request)
        count: int = rows[0]["n"]
        return count

    def _delete(self, table: str, condition: str, person: Person, request: Request | None = None) -> int:
        parameters = _parameters_of(person, request)
        return self._run(f"DELETE FROM `{{dataset}}.{table}` WHERE {condition}", **parameters)

    def _ask_person(self, sql: str, person: Person, request: Request | None = None) -> list[Any]:
        return self._ask(sql, **_parameters_of(person, request))

    def _ask(self, sql: str, **parameters: str | Sequence[str] | None) -> list[Any]:
        return list(self._query(sql, parameters))

    def _run(self, sql: str, **parameters: str | Sequence[str] | None) -> int:
        return self._query(sql, parameters).num_dml_affected_rows or 0

    def _query(self, sql: str, parameters: dict[str, str | Sequence[str] | None]) -> Any:
        config = bigquery.QueryJobConfig(
            query_parameters=[
                bigquery.ScalarQueryParameter(name, "STRING", value)
                if value is None or isinstance(value, str)
                else bigquery.ArrayQueryParameter(name, "STRING", list(value))
                for name, value in parameters.items()
                if f"@{name}" in sql
            ]
        )
        return self._client.query_and_wait(
            sql.format(dataset=self._dataset), job_config=config, retry=RETRY, job_retry=RETRY
        )

    def _insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        errors = self._client.insert_rows_json(f"{self._dataset}.{table}", rows, retry=RETRY)
        if errors:
            raise RowsRefusedError(f"BigQuery refused rows of {table}: is it as scripts/create_tables makes it?")


class RowsRefusedError(Exception):
    """BigQuery would not take a row of ours; in one line."""


class _Letters(NamedTuple):
    letters: list[str]
    rows: list[Any]


def _parameters_of(person: Person, request: Request | None) -> dict[str, str | Sequence[str] | None]:
    return {
        "workspace_id": person.workspace_id,
        "user_ids": person.values(IdentifierType.USER_ID),
        "anonymous_ids": person.values(IdentifierType.ANONYMOUS_ID),
        "emails": person.values(IdentifierType.EMAIL),
        "person_ids": sorted(person.person_ids),
        "message_id": request.message_id if request else None,
    }


def _attributes(row: Any) -> dict[str, Any]:
    attributes = json.loads(row["attributes"] or "{}")
    return attributes if isinstance(attributes, dict) else {}


def _without_identifiers(message_id: str | None, person: Person) -> str | None:
    """The messageId, unless somebody has built it from who they are."""
    if message_id is None or any(value.lower() in message_id.lower() for _, value in person.identifiers):
        return None
    return message_id


def _publish(topic: str, messages: list[dict[str, str]], workspace_id: str) -> None:
    publish_all(topic, [(json.dumps(message).encode(), {"workspace_id": workspace_id}) for message in messages])
