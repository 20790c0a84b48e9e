"""A BigQuery on this machine: bqemulator, which answers Google's client, `bq` and Beam over REST and runs on DuckDB."""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from scripts.free_ports import find_free_ports

# Three seconds here, and several times that on a busy machine.
START_SECONDS = 60.0

_LOG_LINES_SHOWN = 20


@contextmanager
def start_bigquery() -> Iterator[str]:
    """An empty BigQuery in memory, gone on exit, whatever the exit; gives what to put into BIGQUERY_EMULATOR_HOST.

    Raises RuntimeError with the last lines of its log if it does not answer in time.
    """
    rest_port, grpc_port = find_free_ports(2)
    with tempfile.TemporaryFile() as log:
        # A process group of its own: Ctrl-C does not reach it before us, who may still want to ask it something. Its
        # stdin is a pipe that nobody writes to: where we are killed and cannot clean up, the pipe ends and so does it.
        # DuckDB keeps its extensions in HOME, which not everybody has who runs this, and which is not ours to fill.
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.bigquery_emulator", str(rest_port), str(grpc_port)],
            cwd=Path(__file__).resolve().parent.parent,
            env=os.environ | {"HOME": sys.prefix},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _await_answer(process, rest_port, log)
            yield f"http://127.0.0.1:{rest_port}"
        finally:
            with suppress(ProcessLookupError):
                # It has nothing to save.
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _await_answer(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > give_up:
            what = "did not answer in time" if process.returncode is None else f"ended with {process.returncode}"
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
            raise RuntimeError("\n".join([f"The BigQuery emulator {what}. The end of its log:", *lines]))
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _serve(rest_port: str, grpc_port: str) -> None:
    """What the process that `start_bigquery` starts does, until its stdin ends."""
    import duckdb_extensions
    from bqemulator.cli import main as run_bqemulator

    from scripts.ask_duckdb_alone import ask_duckdb_alone
    from scripts.refuse_failed_queries import refuse_failed_queries

    threading.Thread(target=_end_with_stdin, daemon=True).start()
    # DuckDB's spatial extension, without which bqemulator does not start, from PyPI instead of from DuckDB's site.
    duckdb_extensions.import_extension("spatial")
    ask_duckdb_alone()
    refuse_failed_queries()
    run_bqemulator(
        ["start", "--ephemeral", "--rest-port", rest_port, "--grpc-port", grpc_port, "--log-level", "warning"]
    )


def _end_with_stdin() -> None:
    while os.read(0, 1):  # not sys.stdin, which is locked meanwhile: Python could not end, nor say what has failed
        pass
    os._exit(0)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
