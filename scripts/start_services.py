"""The collector and the Connections page as programs of their own, from start to exit."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import NamedTuple

import requests

from scripts.free_ports import find_free_ports

START_SECONDS = 30.0


class RunningService(NamedTuple):
    """Where it answers, and the program itself."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def start_service(
    module: str, flags: Sequence[str], ready_path: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningService]:
    """Run `python -m MODULE FLAGS --port N`; gives it when `ready_path` answers 200, and stops it on exit.

    Raises RuntimeError if it ends or does not answer in time; what it says goes to standard error.
    """
    (port,) = find_free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", module, *flags, "--port", str(port)],
        cwd=Path(__file__).resolve().parent.parent,
        env={**environ, **(environment or {})},
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(process, url + ready_path, module)
        yield RunningService(url, process)
    finally:
        process.terminate()
        process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str, module: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.05)
    ended = process.poll()
    what = f"does not answer at {url}" if ended is None else f"has ended with exit code {ended}"
    raise RuntimeError(f"{module} {what}")
