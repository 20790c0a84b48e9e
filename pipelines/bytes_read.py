"""How much of its input files a local run has read, in all of its processes."""

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

SHARED = "SEGMENT_WAREHOUSE_BYTES_READ"
"""The environment variable that names the file in which worker processes count. It is there as long as the run."""


class BytesRead:
    """How much of the input files this run has read; what a progress bar shows.

    Several worker processes write down what they read, 8 bytes a count, in a file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own = 0
        self._file: Any = None

    def share(self) -> None:
        """Count also what worker processes read that are started from now on."""
        self._file = tempfile.NamedTemporaryFile(prefix="bytes_read_", buffering=0)  # noqa: SIM115 - as long as the run
        os.environ[SHARED] = self._file.name

    def unshare(self) -> None:
        """Count no more."""
        if os.environ.pop(SHARED, None) is not None:
            self._file.close()

    def add(self, count: int) -> None:
        """Count what was read."""
        with self._lock:
            if SHARED not in os.environ:
                self._own += count
                return
            if self._file is None:
                self._file = open(os.environ[SHARED], "ab", buffering=0)  # noqa: SIM115 - as long as the worker
            self._file.write(count.to_bytes(8))

    @property
    def total(self) -> int:
        """All that was counted."""
        try:
            counts = Path(os.environ[SHARED]).read_bytes()
        except (KeyError, FileNotFoundError):
            return self._own
        return self._own + sum(int.from_bytes(counts[at : at + 8]) for at in range(0, len(counts), 8))


BYTES_READ = BytesRead()
