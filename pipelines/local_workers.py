"""Worker processes of a local run over large files: how many, how they start, and that none outlives its run."""

import ctypes
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import IO, Any, NamedTuple, NoReturn

import grpc
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer, ListBuffer
from apache_beam.runners.portability.fn_api_runner.fn_runner import BundleManager, FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from google.protobuf import json_format, text_format

from pipelines.bytes_read import BYTES_READ
from pipelines.run_worker import BYTES_A_MESSAGE, work
from pipelines.usage import leave

# Less is worked through before another worker would have been told of it.
BYTES_A_WORKER = 64 * 1024 * 1024

# The run and its workers have one thread that works at a time and many that wait. With an arena for each thread, and a
# worker with Arrow's own pool, they hold a third more memory.
_MEMORY = "MALLOC_ARENA_MAX=1 ARROW_DEFAULT_MEMORY_POOL=system"
_M_ARENA_MAX = -8  # malloc.h's

# The exit code of a run whose worker died. It cannot go on: Beam waits for ever for what the worker had in hand.
_WORKER_DIED = 1

# So much of a worker's input is on its way at once. Beam would send all of it as one message, hundreds of megabytes
# that it copies half a dozen times before the worker may begin.
_BYTES_ON_THE_WAY = BYTES_A_MESSAGE
# Of each worker: with 256 shards a group a part, with 1,024 four, and the last part is soon done.
_PARTS_OF_GROUPS = 128

# For each worker: less would all be on its way to the first that asks.
BYTES_WORTH_SHARING = 4 * _BYTES_ON_THE_WAY

_partition_list = ListBuffer.partition
_partition_groups = GroupingBuffer.partition


def count_workers(pattern: str) -> int:
    """How many worker processes the files deserve: a core each, but a small input would end before they had started."""
    try:
        size: int = sum(file.size_in_bytes for file in FileSystems.match([pattern])[0].metadata_list)
    except Exception:  # whatever is wrong with the files, `check_world` will say it
        return 1
    return max(1, min(os.cpu_count() or 1, size // BYTES_A_WORKER))


def make_runner_with_workers(count: int) -> FnApiRunner:
    """The FnApiRunner with worker processes (pipelines/run_worker.py) instead of one inside this process.

    They are started at once. To be called before anything speaks gRPC, which does not survive a fork.
    """
    BYTES_READ.share()
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, leave):  # a background job ignores it
        signal.signal(signal.SIGINT, _interrupt)
    threading.excepthook = _end_run
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
    # A fork has everything imported already, which takes 2 s. macOS and other threads do not bear it.
    start = _fork if sys.platform == "linux" and threading.active_count() == 1 else _spawn
    _WAITING.extend(start() for _ in range(count))
    WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(_OurWorker)
    beam_manager: Any = BundleManager
    beam_manager._send_input_to_worker = _send_in_parts
    beam_lists: Any = ListBuffer
    beam_lists.partition = _share_list
    beam_groups: Any = GroupingBuffer
    beam_groups.partition = _share_groups
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(""))


class _Process(NamedTuple):
    """A worker process that waits for orders."""

    orders: IO[bytes]
    wait: Callable[[], int]
    """Until it has ended; its exit code."""


_WAITING: list[_Process] = []


def _fork() -> _Process:
    read, write = os.pipe()
    run, pid = os.getpid(), os.fork()
    if pid == 0:
        _work_in_fork(run, read)
    os.close(read)
    return _Process(os.fdopen(write, "wb"), lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _work_in_fork(run: int, orders: int) -> NoReturn:
    exit_code = 1
    try:
        pa.set_memory_pool(pa.system_memory_pool())
        work(run, os.fdopen(orders, "rb"))
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(exit_code)  # nothing of the run's own that is done at an exit


def _spawn() -> _Process:
    command = f"trap '' INT; {_MEMORY} exec {shlex.quote(sys.executable)} -m pipelines.run_worker {os.getpid()}"
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE)
    assert process.stdin is not None
    return _Process(process.stdin, process.wait)


class _OurWorker(GrpcWorkerHandler):
    """What Beam's runner knows of a worker process."""

    def __init__(self, _command: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._process = _WAITING.pop() if _WAITING else _spawn()
        self._watch = threading.Thread(name="run_worker", target=self._wait)

    def start_worker(self) -> None:
        """Give it its orders. What it logs it prints itself; its errors come back as errors."""
        environment = {
            "WORKER_ID": self.worker_id,
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
        }
        self._watch.start()
        self._process.orders.write(json.dumps(environment).encode() + b"\n")
        self._process.orders.flush()

    def stop_worker(self) -> None:
        """It ends by itself when its connections do."""
        self._watch.join()

    def _wait(self) -> None:
        exit_code = self._process.wait()
        if exit_code:
            raise RuntimeError(f"Worker subprocess exited with return code {exit_code}")


def _share_list(self: Any, workers: int) -> list[Iterable[bytes]]:
    """The elements for each worker, in place of Beam's method, which deals them out beforehand."""
    return share_parts(_partition_list(self, workers))


def _share_groups(self: Any, workers: int) -> list[Iterable[bytes]]:
    """The groups for each worker in several parts, in place of Beam's method, which makes one part of them all."""
    if not self._grouped_output:
        groups = self._table
        parts: list[list[bytes]] = [[] for _ in range(workers)]
        keys, stride = list(groups), workers * _PARTS_OF_GROUPS
        for start in range(min(stride, len(keys))):
            self._table = defaultdict(list, {key: groups.pop(key) for key in keys[start::stride]})
            self._grouped_output = None
            parts[start % workers] += _partition_groups(self, 1)[0]
        self._grouped_output = parts
    return share_parts(self._grouped_output)


def share_parts(parts: Sequence[Sequence[bytes]]) -> list[Iterable[bytes]]:
    """What was dealt out to each worker, as what each takes from all of it when it has room: one may be slower.

    Little stays dealt out: there would be room for all of it with the first that asks.
    """
    waiting = deque(chain(*parts))
    if sum(map(len, waiting)) < BYTES_WORTH_SHARING * len(parts):
        return list(parts)
    return [_take(waiting) for _ in parts]


def _take(waiting: deque[bytes]) -> Iterator[bytes]:
    with suppress(IndexError):  # another has taken the last
        while True:
            yield waiting.popleft()


def _send_in_parts(self: Any, bundle: str, transform: str, parts: Iterable[bytes] | None) -> None:
    """Send a worker its input while it works, in place of Beam's method, which sends all of it before."""
    channel = self._worker_handler.data_conn
    to_send = channel, channel.output_stream(bundle, transform), parts or ()
    threading.Thread(target=_send, args=to_send, daemon=True).start()


def _send(channel: Any, stream: Any, parts: Iterable[bytes]) -> None:
    for part in parts:
        while channel._to_send.byte_size() + channel._pending_send.byte_size() > _BYTES_ON_THE_WAY:
            if channel._closed:  # nobody takes what was sent, and what waits in a full queue would wait for ever
                return
            time.sleep(0.005)
        stream.write(part)
        if stream.size() >= BYTES_A_MESSAGE:
            stream.flush()
    stream.close()


def _interrupt(*_: Any) -> None:
    """Ctrl-C: send the workers home first, for Beam waits until they have ended and tells them nothing."""
    BYTES_READ.unshare()
    logging.getLogger("grpc").setLevel(logging.CRITICAL + 1)  # of connections that break off now
    raise KeyboardInterrupt


def _end_run(failed: threading.ExceptHookArgs) -> None:
    if isinstance(failed.exc_value, grpc.RpcError):  # a connection to a worker that has ended
        return
    if failed.thread is None or failed.thread.name != "run_worker":
        threading.__excepthook__(failed)
        return
    print(  # noqa: T201
        f"{failed.exc_value}. If it was killed for lack of memory, give the run fewer: --direct_num_workers=1",
        file=sys.stderr,
    )
    os._exit(_WORKER_DIED)
