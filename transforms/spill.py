"""Where blocks wait between the steps of a local run with worker processes: in files, not in the run's memory.

A block that one worker encodes and another decodes would be copied some twenty times on its way through Beam's buffers,
gRPC and the run. So it is written to a file that all processes of the run have open, and only a reference travels.
"""

import os
import tempfile
import threading
from struct import Struct

# What no block begins with: LZ4 makes none of 4 GiB.
_MARK = b"\xff\xff\xff\xff"
# The mark, the number of the file, where the block begins in it, and its bytes.
_REFERENCE = Struct(">4sIQI")

# Less is not worth two calls of the system. A guess: other sizes were not measured.
SMALLEST_BYTES = 1024


class Spill:
    """The files of a run, one for each worker to write to; every process reads all of them.

    They have no name, so they are gone with the last process, however it ends. Nothing in them is freed before: a block
    may be read more than once. Where nobody has called `open_files`, blocks travel as they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: list[int] = []
        self._own: int | None = None
        self._end = 0
        """Of what this process has written."""

    @property
    def files(self) -> list[int]:
        """Descriptors, for a process that does not inherit them."""
        return self._files

    def open_files(self, count: int) -> None:
        """Make a file for each of so many workers that are still to be started; those of an earlier run are gone."""
        for file in self._files:
            os.close(file)
        self._files = []
        for _ in range(count):
            with tempfile.TemporaryFile(prefix="spill_", buffering=0) as unnamed:
                self._files.append(os.dup(unnamed.fileno()))

    def adopt(self, files: list[int], own: int | None) -> None:
        """Read these files, and write to the one of the number `own`, if it is given."""
        self._files, self._own = files, own

    def put(self, block: bytes) -> bytes:
        """What is to travel for a block: a reference, or the block where there is no file or no room for it."""
        if self._own is None or len(block) < SMALLEST_BYTES:
            return block
        with self._lock:
            start = self._end
            try:
                self._end += os.pwrite(self._files[self._own], block, start)
            except OSError:  # the disk is full, for one
                return block
            if self._end < start + len(block):
                return block
        return _REFERENCE.pack(_MARK, self._own, start, len(block))

    def take(self, travelled: bytes) -> bytes:
        """The block of what `put` gave. Raises OSError if it cannot be read."""
        if not travelled.startswith(_MARK):
            return travelled
        _, file, start, size = _REFERENCE.unpack(travelled)
        block = os.pread(self._files[file], size, start)
        if len(block) < size:
            raise OSError(f"{len(block):,} of {size:,} bytes could be read of a block in a temporary file")
        return block


SPILL = Spill()
