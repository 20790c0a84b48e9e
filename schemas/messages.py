"""A message as it was read, before anything is known about it."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class Message(msgspec.Struct, array_like=True, gc=False):
    """One message: a Pub/Sub message or one line of a file."""

    payload: bytes
    attributes: Mapping[str, str]
    """Pub/Sub attributes; the pipeline reads `workspace_id`, `connection_id` and `received_at`."""
    published_at: int | None
    """Pub/Sub's publish time in microseconds since 1970; None for a line of a file."""


class MessageBlock(NamedTuple):
    """Some messages that travel as one element."""

    messages: list[Message]
    source: str
    """The subscription or the file they were read from."""
    read_at: int
    """When they were read, in microseconds since 1970: what stands for the arrival of a line that has no receivedAt."""
