"""What other systems are told when an email or a user_id changes hands."""

import msgspec


class IdentityUpdate(msgspec.Struct, frozen=True, gc=False):
    """One change, as JSON on a topic or on a line of a file. Exactly one of `user_id` and `email` is set.

    Updates may arrive in any order and more than once: of an identifier the highest version holds.
    """

    workspace_id: str
    person_id: str | None
    """The person that it belongs to from now on; null if it belongs to none any more."""
    user_id: str | None
    email: str | None
    """Lower-cased and trimmed."""
    at: str
    """The version as a time: ISO 8601 in UTC with microseconds."""
    version: int
    """As in the table `identities`."""
