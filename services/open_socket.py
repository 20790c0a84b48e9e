"""The socket on which a server listens."""

import socket


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on a name or an address of either family. Raises OSError, also for a port that is none."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OverflowError:
        raise OSError("a port lies between 0 and 65535") from None


def find_url(host: str, listening: socket.socket) -> str:
    """Where the server is."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"
