"""The memory of a program together with all that it has started, looked at several times a second."""

import os
import threading
from pathlib import Path

# A look takes about 2 ms of CPU time, with a hundred processes on the machine.
_SECONDS_BETWEEN_LOOKS = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Where they stand in /proc/PID/stat, counted from behind the name: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
_PARENT, _RESIDENT_PAGES = 1, 21


class WatchedMemory:
    """The peak of the sum, from when it is entered to when it is left.

    A page that several processes have in common, of a library, counts in each of them; what comes and goes between two
    looks is not seen.
    """

    def __init__(self, process: int) -> None:
        self.peak_bytes = 0
        self._process = process
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "WatchedMemory":
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look_on(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self.peak_bytes = max(self.peak_bytes, sum_memory(self._process))


def sum_memory(process: int) -> int:
    """Resident bytes of a process and its descendants at this moment."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_bytes().rpartition(b") ")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            children.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
            pages[int(folder.name)] = int(fields[_RESIDENT_PAGES])
    total, family = 0, [process]
    while family:
        member = family.pop()
        total += pages.get(member, 0)
        family += children.get(member, [])
    return total * _PAGE_BYTES
