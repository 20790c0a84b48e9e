"""A program's cost as the operating system counts it."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.watch_memory import WatchedMemory

_LOG_LINES = 20


class Cost(msgspec.Struct, frozen=True):
    """What one run of a program took, with all that it started and waited for."""

    wall_s: float
    cpu_s: float
    """User and system."""
    peak_rss_mb: float
    """Of all its processes together; see `WatchedMemory`."""


class ProgramFailed(Exception):  # noqa: N818 - the program's failure, told with its last words
    """A program ended with another code than 0."""


def measure_process(command: Sequence[str], log: Path) -> Cost:
    """Run `command` to its end, with what it prints in `log`.

    Linux counts the memory that the caller had at the start as the program's own: keep the caller small.
    Raises `ProgramFailed`.
    """
    with log.open("wb") as file:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            with WatchedMemory(process.pid) as memory:
                _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        words = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        raise ProgramFailed("\n".join([f"{' '.join(command)} ended with {process.returncode}:", *words]))
    # What one process alone took at most the system knows to the byte, also between two looks.
    peak = max(memory.peak_bytes, usage.ru_maxrss * 1024)
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak / 1e6)
