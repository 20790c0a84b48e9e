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
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
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
from pipelines.run_worker import work
from pipelines.usage import leave
from transforms.spill import SPILL

# Less is worked through before another worker would have been told of it.
BYTES_A_WORKER = 64 * 1024 * 1024

# The run and its workers have one thread that works at a time and many that wait. With an arena for each thread, and a
# worker with Arrow's own pool, they hold a third more memory.
_MEMORY = "MALLOC_ARENA_MAX=1 ARROW_DEFAULT_MEMORY_POOL=system"
_M_ARENA_MAX = -8  # malloc.h's

# The exit code of a run whose worker died. It cannot go on: Beam waits for ever for what the worker had in hand.
_WORKER_DIED = 1

# Of a worker's input so many messages are on their way that it has not begun with: one to begin with next. Beam would
# send all of it as one, hundreds of megabytes that are copied half a dozen times before the worker may begin.
_MESSAGES_ON_THE_WAY = 1
# Of each worker: with 512 shards eight groups a part, with 2,048 thirty-two, and the last part is soon done.
_PARTS_OF_GROUPS = 32

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
    SPILL.open_files(count)
    _WAITING.extend(start(number) for number in range(count))
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
    begun: int
    """What to read a byte from for each message of input that it begins with."""
    wait: Callable[[], int]
    """Until it has ended; its exit code."""


_WAITING: list[_Process] = []


def _fork(number: int) -> _Process:
    read_orders, orders = os.pipe()
    begun, tell_begun = os.pipe()
    run, pid = os.getpid(), os.fork()
    if pid == 0:
        _work_in_fork(run, read_orders, tell_begun, number)
    os.close(read_orders)
    os.close(tell_begun)
    return _Process(os.fdopen(orders, "wb"), begun, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _work_in_fork(run: int, orders: int, tell_begun: int, number: int) -> NoReturn:
    exit_code = 1
    try:
        pa.set_memory_pool(pa.system_memory_pool())
        work(run, os.fdopen(orders, "rb"), tell_begun, SPILL.files, number)
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(exit_code)  # nothing of the run's own that is done at an exit


def _spawn(number: int | None = None) -> _Process:
    """`number`: of the spill file that it writes to. One that was not planned writes to none."""
    begun, tell_begun = os.pipe()
    arguments = [str(each) for each in (os.getpid(), tell_begun, "" if number is None else number, *SPILL.files)]
    command = f"trap '' INT; {_MEMORY} exec {shlex.join([sys.executable, '-m', 'pipelines.run_worker', *arguments])}"
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, pass_fds=(tell_begun, *SPILL.files))
    os.close(tell_begun)
    assert process.stdin is not None
    return _Process(process.stdin, begun, process.wait)


class _OurWorker(GrpcWorkerHandler):
    """What Beam's runner knows of a worker process."""

    def __init__(self, _command: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._process = _WAITING.pop() if _WAITING else _spawn()
        self._room = threading.Lock()
        self._not_begun = 0
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

    def send_next(self, stream: Any, parts: Iterator[bytes]) -> bool:
        """Send it the next part of its input when it has room; False if there is none, or if the worker is gone."""
        with self._room:
            while self._not_begun >= _MESSAGES_ON_THE_WAY:
                begun = len(os.read(self._process.begun, _MESSAGES_ON_THE_WAY))
                if not begun:
                    return False
                self._not_begun -= begun
            part = next(parts, None)
            if part is None:
                return False
            stream.write(part)
            stream.flush()
            self._not_begun += 1
            return True

    def _wait(self) -> None:
        exit_code = self._process.wait()
        if exit_code:
            raise RuntimeError(f"Worker subprocess exited with return code {exit_code}")


def _share_list(self: Any, workers: int) -> list[Iterator[bytes]]:
    """The elements for each worker, in place of Beam's method, which deals them out beforehand."""
    return share_parts(chain(*_partition_list(self, workers)), workers)


def _share_groups(self: Any, workers: int) -> list[Iterator[bytes]]:
    """The groups for each worker in several parts, in place of Beam's method, which makes one part of them all."""
    if not self._grouped_output:
        groups = self._table
        parts: list[bytes] = []
        keys, stride = list(groups), workers * _PARTS_OF_GROUPS
        for start in range(min(stride, len(keys))):
            self._table = defaultdict(list, {key: groups.pop(key) for key in keys[start::stride]})
            self._grouped_output = None
            parts += _partition_groups(self, 1)[0]
        self._grouped_output = [parts]
    return share_parts(chain(*self._grouped_output), workers)


def share_parts(parts: Iterable[bytes], workers: int) -> list[Iterator[bytes]]:
    """For each worker what it takes from all of it when it has room: one may be slower."""
    waiting = deque(part for part in parts if part)  # Beam sends no message for what is empty
    return [_take(waiting) for _ in range(workers)]


def _take(waiting: deque[bytes]) -> Iterator[bytes]:
    with suppress(IndexError):  # another has taken the last
        while True:
            yield waiting.popleft()


def _send_in_parts(self: Any, bundle: str, transform: str, parts: Iterable[bytes] | None) -> None:
    """Send a worker its input while it works, in place of Beam's method, which sends all of it before."""
    worker = self._worker_handler
    stream = worker.data_conn.output_stream(bundle, transform)
    threading.Thread(target=_send, args=(worker, stream, iter(parts or ())), daemon=True).start()


def _send(worker: _OurWorker, stream: Any, parts: Iterator[bytes]) -> None:
    while worker.send_next(stream, parts):
        pass
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
