"""Who is who does not depend on how the calls arrive: bounded input, a stream and the slow oracle agree."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.calls import SegmentCall
from schemas.identities import KnownIdentity, Node, PriorBlock, WarehousePerson
from schemas.identity_facts import Merge, RefusedLink
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.rows import row_values
from tests.factories import call
from tests.unit.graph_stream import GraphStream
from tests.unit.identity_histories import (
    ANONYMOUS,
    HISTORIES,
    NO_LIMITS,
    RULES,
    TIGHT_RULES,
    WAREHOUSES,
    as_known,
    links_of,
    persons_of,
    refusals_of,
    resolve_bounded,
    some_calls,
    split_histories,
    without_workspace,
)
from tests.unit.identity_oracle import Identifier, Loss, Refusal, find_losses, first_calls, resolve

MANY = 100

Split = tuple[list[SegmentCall], list[list[SegmentCall]]]

streams: st.SearchStrategy[dict[str, object]] = st.builds(dict, middle_hops=st.integers(0, 2), rebuilds=st.booleans())

RENAMED = [call(email="e1@x", anonymous_id="a1", at=2), call(email="e2@x", at=1)]


class Watched(GraphStream):
    """A stream whose every row is judged as it is written."""

    def __init__(self, rules: IdentityRules = NO_LIMITS, **how: object) -> None:
        super().__init__(rules, **how)  # type: ignore[arg-type]
        self.rules = rules
        self.told: list[SegmentCall] = []
        self.known: dict[Node, tuple[str | None, int]] = {}

    def hear(self, calls: Sequence[SegmentCall], prior: PriorBlock | None = None) -> None:
        self.told += calls
        if prior is not None:
            for identity in prior.known:
                node = identity.workspace_id, identity.identifier_type, identity.identifier
                self.known[node] = identity.person_id, identity.version
        written = len(self.rows)
        self.learn("w1", links_of(calls, self.rules), prior)
        for row in self.rows[written:]:
            before, version = self.known.get(row.node, (None, -1))

            assert row.person_id != before, "written again without a change, or taken back without having been given"
            assert row.version > version

            self.known[row.node] = row.person_id, row.version

    def current(self) -> dict[Identifier, str]:
        return without_workspace({node: person for node, (person, _) in self.known.items() if person is not None})

    def accepted(self) -> set[tuple[str, str]]:
        """The user_ids and emails that met and that nobody refused."""
        refused = {frozenset((refusal.node[1:], refusal.partner[1:])) for refusal in self.refusals}
        return {
            (user, email)
            for user, email in first_calls(self.told, self.rules)
            if frozenset((("user_id", user), ("email", email))) not in refused
        }


def as_refusals(refusals: Sequence[RefusedLink]) -> list[Refusal]:
    return [
        Refusal((refusal.node[1], refusal.node[2]), (refusal.partner[1], refusal.partner[2]), *refusal.cause)
        for refusal in refusals
    ]


def losses_of(merges: Sequence[Merge]) -> set[Loss]:
    return {
        Loss(merge.from_person_id, merge.into_person_id, (merge.identifier_type, merge.identifier), merge.cause[1])
        for merge in merges
    }


# Below the limits


@settings(max_examples=MANY)
@given(HISTORIES, RULES)
def test_bounded_input_is_what_the_contract_says(history: list[SegmentCall], rules: IdentityRules) -> None:
    resolved = resolve_bounded(history, rules, version=7)
    rows = [row_values("identities", row) for row in resolved.identities]

    assert persons_of(resolved) == resolve(history, rules).persons
    assert {(row["identifier_type"], row["identifier"]): row["person_id"] for row in rows} == persons_of(resolved)
    assert len(rows) == len(persons_of(resolved))
    assert {row["version"] for row in rows} <= {7}


def check_stream(split: Split, rules: IdentityRules, how: dict[str, object]) -> Watched:
    history, windows = split
    stream = Watched(rules, **how)
    for window in windows:
        stream.hear(window)

        assert stream.current() == resolve(stream.told, rules).persons

    assert stream.current() == persons_of(resolve_bounded(history, rules))
    return stream


@settings(max_examples=MANY)
@given(split_histories(), RULES, streams)
@example((RENAMED, [RENAMED[:1], RENAMED[1:]]), NO_LIMITS, {})
def test_no_order_no_repeat_and_no_split_changes_a_person(
    split: Split, rules: IdentityRules, how: dict[str, object]
) -> None:
    """Neither how far the hops reach, nor whether a step remembers or reads its log."""
    check_stream(split, rules, how)


@pytest.mark.slow
@settings(max_examples=700)
@given(split_histories(some_calls(50)), RULES, streams)
def test_no_order_no_repeat_and_no_split_changes_a_person_in_many_histories(
    split: Split, rules: IdentityRules, how: dict[str, object]
) -> None:
    check_stream(split, rules, how)


@settings(max_examples=50)
@given(split_histories(), RULES, streams)
def test_what_is_told_twice_changes_nothing(split: Split, rules: IdentityRules, how: dict[str, object]) -> None:
    stream = check_stream(split, rules, how)
    rows, merges, refusals = len(stream.rows), len(stream.merges), len(stream.refusals)
    for window in reversed(split[1]):
        stream.hear(window)

    assert (len(stream.rows), len(stream.merges), len(stream.refusals)) == (rows, merges, refusals)


@settings(max_examples=50)
@given(HISTORIES, RULES)
def test_persons_are_the_same_in_one_window_and_in_one_a_call(history: list[SegmentCall], rules: IdentityRules) -> None:
    one, many = Watched(rules), Watched(rules)
    one.hear(history)
    for each in history:
        many.hear([each])

    assert one.current() == many.current()
    assert one.merges == []
    assert all(row.person_id is not None for row in one.rows)


# Over the limits


@settings(max_examples=MANY)
@given(HISTORIES, TIGHT_RULES)
def test_bounded_input_refuses_what_the_contract_says(history: list[SegmentCall], rules: IdentityRules) -> None:
    answer, resolved = resolve(history, rules), resolve_bounded(history, rules)

    assert persons_of(resolved) == answer.persons
    assert len(refusals_of(resolved)) == len(answer.refused)
    assert set(refusals_of(resolved)) == answer.refused


@settings(max_examples=MANY)
@given(HISTORIES, TIGHT_RULES, streams)
def test_a_stream_of_one_window_refuses_the_same(
    history: list[SegmentCall], rules: IdentityRules, how: dict[str, object]
) -> None:
    stream, answer = Watched(rules, **how), resolve(history, rules)
    stream.hear(history)

    assert stream.current() == answer.persons
    assert len(stream.refusals) == len(answer.refused)
    assert set(as_refusals(stream.refusals)) == answer.refused


@settings(max_examples=MANY)
@given(split_histories(), TIGHT_RULES, streams)
def test_a_stream_of_many_windows_keeps_to_the_limits(
    split: Split, rules: IdentityRules, how: dict[str, object]
) -> None:
    stream = Watched(rules, **how)
    for window in split[1]:
        stream.hear(window)
        accepted, met = stream.accepted(), first_calls(stream.told, rules)
        refused = as_refusals(stream.refusals)

        for kind, limit, place in (("user_id", rules.emails_per_user_id, 0), ("email", rules.user_ids_per_email, 1)):
            for value in {pair[place] for pair in met}:
                partners = {pair[1 - place] for pair in accepted if pair[place] == value}
                refusals = [each for each in refused if each.refusing == (kind, value)]
                assert len(partners) <= limit
                assert len({each.refused for each in refusals}) == len(refusals), "refused twice"
                # A node refuses nobody before it has admitted as many as it may.
                assert len(refusals) == max(0, len([pair for pair in met if pair[place] == value]) - limit)
        assert stream.current() == resolve(stream.told, rules, accepted=accepted).persons


@settings(max_examples=MANY)
@given(split_histories(), TIGHT_RULES)
def test_a_link_once_accepted_stays_and_one_refused_too(split: Split, rules: IdentityRules) -> None:
    stream = Watched(rules)
    accepted: set[tuple[str, str]] = set()
    for window in split[1]:
        stream.hear(window)

        assert accepted <= stream.accepted()

        accepted = stream.accepted()
    refusals = list(stream.refusals)
    for window in split[1]:
        stream.hear(window)

    assert (stream.accepted(), stream.refusals) == (accepted, refusals)


# Stability


@st.composite
def later_calls(draw: st.DrawFn) -> list[SegmentCall]:
    later = draw(some_calls(6))
    for one in later:
        one.timestamp += 100
    return later


def fields_of(one: SegmentCall) -> dict[str, object]:
    fields = ("user_id", "email", "anonymous_id", "previous_id")
    return {field: getattr(one, field) for field in fields}


@settings(max_examples=MANY)
@given(HISTORIES, later_calls(), TIGHT_RULES | st.just(NO_LIMITS))
def test_who_is_a_person_stays_one_or_becomes_an_older_one(
    history: list[SegmentCall], later: list[SegmentCall], rules: IdentityRules
) -> None:
    before, after = resolve_bounded(history, rules), resolve_bounded([*history, *later], rules)
    names = resolve([*history, *later], rules).named

    for identifier, person_id in persons_of(before).items():
        assert identifier in persons_of(after)
        if persons_of(after)[identifier] != person_id:
            assert names[identifier] < resolve(history, rules).named[identifier]
            assert persons_of(after)[identifier] in persons_of(before).values()


new_to_one = st.builds(
    lambda place, fields: {name: value.format(place) for name, value in fields.items()},
    st.integers(0, 3),
    st.sampled_from(
        (
            {"user_id": "new{}", "email": "known"},
            {"user_id": "known", "email": "new{}@x"},
            {"user_id": "known", "anonymous_id": "new{}"},
            {"user_id": "known", "previous_id": "new{}"},
            {"user_id": "new{}", "previous_id": "known"},
        )
    ),
)


@settings(max_examples=MANY)
@given(HISTORIES.filter(bool), new_to_one, st.data())
def test_new_identifiers_that_are_seen_later_change_no_person(
    history: list[SegmentCall], added: dict[str, str], data: st.DataObject
) -> None:
    kind = next(name for name, value in added.items() if value == "known")
    known_values = {value for kind_, value in resolve(history).persons if kind_ == kind.replace("previous", "user")}
    if not known_values:
        return
    fields = {**dict.fromkeys(("user_id", "email")), **added, kind: data.draw(st.sampled_from(sorted(known_values)))}
    later = call("later", at=100, **fields)

    assert persons_of(resolve_bounded([*history, later])).items() >= persons_of(resolve_bounded(history)).items()


# The history of merges


@settings(max_examples=MANY)
@given(HISTORIES, WAREHOUSES, TIGHT_RULES | st.just(NO_LIMITS))
def test_bounded_input_tells_each_person_id_that_was_lost(
    history: list[SegmentCall], warehouse: list[WarehousePerson], rules: IdentityRules
) -> None:
    resolved = resolve_bounded(history, rules, PriorBlock(warehouse))
    rows = [row_values("identity_merges", row) for row in resolved.merges]
    merged = [row for row in rows if row["reason"] == "merged"]

    losses = {
        Loss(
            row["from_person_id"], row["into_person_id"], (row["identifier_type"], row["identifier"]), row["timestamp"]
        )
        for row in merged
    }

    assert losses == find_losses(history, rules, warehouse)
    assert len(merged) == len(losses)
    for row in merged:
        assert row["message_id"] in {one.message_id for one in history if one.timestamp == row["timestamp"]}


def check_merges(stream: Watched, windows: Sequence[Sequence[SegmentCall]], prior: PriorBlock | None = None) -> None:
    carried: dict[Identifier, set[str]] = {}
    latest: dict[str, str] = {}
    recorded: dict[str, int] = {}
    for number, window in enumerate(windows):
        before, written = stream.current(), len(stream.merges)
        stream.hear(window, prior if number == 0 else None)
        today = stream.current()
        for merge in stream.merges[written:]:
            assert latest.get(merge.from_person_id) != merge.into_person_id, "the same merge again"
            assert merge.recorded_at > recorded.get(merge.from_person_id, -1)

            latest[merge.from_person_id] = merge.into_person_id
            recorded[merge.from_person_id] = merge.recorded_at
            causes = {(one.message_id, one.timestamp): one for one in stream.told}
            if merge.cause[0] or prior is None:
                mentioned = persons_of_call(causes[merge.cause], today)
                assert merge.into_person_id in mentioned
        for identifier, person_id in today.items():
            if identifier[0] == "anonymous_id":
                continue
            if before.get(identifier, person_id) != person_id:
                assert latest[before[identifier]] == person_id
            carried.setdefault(identifier, set()).add(person_id)
            for past in carried[identifier]:
                assert latest.get(past, past) == person_id


def persons_of_call(one: SegmentCall, today: dict[Identifier, str]) -> set[str]:
    values = (("user_id", one.user_id), ("email", one.email), ("user_id", one.previous_id))
    return {today[kind, value] for kind, value in values if value is not None and (kind, value) in today}


@settings(max_examples=MANY)
@given(split_histories(), TIGHT_RULES | st.just(NO_LIMITS), streams)
def test_the_merges_of_a_stream_lead_from_every_person_id_to_todays(
    split: Split, rules: IdentityRules, how: dict[str, object]
) -> None:
    check_merges(Watched(rules, **how), split[1])


@settings(max_examples=MANY)
@given(split_histories(), WAREHOUSES, streams)
def test_the_merges_lead_to_the_persons_of_a_warehouse(
    split: Split, warehouse: list[WarehousePerson], how: dict[str, object]
) -> None:
    check_merges(Watched(NO_LIMITS, **how), split[1], PriorBlock(warehouse, [], 0))


# What is known beforehand


@settings(max_examples=MANY)
@given(split_histories(), WAREHOUSES, RULES, streams)
def test_a_warehouse_wins_in_any_order(
    split: Split, warehouse: list[WarehousePerson], rules: IdentityRules, how: dict[str, object]
) -> None:
    history, windows = split
    stream, prior = Watched(rules, **how), PriorBlock(warehouse, [], 5)
    for number, window in enumerate(windows):
        stream.hear(window, prior if number == len(windows) - 1 else None)
    expected = resolve(history, rules, warehouse).persons

    assert stream.current() == expected
    assert persons_of(resolve_bounded(history, rules, prior)) == expected


known_identities = st.lists(
    st.builds(
        KnownIdentity,
        st.just("w1"),
        st.just("user_id"),
        st.sampled_from(("u1", "u2", "new")),
        st.sampled_from(("P1", "P2", "P9", None)),
        st.none(),
        st.none(),
        st.integers(1, 3),
    )
    | st.builds(
        KnownIdentity,
        st.just("w1"),
        st.just("email"),
        st.sampled_from(("e1@x", "e9@x")),
        st.sampled_from(("P1", "P9", None)),
        st.none(),
        st.none(),
        st.integers(1, 3),
    )
    | st.builds(
        KnownIdentity,
        st.just("w1"),
        st.just("anonymous_id"),
        st.sampled_from(ANONYMOUS),
        st.sampled_from(("P1", "P2", "P9", None)),
        st.none(),
        st.integers(0, 4),
        st.integers(1, 3),
    ),
    max_size=5,
    unique_by=lambda known: (known.identifier_type, known.identifier),
)


@pytest.mark.slow
@settings(max_examples=MANY)
@given(split_histories(), WAREHOUSES, known_identities, RULES, streams)
def test_persons_of_a_warehouse_that_an_earlier_job_has_published_go_on(
    split: Split,
    warehouse: list[WarehousePerson],
    known: list[KnownIdentity],
    rules: IdentityRules,
    how: dict[str, object],
) -> None:
    history, windows = split
    prior, stream = PriorBlock(warehouse, known, 5), Watched(rules, **how)
    for number, window in enumerate(windows):
        stream.hear(window, prior if number == 0 else None)

        assert stream.current() == resolve(stream.told, rules, warehouse, known).persons

    resolved = resolve_bounded(history, rules, prior)
    expected = resolve(history, rules, warehouse, known).persons
    written = {(one.identifier_type, one.identifier): one for one in known}

    assert persons_of(resolved) == expected
    for row in (row_values("identities", row) for row in resolved.identities):
        before = written.get((row["identifier_type"], row["identifier"]))
        assert before is None or (row["version"] > before.version and row["person_id"] != before.person_id)


def forget_what_no_row_says(calls: list[SegmentCall]) -> list[SegmentCall]:
    """Calls of which `identities` has everything at the end.

    A row says nothing of user_ids without a person, so it does not say to whom they are linked and what they own. And
    what an alias replaced may turn out to be a user_id only later.
    """
    while True:
        persons = resolve(calls, NO_LIMITS).persons
        users = {one.user_id for one in calls}
        kept = [
            one
            for one in calls
            if (one.user_id in (None, "null") or ("user_id", one.user_id) in persons)
            and (one.previous_id in (None, "null", one.user_id) or one.previous_id in users)
        ]
        if len(kept) == len(calls):
            return kept
        calls = kept


@st.composite
def two_jobs(draw: st.DrawFn) -> tuple[list[SegmentCall], list[SegmentCall]]:
    history = draw(HISTORIES)
    cut = draw(st.integers(0, len(history)))
    old = forget_what_no_row_says(history[:cut])
    # A row says when an anonymous_id was first seen with its owner, but not with which of the person's identifiers: of
    # two owners at the very same moment the next job would not know the smaller one. So the next job's are odd.
    for one in old:
        one.timestamp *= 2
    for one in history[cut:]:
        one.timestamp = one.timestamp * 2 + 1
    return old, history[cut:]


@pytest.mark.slow
@settings(max_examples=2 * MANY)
@given(two_jobs(), WAREHOUSES, streams, st.booleans())
def test_a_job_goes_on_where_another_one_stopped(
    jobs: tuple[list[SegmentCall], list[SegmentCall]],
    warehouse: list[WarehousePerson],
    how: dict[str, object],
    is_read_again: bool,
) -> None:
    """Below the limits: what counted for them is not in `identities`.

    First-seen times of emails that do not name their person are not kept either. That is no loss: they lost against
    the one that does, and persons never part.
    """
    old, new = jobs
    first = Watched(NO_LIMITS, **how)
    first.hear(old, PriorBlock(warehouse, [], 1))
    prior = PriorBlock(warehouse if is_read_again else [], as_known(first.rows), 50)
    second = Watched(NO_LIMITS, **how)
    second.hear([], prior)

    assert second.current() == first.current()
    assert second.rows == []
    assert second.merges == []

    second.hear(new)
    whole = resolve([*old, *new], NO_LIMITS, warehouse).persons

    assert second.current() == whole
    assert persons_of(resolve_bounded(new, NO_LIMITS, prior)) == whole


@settings(max_examples=MANY)
@given(two_jobs(), streams)
def test_merges_of_persons_of_an_earlier_job_are_told(
    jobs: tuple[list[SegmentCall], list[SegmentCall]], how: dict[str, object]
) -> None:
    old, new = jobs
    first = Watched(NO_LIMITS, **how)
    first.hear(old)
    second = Watched(NO_LIMITS, **how)

    check_merges(second, [[], new], PriorBlock([], as_known(first.rows), 50))


# Erasures


@st.composite
def histories_with_erasures(draw: st.DrawFn) -> list[SegmentCall]:
    history = draw(HISTORIES)
    for number, one in enumerate(draw(some_calls(3))):
        deletion = call(f"d{number}", "delete", at=draw(st.integers(0, 4)), **fields_of(one))
        deletion.previous_id = None
        history.insert(draw(st.integers(0, len(history))), deletion)
    return history


@settings(max_examples=MANY)
@given(histories_with_erasures(), WAREHOUSES, TIGHT_RULES | st.just(DEFAULT_RULES))
def test_who_is_erased_leaves_no_row(
    history: list[SegmentCall], warehouse: list[WarehousePerson], rules: IdentityRules
) -> None:
    answer, resolved = resolve(history, rules, warehouse), resolve_bounded(history, rules, PriorBlock(warehouse))

    assert set(resolved.persons.erased) == answer.erased
    assert resolved.persons.erased == sorted(answer.erased)
    kept = {node: person for node, person in answer.persons.items() if node not in answer.erased}
    assert persons_of(resolved) == kept
    rows = [row_values("identities", row) for row in resolved.identities]
    assert {(row["identifier_type"], row["identifier"]): row["person_id"] for row in rows} == kept
    gone = {answer.persons[node] for node in answer.erased if node in answer.persons}
    for row in (row_values("identity_merges", row) for row in resolved.merges):
        assert (row["identifier_type"], row["identifier"]) not in answer.erased
        assert (row.get("refused_type"), row.get("refused_identifier")) not in answer.erased
        assert row.get("into_person_id") not in gone
    assert set(refusals_of(resolved)) == {
        refusal
        for refusal in answer.refused
        if refusal.refusing not in answer.erased and refusal.refused not in answer.erased
    }
