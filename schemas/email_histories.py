"""What FindRecipients tells a person: what happened to them, and what became known of who they are."""

import msgspec

from schemas.email_logs import LogLine


class KnownUser(msgspec.Struct, array_like=True, gc=False):
    """A user_id is the person's, or is theirs no more."""

    workspace_id: str
    person_id: str
    user_id: str
    version: int
    """Of the identity update that says so: of one user_id at one person the highest holds, see `holder`."""
    at: int
    """Since when the user_id is known at all, in microseconds since 1970."""
    is_theirs: bool = True
    former: list[str] = []
    """The persons whose it was before: they have been identified by it."""
    holder: str = ""
    """Whose it is, if it is not theirs and somebody's: one version may come for two persons."""


class MovedHistory(msgspec.Struct, array_like=True, gc=False):
    """What is remembered of an address whose person has changed: the new person has lived all of it."""

    workspace_id: str
    person_id: str
    former: list[str]
    """The persons under whose ids calls of this address were sent."""
    email: str
    facts: list[bytes]
    """What transforms/logic/email_facts.py makes of opens and clicks."""
    awaiting: list[LogLine]
    """First clicks of emails without an open."""
    touched_at: int
    """When the last of it arrived, in microseconds since 1970."""


class PersonBlock(msgspec.Struct, array_like=True, gc=False):
    """What concerns the persons of one shard; `person_id` of each line is set."""

    lines: list[LogLine]
    users: list[KnownUser] = []
    histories: list[MovedHistory] = []
