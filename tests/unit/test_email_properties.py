"""Each call once, however the log arrives: files, a stream and the slow oracle agree."""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogLine
from tests.factories import NOW, SECOND
from tests.unit.email_histories import Block, EmailStream, Shards, logs, read_files, update
from tests.unit.email_oracle import LINE_CALLS, EmailOracle, Said, what_happened, written

REWARD = "Unique Link Click per Unique Open"
DERIVED = ("Email Unique Opens", "Unique Link Click", REWARD)

shards = st.builds(Shards, st.integers(1, 3), st.integers(1, 3))


def in_order(said: Iterable[Said]) -> dict[tuple[int, str], list[object]]:
    """The calls of each shard and workspace, in the order in which they are sent.

    A history that moves may give several rewards at once: these in any order.
    """
    ordered: dict[tuple[int, str], list[object]] = {}
    for is_reward, run in groupby(said, key=lambda one: kind_of(one) == REWARD):
        for one in sorted(run, key=lambda one: str(one.call["messageId"])) if is_reward else run:
            ordered.setdefault((one.shard, one.workspace_id), []).append((one.person_id, one.call))
    return ordered


def kind_of(said: Said) -> str:
    return str(said.call.get("event", said.call["type"]))


def check_files(blocks: list[Block], shards: Shards, implied: bool) -> None:
    oracle = EmailOracle(implied, shards.of_person)
    expected = oracle.read([one for block in blocks for one in block.lines], [one for b in blocks for one in b.updates])

    said = read_files(blocks, shards, implied=implied)

    assert in_order(said) == in_order(expected)
    assert max(Counter((one.workspace_id, one.call["messageId"]) for one in said).values(), default=1) == 1


@settings(max_examples=40)
@given(logs(), shards, st.booleans())
def test_files_give_what_the_contract_says(blocks: list[Block], shards: Shards, implied: bool) -> None:
    check_files(blocks, shards, implied)


@pytest.mark.slow
@settings(max_examples=1200)
@given(logs(60, 12), shards, st.booleans())
def test_files_give_what_the_contract_says_in_many_histories(
    blocks: list[Block], shards: Shards, implied: bool
) -> None:
    check_files(blocks, shards, implied)


chores = st.lists(st.sampled_from(("rebuild", "lines", "addresses", "persons", None, None, None)), min_size=1)


def check_stream(blocks: list[Block], shards: Shards, implied: bool, chores: list[str | None]) -> None:
    oracle, stream = EmailOracle(implied, shards.of_person), EmailStream(shards, implied=implied)
    for number, block in enumerate(blocks):
        for home, part in shards.send_home(block).items():
            expected = oracle.hear(part.lines, part.updates)

            assert in_order(stream.hear(home, part)) == in_order(expected)

        chore = chores[number % len(chores)]
        if chore == "rebuild":
            stream.rebuild()
        elif chore is not None:
            for each in (oracle, stream):
                getattr(each, f"forget_{chore}_before")(NOW + number * SECOND)


@settings(max_examples=60)
@given(logs(), shards, st.booleans(), chores)
def test_a_stream_gives_what_the_contract_says(
    blocks: list[Block], shards: Shards, implied: bool, chores: list[str | None]
) -> None:
    check_stream(blocks, shards, implied, chores)


@pytest.mark.slow
@settings(max_examples=1200)
@given(logs(60, 16), shards, st.booleans(), chores)
def test_a_stream_gives_what_the_contract_says_in_many_histories(
    blocks: list[Block], shards: Shards, implied: bool, chores: list[str | None]
) -> None:
    check_stream(blocks, shards, implied, chores)


# In flight


def ids_of(said: Iterable[Said]) -> list[tuple[str, str]]:
    return [(one.workspace_id, one.call["messageId"]) for one in said]


def hear_in_any_order(stream: EmailStream, blocks: list[Block], choose: random.Random) -> list[Said]:
    """What is sent from one step to the next may be overtaken by what is sent later."""
    arriving = [(home, part) for block in blocks for home, part in stream.shards.send_home(block).items()]
    flying: list[tuple[int, PersonBlock]] = []
    said: list[Said] = []
    while arriving or flying:
        if arriving and (not flying or choose.random() < 0.5):
            flying += stream.find(*arriving.pop(choose.randrange(len(arriving)))).items()
        else:
            said += stream.advance(*flying.pop(choose.randrange(len(flying))))
        if choose.random() < 0.1:
            stream.rebuild()
    return said


def check_identifies(said: list[Said]) -> None:
    """Whoever is spoken of by a user_id has been identified by it before."""
    identified = set()
    for one in said:
        if one.call["type"] == "identify":
            identified.add((one.workspace_id, one.person_id, one.call["userId"]))
        elif "userId" in one.call:
            assert (one.workspace_id, one.person_id, one.call["userId"]) in identified
        else:
            assert one.call["anonymousId"] == one.person_id


def check_flight(blocks: list[Block], shards: Shards, implied: bool, choose: random.Random) -> None:
    stream = EmailStream(shards, implied=implied)
    said = hear_in_any_order(stream, blocks, choose)
    lines = [one for block in blocks for one in block.lines]

    for shard in range(shards.persons):
        assert max(Counter(ids_of(one for one in said if one.shard == shard)).values(), default=1) == 1
    of_others = [one for one in said if one.shard != shards.of_person(one.workspace_id, one.person_id)]
    assert {one.call["type"] for one in of_others} <= {"identify"}
    told = Counter((one.workspace_id, kind_of(one)) for one in said if kind_of(one) in LINE_CALLS.values())
    assert told == Counter(
        (workspace_id, LINE_CALLS[event])
        for workspace_id, *_, event in {(one.workspace_id, one.log_id, one.email, one.event) for one in lines}
    )
    for one in said:
        if kind_of(one) in DERIVED:
            check_derived(one, lines, implied)
    check_identifies(said)


def check_derived(said: Said, lines: list[LogLine], implied: bool) -> None:
    """It says nothing but what some line says, and there is every line that it takes."""
    properties = said.call["properties"]
    of_email = [
        one
        for one in lines
        if (one.workspace_id, one.campaign_run_id, one.email_id)
        == (said.workspace_id, properties["campaign_run_id"], properties["email_id"])
        and what_happened(one) is not None
    ]
    happened = {(one.event, one.email, one.email_link_url) for one in of_email}
    is_implied = said.call.get("context", {}).get("implied_open", False)
    event = "opened" if kind_of(said) == "Email Unique Opens" and not is_implied else "clicked"

    assert (properties["event"], properties["userId"], properties["email_link_url"]) in happened
    assert properties["event"] == event
    assert said.call["timestamp"] in {written(one.at) for one in of_email}
    if kind_of(said) == REWARD and not implied:
        assert {one.event for one in of_email} == {"opened", "clicked"}


seeds = st.integers(0, 2**32).map(random.Random)


@settings(max_examples=40)
@given(logs(), shards, st.booleans(), seeds)
def test_whatever_overtakes_what_nothing_is_said_twice_and_no_line_is_lost(
    blocks: list[Block], shards: Shards, implied: bool, choose: random.Random
) -> None:
    """But an identify of a former person, by several shards: each only knows whom it has identified itself."""
    check_flight(blocks, shards, implied, choose)


@pytest.mark.slow
@settings(max_examples=1200)
@given(logs(60, 16), shards, st.booleans(), seeds)
def test_whatever_overtakes_what_nothing_is_said_twice_and_no_line_is_lost_in_many_histories(
    blocks: list[Block], shards: Shards, implied: bool, choose: random.Random
) -> None:
    check_flight(blocks, shards, implied, choose)


# Without news of who is who


def said_of(said: Iterable[Said]) -> set[tuple[str, str, str]]:
    return {(one.workspace_id, one.person_id, one.call["messageId"]) for one in said if one.call["type"] != "identify"}


@settings(max_examples=40)
@given(logs(updates=0), shards, st.booleans(), seeds)
def test_a_stream_says_the_same_as_files_whatever_comes_first(
    blocks: list[Block], shards: Shards, implied: bool, choose: random.Random
) -> None:
    stream = EmailStream(shards, implied=implied)

    said = hear_in_any_order(stream, blocks, choose)

    if not implied:  # else it says whether the open or the click came first
        assert said_of(said) == said_of(read_files(blocks, shards))
    assert len(ids_of(said)) == len(set(ids_of(said)))


@settings(max_examples=25)
@given(logs(), shards, st.booleans())
def test_what_is_told_again_says_nothing_more(blocks: list[Block], shards: Shards, implied: bool) -> None:
    stream = EmailStream(shards, implied=implied)
    for block in blocks:
        for home, part in shards.send_home(block).items():
            stream.hear(home, part)
    stream.rebuild()
    sizes = [len(log) for log in (*stream.book_logs, *stream.history_logs)]
    for block in reversed(blocks):
        for home, part in shards.send_home(block).items():
            assert stream.hear(home, part) == []

    assert [len(log) for log in (*stream.book_logs, *stream.history_logs)] == sizes


@settings(max_examples=25)
@given(logs(), shards, st.booleans())
def test_workspaces_never_touch(blocks: list[Block], shards: Shards, implied: bool) -> None:
    def only(workspace_id: str) -> list[Block]:
        return [
            Block(
                [one for one in block.lines if one.workspace_id == workspace_id],
                [one for one in block.updates if one.workspace_id == workspace_id],
            )
            for block in blocks
        ]

    whole = read_files(blocks, shards, implied=implied)

    for workspace_id in ("w1", "w2"):
        alone = read_files(only(workspace_id), shards, implied=implied)

        assert in_order(alone) == in_order(one for one in whole if one.workspace_id == workspace_id)


# One history


@st.composite
def renames(draw: st.DrawFn) -> list[Block]:
    """Blocks about one address that becomes this and that person's, and theirs again."""
    blocks: list[Block] = draw(logs(updates=0))
    for block in blocks:
        for one in block.lines:
            one.log_id += one.workspace_id + one.email
            one.workspace_id, one.email, one.person_id = "w1", "a@x", None
        block.updates.extend(
            update(person_id, version, email="a@x")
            for person_id, version in draw(
                st.lists(st.tuples(st.sampled_from(("P1", "P2", "P3")), st.integers(0, 50)), max_size=3)
            )
        )
    return blocks


@settings(max_examples=40)
@given(renames(), shards, st.booleans(), st.booleans())
def test_an_address_has_one_history_whosever_it_is(
    blocks: list[Block], shards: Shards, implied: bool, rebuilds: bool
) -> None:
    stream = EmailStream(shards, implied=implied)
    said = []
    for block in blocks:
        for home, part in shards.send_home(block).items():
            said += stream.hear(home, part)
        if rebuilds:
            stream.rebuild()
    once: dict[object, list[LogLine]] = {}
    for block in blocks:
        for one in block.lines:
            if what_happened(one) is not None:
                once.setdefault((one.campaign_run_id, one.email_id), []).append(one)
    expected: Counter[str] = Counter()
    for happened in once.values():
        opens = [one for one in happened if one.event == "opened"]
        clicks = {one.email_link_url for one in happened if one.event == "clicked"}
        expected["Email Unique Opens"] += bool(opens or (implied and clicks))
        expected["Unique Link Click"] += len(clicks)
        expected[REWARD] += bool(clicks and (opens or implied))

    assert Counter(kind_of(one) for one in said if kind_of(one) in DERIVED) == +expected
