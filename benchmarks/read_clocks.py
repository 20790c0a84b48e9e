"""What a part of a program takes, by the program's own clocks."""

import time

import msgspec


class Spent(msgspec.Struct, frozen=True):
    """Seconds."""

    cpu_s: float
    """User and system, of all threads of this process."""
    wall_s: float

    def since(self, earlier: "Spent") -> "Spent":
        """What has been spent after `earlier`."""
        return Spent(self.cpu_s - earlier.cpu_s, self.wall_s - earlier.wall_s)


def read_clocks() -> Spent:
    """What this process has spent up to now; of the wall time only differences mean anything."""
    return Spent(time.process_time(), time.perf_counter())
