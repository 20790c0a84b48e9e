"""The collector as a server, with all that it works with."""

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from services.collector import build_collector
from services.door import Door
from services.fetch_amazon import fetch_amazon
from services.http_protocol import LimitedProtocol
from services.known_connections import KnownConnections
from services.limits import KEEP_ALIVE_SECONDS
from services.publish_messages import Publisher, open_channel
from services.signatures.remember_certificates import RememberedCertificates
from services.signatures.remember_signatures import SeenSignatures
from services.take_webhooks import TakeWebhooks


class _Server(uvicorn.Server):
    """Ends with 0 after a signal, when all are answered: uvicorn's own ends by the signal."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal; a second one waits for nobody."""
        self.force_exit, self.should_exit = self.should_exit, True


def make_server(
    calls_topic: str, logs_topic: str, connections: KnownConnections, refresh_seconds: float
) -> uvicorn.Server:
    """The collector for these topics and connections, which it reads anew every `refresh_seconds` once it runs."""
    door = Door(connections, lambda: time.time_ns() // 1000, time.monotonic)
    calls, logs = Publisher(calls_topic), Publisher(logs_topic)

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncIterator[None]:
        async with open_channel() as channel:
            calls.open(channel)
            logs.open(channel)
            threading.Thread(target=connections.keep_fresh, args=(refresh_seconds,), daemon=True).start()
            yield
            await calls.close()
            await logs.close()

    certificates = RememberedCertificates(fetch_amazon)
    take_webhooks = TakeWebhooks(door, calls, logs, SeenSignatures(), certificates, fetch_amazon)
    config = uvicorn.Config(
        build_collector(door, calls, take_webhooks, live),
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        access_log=False,  # a line a request, with its address, is neither affordable nor anybody's business
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nobody asks for addresses
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
    return _Server(config)
