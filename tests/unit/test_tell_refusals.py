import asyncio

import pytest

from services.answers import RefusedError
from services.tell_refusals import Refusals


def refused(code: str, connection_id: str | None = None) -> RefusedError:
    error = RefusedError(429, code, "a sentence")
    error.connection_id = connection_id
    return error


def test_a_storm_is_one_line_with_numbers_by_code_and_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        refusals = Refusals(seconds=0.05)
        for _ in range(1200):
            refusals.note(refused("too_fast", "web-site"))
        refusals.note(refused("no_valid_key"))
        await asyncio.sleep(0.1)
        refusals.note(refused("too_slow"))
        await asyncio.sleep(0.1)

    asyncio.run(story())

    assert [record.message for record in caplog.records] == [
        "Refused within 0.05 seconds: 1,200 too_fast of web-site, 1 no_valid_key",
        "Refused within 0.05 seconds: 1 too_slow",
    ]


def test_nothing_refused_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    Refusals().tell()

    assert caplog.records == []
