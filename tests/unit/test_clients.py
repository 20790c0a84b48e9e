import socket
from typing import Any

import pytest
from requests.exceptions import ReadTimeout

from pipelines import bound_requests
from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client


@pytest.mark.parametrize(("said", "most"), [(None, 0.2), (0.2, 60.0)])
def test_no_request_waits_for_ever(monkeypatch: pytest.MonkeyPatch, said: float | None, most: float) -> None:
    monkeypatch.setattr(bound_requests, "MOST_SECONDS", most)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, f"127.0.0.1:{silent.getsockname()[1]}")
        client = bigquery_client("p1")
        call: dict[str, Any] = {"retry": None, "timeout": said}

        with pytest.raises(ReadTimeout):
            client.get_table("p1.d.t", **call)
        client.close()
