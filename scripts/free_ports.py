"""Ports of this machine that nobody listens on."""

import socket
from contextlib import ExitStack


def find_free_ports(count: int) -> list[int]:
    """So many different ones, free a moment ago."""
    with ExitStack() as probes:
        ports = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports
