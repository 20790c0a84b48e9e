"""A way to Pub/Sub that can be closed and opened again while somebody uses it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

_CHUNK_BYTES = 65_536


class Relay:
    """Passes TCP on to a host, from `__enter__` to `__exit__`."""

    host: str

    def __init__(self, host: str) -> None:
        name, _, port = host.rpartition(":")
        self._target = name, int(port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        self.host = f"127.0.0.1:{self._port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._refuse)
        self._call(self._end_tasks)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """All passes again."""
        self._call(self._open)

    def refuse(self) -> None:
        """Connections end, and new ones are refused: a server that is gone."""
        self._call(self._refuse)

    def fall_silent(self) -> None:
        """Connections stay, and new ones are taken, but nothing passes: a server that hangs."""
        self._call(self._fall_silent)

    def _call(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        waiting: Future[None] = asyncio.run_coroutine_threadsafe(step(), self._loop)
        waiting.result()

    async def _open(self) -> None:
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _fall_silent(self) -> None:
        self._flows.clear()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there_writer)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(_CHUNK_BYTES):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()
            self._writers.discard(sink)
