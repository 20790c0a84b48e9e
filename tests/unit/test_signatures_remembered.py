"""Repetitions and replays of webhooks that were taken; certificates that are fetched once."""

import asyncio
import gc
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signatures.amazon_sns import AmazonUnavailableError
from services.signatures.remember_certificates import RememberedCertificates
from services.signatures.remember_signatures import KEEP_SECONDS, SeenSignatures, Sight
from services.signatures.verdicts import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, ForgedError, check_age
from tests.unit.test_signatures_amazon_sns import CERTIFICATE

SECOND = 1_000_000
NOW = 1_770_920_772 * SECOND


def taken(*signatures: str, max_entries: int = 100, now: int = NOW) -> SeenSignatures:
    """One that has taken the body `b"body"` under these signatures of the connection "c", a second apart."""
    seen = SeenSignatures(max_entries, keep_seconds=10)
    for place, signature in enumerate(signatures):
        seen.remember("c", signature, b"body", now + place * SECOND)
    return seen


def test_what_was_not_taken_is_new() -> None:
    assert SeenSignatures().judge("c", "s", b"body", NOW) is Sight.NEW


def test_the_same_again_is_a_repetition() -> None:
    assert taken("s").judge("c", "s", b"body", NOW) is Sight.REPEATED


def test_another_body_under_the_same_signature_is_a_replay() -> None:
    assert taken("s").judge("c", "s", b"forged", NOW) is Sight.REPLAYED


def test_what_was_judged_but_not_taken_is_still_new() -> None:
    seen = SeenSignatures()
    seen.judge("c", "s", b"body", NOW)

    assert seen.judge("c", "s", b"other", NOW) is Sight.NEW


def test_each_connection_has_its_own_signatures() -> None:
    seen = taken("s")

    assert seen.judge("d", "s", b"forged", NOW) is Sight.NEW
    assert seen.judge("", "cs", b"forged", NOW) is Sight.NEW


def test_a_signature_is_forgotten_when_it_is_too_old() -> None:
    seen = taken("s")

    assert seen.judge("c", "s", b"body", NOW + 10 * SECOND) is Sight.REPEATED
    assert seen.judge("c", "s", b"body", NOW + 10 * SECOND + 1) is Sight.NEW


def test_what_is_too_old_takes_no_room() -> None:
    seen = taken("a", "b", "c")
    seen.remember("c", "d", b"body", NOW + 12 * SECOND)

    assert len(seen) == 2  # the third was taken 10 seconds before


def test_the_oldest_goes_when_there_is_no_more_room() -> None:
    seen = taken("a", "b", "c", max_entries=2)

    assert len(seen) == 2
    assert [seen.judge("c", name, b"body", NOW) for name in "abc"] == [Sight.NEW, Sight.REPEATED, Sight.REPEATED]


def test_what_is_taken_again_is_young_again() -> None:
    seen = taken("a", "b", "a", "d", max_entries=2)

    assert [seen.judge("c", name, b"body", NOW) for name in "abd"] == [Sight.REPEATED, Sight.NEW, Sight.REPEATED]


def test_no_memory_is_none() -> None:
    assert taken("a", max_entries=0).judge("c", "a", b"body", NOW) is Sight.NEW


def test_a_clock_that_goes_back_forgets_nothing() -> None:
    assert taken("s").judge("c", "s", b"forged", NOW - 1000 * SECOND) is Sight.REPLAYED


def test_a_signature_is_remembered_for_as_long_as_it_passes() -> None:
    """Taken as early as can be, by a clock that is behind."""
    signed_at, seen = NOW, SeenSignatures()
    first = signed_at - MAX_AHEAD_SECONDS * SECOND
    last = signed_at + MAX_AGE_SECONDS * SECOND
    seen.remember("c", "s", b"body", first)

    check_age(signed_at, first)
    check_age(signed_at, last)
    assert seen.judge("c", "s", b"forged", last) is Sight.REPLAYED
    with pytest.raises(ForgedError):
        check_age(signed_at, last + 1)
    assert last - first == KEEP_SECONDS * SECOND


@given(st.text(st.characters()), st.text(st.characters()), st.binary(), st.integers())
def test_any_signature_can_be_remembered(connection: str, signature: str, body: bytes, now: int) -> None:
    seen = SeenSignatures()
    seen.remember(connection, signature, body, now)

    assert seen.judge(connection, signature, body, now) is Sight.REPEATED
    assert seen.judge(connection, signature, body + b"x", now) is Sight.REPLAYED


def test_an_entry_is_small_however_long_the_body() -> None:
    gc.collect()
    before = sys.getallocatedblocks()
    seen = SeenSignatures()
    for place in range(1000):
        seen.remember("connection", f"{place:0100}", bytes(10_000), NOW + place)

    assert sys.getallocatedblocks() - before < 6000  # two digests, a time, a pair and its link: each below 512 bytes


# -- Certificates

URL = "https://sns.us-west-2.amazonaws.com/{}.pem"


class Amazon:
    """Serves a certificate, or what else is set, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, bytes] = {}
        self.opened = asyncio.Event()
        self.opened.set()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await self.opened.wait()
        if url not in self.answers:
            raise AmazonUnavailableError("404")
        return self.answers[url]


def served(*names: str) -> tuple[Amazon, list[str]]:
    amazon = Amazon()
    urls = [URL.format(name) for name in names]
    amazon.answers = dict.fromkeys(urls, CERTIFICATE)
    return amazon, urls


def test_a_certificate_is_fetched_once() -> None:
    async def story() -> None:
        amazon, [url] = served("a")
        certificates = RememberedCertificates(amazon.fetch)

        assert [await certificates(url) for _ in range(3)] == [CERTIFICATE] * 3
        assert amazon.asked == [url]

    asyncio.run(story())


def test_all_who_wait_for_a_certificate_wait_for_one_fetch() -> None:
    async def story() -> None:
        amazon, [url] = served("a")
        certificates = RememberedCertificates(amazon.fetch, max_fetches=1)
        amazon.opened.clear()
        waiting = [asyncio.create_task(certificates(url)) for _ in range(100)]
        await asyncio.sleep(0)
        amazon.opened.set()

        assert await asyncio.gather(*waiting) == [CERTIFICATE] * 100
        assert amazon.asked == [url]

    asyncio.run(story())


def test_who_gives_up_takes_the_certificate_from_nobody() -> None:
    async def story() -> None:
        amazon, [url] = served("a")
        certificates = RememberedCertificates(amazon.fetch)
        amazon.opened.clear()
        first, second = asyncio.create_task(certificates(url)), asyncio.create_task(certificates(url))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        amazon.opened.set()

        assert await second == CERTIFICATE
        assert first.cancelled()

    asyncio.run(story())


def test_a_failed_fetch_is_tried_again_and_is_no_complaint_of_asyncio() -> None:
    complaints: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        amazon, [url] = served("a")
        amazon.answers = {}
        certificates = RememberedCertificates(amazon.fetch)
        with pytest.raises(AmazonUnavailableError):
            await certificates(url)
        amazon.opened.clear()
        given_up = asyncio.create_task(certificates(url))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        amazon.opened.set()
        await asyncio.sleep(0.01)
        amazon.answers = {url: CERTIFICATE}

        assert await certificates(url) == CERTIFICATE
        assert amazon.asked == [url] * 3

    asyncio.run(story())
    gc.collect()
    assert complaints == []


def test_what_is_no_certificate_is_not_kept() -> None:
    async def story() -> None:
        amazon, [url] = served("a")
        amazon.answers[url] = b"<html>Service Unavailable</html>"
        certificates = RememberedCertificates(amazon.fetch)
        with pytest.raises(AmazonUnavailableError):
            await certificates(url)
        amazon.answers[url] = CERTIFICATE

        assert await certificates(url) == CERTIFICATE

    asyncio.run(story())


def test_of_too_many_certificates_the_one_longest_unused_goes() -> None:
    async def story() -> None:
        amazon, [a, b, c] = served("a", "b", "c")
        certificates = RememberedCertificates(amazon.fetch, max_certificates=2)
        for url in (a, b, a, c, a, b):
            await certificates(url)

        assert amazon.asked == [a, b, c, b]

    asyncio.run(story())


def test_not_more_than_so_many_certificates_are_fetched_at_a_time() -> None:
    async def story() -> None:
        amazon, [a, b, c] = served("a", "b", "c")
        certificates = RememberedCertificates(amazon.fetch, max_fetches=2)
        amazon.opened.clear()
        waiting = [asyncio.create_task(certificates(url)) for url in (a, b)]
        await asyncio.sleep(0)
        with pytest.raises(AmazonUnavailableError):
            await asyncio.wait_for(certificates(c), timeout=1)
        amazon.opened.set()
        await asyncio.gather(*waiting)

        assert await certificates(c) == CERTIFICATE

    asyncio.run(story())
