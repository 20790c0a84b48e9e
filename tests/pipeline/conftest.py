"""State, with and without the cache that spares reading it."""

import pytest

from transforms import cached_log
from transforms.cached_log import LogCache


@pytest.fixture(params=["cached", pytest.param("rebuilt", marks=pytest.mark.slow)])
def state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stories are told twice: by a worker that remembers, and by one that must rebuild all from its state each time."""
    if request.param == "rebuilt":
        monkeypatch.setattr(LogCache, "put", lambda self, token, value: token.write(b"nobody has this"))
        monkeypatch.setattr(LogCache, "put_back", lambda self, token, value: None)
        monkeypatch.setattr(cached_log, "CONDENSE_RECORDS", 1)
