"""Worker processes of a local run over large files: how many, how they start, and that none outlives its run."""

import os
import shlex
import signal
import sys
import threading
from typing import Any

import grpc
from apache_beam.io.filesystems import FileSystems
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines.bytes_read import BYTES_READ

# A worker process takes some 2 s to start, and an input of this size as long to work through.
BYTES_A_WORKER = 64 * 1024 * 1024

# A worker has one thread that works and many that wait. With an arena for each thread, and with Arrow's own pool, it
# holds a third more memory.
_MEMORY = "MALLOC_ARENA_MAX=1 ARROW_DEFAULT_MEMORY_POOL=system"

# The exit code of a run whose worker died. It cannot go on: Beam waits for ever for what the worker had in hand.
_WORKER_DIED = 1


def count_workers(pattern: str) -> int:
    """How many worker processes the files deserve: a core each, but a small input would end before they had started."""
    try:
        size: int = sum(file.size_in_bytes for file in FileSystems.match([pattern])[0].metadata_list)
    except Exception:  # whatever is wrong with the files, `check_world` will say it
        return 1
    return max(1, min(os.cpu_count() or 1, size // BYTES_A_WORKER))


def make_runner_with_workers() -> FnApiRunner:
    """The FnApiRunner with worker processes (pipelines/run_worker.py) instead of one inside this process."""
    BYTES_READ.share()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, _interrupt)
    threading.excepthook = _end_run
    # Ctrl-C reaches every process of a terminal; the run ends its workers itself.
    command = f"trap '' INT; {_MEMORY} exec {shlex.quote(sys.executable)} -m pipelines.run_worker {os.getpid()}"
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(command))


def _interrupt(*_: Any) -> None:
    """Ctrl-C: send the workers home first, for Beam waits until they have ended and tells them nothing."""
    BYTES_READ.unshare()
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
