"""The same job as one loop of plain Python: what it costs when there is no Beam, no second worker and no retry.

A typed decoder, a set of the messageIds, components in dicts, and Arrow batches that get their person at the end.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.check_calls import find_fault, to_micros
from benchmarks.name_persons import Claim, Node, name_person
from benchmarks.shape_columns import (
    FACT_TABLES,
    FACTS,
    audience_values,
    caller_email,
    caller_values,
    context_values,
    event_values,
    organisation_values,
    person_values,
    schema_of,
)
from schemas.rejections import Reason

WORKSPACE = "default"
_ROWS_A_BATCH = 20_000
_NEEDED = {"track": "event", "group": "group_id", "alias": "previous_id"}
_EMPTY = msgspec.Raw(b"{}")

Link: TypeAlias = tuple[str | None, str | None, str | None, str | None]
"""user_id, email, anonymous_id and previousId of a call."""


class Call(msgspec.Struct, rename="camel", gc=False):
    """The fields of a call that are read."""

    type: str
    message_id: str
    timestamp: datetime
    sent_at: datetime
    received_at: datetime
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    properties: msgspec.Raw = _EMPTY
    traits: msgspec.Raw = _EMPTY
    context: msgspec.Raw = _EMPTY


class Typed(msgspec.Struct, gc=False):
    """What is counted of a call that is rejected."""

    type: str


_decode_call = msgspec.json.Decoder(Call).decode
_decode_typed = msgspec.json.Decoder(Typed).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_any = msgspec.json.Decoder().decode


class Rows:
    """The rows of one table, in Arrow batches; their persons are added when all are known."""

    def __init__(self, table: str) -> None:
        self._schema = schema_of(table)
        self._pending: list[tuple[Any, ...]] = []
        self._callers: list[Node] = []
        self._batches: list[list[pa.Array]] = []

    def add(self, row: tuple[Any, ...], caller: Node) -> None:
        """One row, without its person."""
        self._pending.append(row)
        self._callers.append(caller)
        if len(self._pending) >= _ROWS_A_BATCH:
            self._pack()

    def finish(self, persons: dict[Node, str]) -> pa.Table:
        """All rows."""
        self._pack()
        callers = iter(self._callers)
        batches = []
        for columns in self._batches:
            person_ids = pa.array([persons.get(next(callers)) for _ in range(len(columns[0]))], pa.string())
            batches.append(pa.RecordBatch.from_arrays([*columns, person_ids], schema=self._schema))
        return pa.Table.from_batches(batches, schema=self._schema)

    def _pack(self) -> None:
        if self._pending:
            columns = zip(*self._pending, strict=True)
            fields = list(self._schema)[:-1]
            self._batches.append([pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)])
            self._pending = []


class Job:
    """One pass over the lines, and what it gathers."""

    def __init__(self) -> None:
        self._rows = {table: Rows(table) for table in FACTS}
        self._seen: set[str] = set()
        self._links: dict[Link, int] = {}
        self._dead_letters: list[tuple[str, str, bytes]] = []
        self._without_email: list[tuple[Call, bytes, Node]] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def take(self, line: bytes) -> None:
        """One line."""
        call = _read_call(line)
        if isinstance(call, Reason):
            self._reject(call, line)
            return
        if call.message_id in self._seen:
            self._counts[call.type, "duplicate"] += 1
            return
        self._seen.add(call.message_id)
        context, traits = _decode_object(call.context), _decode_object(call.traits)
        email = caller_email(call.type, context, traits)
        caller = caller_values(call.user_id, email, call.anonymous_id)
        happened = to_micros(call.timestamp)
        if call.user_id is not None or email is not None:
            previous_id = call.previous_id if call.type == "alias" else None
            link = call.user_id, email, call.anonymous_id, previous_id
            self._links[link] = min(happened, self._links.get(link, happened))
        if call.type == "identify" and email is None:
            self._without_email.append((call, line, caller))
        else:
            self._write(call, caller, context, traits)

    def finish(self, output: Path) -> None:
        """Find the persons, then write the tables."""
        persons = find_persons(self._links)
        for call, line, caller in self._without_email:
            if caller in persons:
                self._write(call, caller, _decode_object(call.context), _decode_object(call.traits))
            else:
                self._reject(Reason.IDENTIFY_WITHOUT_EMAIL, line)
        for table, rows in self._rows.items():
            _write_table(output, table, rows.finish(persons))
        identities = [(WORKSPACE, *node, person_id) for node, person_id in persons.items()]
        _write_table(output, "identities", _make_table("identities", identities))
        _write_table(output, "dead_letters", _make_table("dead_letters", self._dead_letters))
        counts = [(WORKSPACE, *key, count) for key, count in self._counts.items()]
        _write_table(output, "counts", _make_table("counts", counts))

    def _reject(self, reason: Reason, line: bytes) -> None:
        self._dead_letters.append((WORKSPACE, reason.value, line))
        self._counts[_peek_type(line), "rejected"] += 1

    def _write(self, call: Call, caller: Node, context: dict[str, Any], traits: dict[str, Any]) -> None:
        self._counts[call.type, "written"] += 1
        table = FACT_TABLES[call.type]
        head = (WORKSPACE, call.message_id, *caller, call.user_id, call.anonymous_id)
        happened, received = to_micros(call.timestamp), to_micros(call.received_at)
        common = (*head, happened, to_micros(call.sent_at), received)
        text = bytes(call.context).decode()
        own: tuple[Any, ...]
        if table == "activities":
            about = event_values(call.type, call.event, call.name, call.category)
            own = (*about, bytes(call.properties).decode(), text, *context_values(context))
        elif table == "identifies":
            own = (bytes(call.traits).decode(), *person_values(traits), text, *context_values(context))
        elif table == "group_identifies":
            own = (call.group_id, bytes(call.traits).decode(), *organisation_values(traits))
            own += (text, *context_values(context))
        else:
            own = (call.previous_id, text)
        self._rows[table].add(common + own, caller)
        if "personas" in context:
            body = traits or _decode_object(call.properties)
            audience = audience_values(context, body)
            if audience is not None:
                self._rows["audience_memberships"].add((*head, happened, received, *audience), caller)


def find_persons(links: dict[Link, int]) -> dict[Node, str]:
    """Whose each identifier is, from the links and when each was seen first.

    Components as lists of members: where two meet, the smaller list moves into the larger.
    """
    members: dict[Node, list[Node]] = {}
    first_seen: dict[str, int] = {}
    claims: dict[str, Claim] = {}

    def unite(one: Node, other: Node) -> None:
        large, small = members[one], members[other]
        if large is small:
            return
        if len(large) < len(small):
            large, small = small, large
        large += small
        for node in small:
            members[node] = large

    for (user_id, email, anonymous_id, previous_id), timestamp in links.items():
        user, mail = ("user_id", user_id or ""), ("email", email or "")
        if user_id is not None:
            members.setdefault(user, [user])
        if email is not None:
            members.setdefault(mail, [mail])
            first_seen[email] = min(timestamp, first_seen.get(email, timestamp))
        if user_id is not None and email is not None:
            unite(user, mail)
        claim = (timestamp, 1, mail) if user_id is None else (timestamp, 0, user)
        for claimed in (anonymous_id, previous_id):
            if claimed is not None:
                claims[claimed] = min(claim, claims.get(claimed, claim))
    for user_id, _, _, previous_id in links:
        if user_id is not None and previous_id is not None and ("user_id", previous_id) in members:
            unite(("user_id", previous_id), ("user_id", user_id))
    persons: dict[Node, str] = {}
    for email in sorted(first_seen, key=lambda email: (first_seen[email], email)):
        if ("email", email) not in persons:
            persons |= dict.fromkeys(members["email", email], name_person(WORKSPACE, email))
    for anonymous_id, (_, _, owner) in claims.items():
        if owner in persons:
            persons["anonymous_id", anonymous_id] = persons[owner]
    return persons


def _read_call(line: bytes) -> Call | Reason:
    try:
        call = _decode_call(line)
    except msgspec.ValidationError:
        return find_fault(_decode_any(line)) or Reason.BAD_REQUEST
    except msgspec.DecodeError:
        return Reason.BAD_REQUEST
    if not (call.user_id or call.anonymous_id) or call.user_id == "" or call.type not in FACT_TABLES:
        return find_fault(_decode_any(line)) or call
    needed = _NEEDED.get(call.type)
    if needed is not None and not getattr(call, needed):
        return find_fault(_decode_any(line)) or call
    return call


def _peek_type(line: bytes) -> str:
    try:
        call_type = _decode_typed(line).type
    except msgspec.DecodeError:
        return "unknown"
    return call_type if call_type in FACT_TABLES else "unknown"


def _make_table(table: str, rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    schema = schema_of(table)
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _write_table(output: Path, table: str, rows: pa.Table) -> None:
    (output / table).mkdir(parents=True)
    pq.write_table(rows, output / table / "part.parquet", compression="zstd")


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain_loop", description=__doc__)
    parser.add_argument("calls", type=Path, metavar="CALLS.jsonl", help="what benchmarks.generate_calls has written")
    parser.add_argument("output", type=Path, metavar="DIR", help="where the Parquet files go, a folder a table")
    arguments = parser.parse_args(argv)
    job = Job()
    with arguments.calls.open("rb") as lines:
        for line in lines:
            job.take(line.rstrip(b"\n"))
    job.finish(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
