"""What decides who is who and may differ between customers: blocked values, limits and priorities."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

from schemas.identities import IdentifierType

# Values that clients send when they know nobody. Segment suggests `[0-]*`, -1, null and anonymous
# (https://segment.com/docs/unify/identity-resolution/identity-resolution-settings/#blocked-values); the others are what
# JavaScript makes of nothing.
BLOCKED_VALUES = ("-1", "null", "none", "undefined", "anonymous", "unknown", "[object Object]", "NaN")
BLOCKED_PATTERNS = ("[0-]*",)

# Segment's default for every identifier but user_id:
# https://segment.com/docs/unify/identity-resolution/identity-resolution-settings/#limit. A shared inbox or a shared
# login has more and must not make one person of a company.
MAX_EMAILS_PER_USER_ID = 5
MAX_USER_IDS_PER_EMAIL = 5


@dataclass(frozen=True)
class IdentityRules:
    """The rules of one run. Changing them concerns what is learned from then on: a link that was made stays."""

    emails_per_user_id: int = MAX_EMAILS_PER_USER_ID
    """A user_id links to no more emails than this; see `AdmitLinks` in transforms/logic/graph_steps.py."""
    user_ids_per_email: int = MAX_USER_IDS_PER_EMAIL
    """An email links to no more user_ids than this."""
    blocked_values: tuple[str, ...] = BLOCKED_VALUES
    """Texts that identify nobody, in any case."""
    blocked_patterns: tuple[str, ...] = BLOCKED_PATTERNS
    """Regular expressions; what they match from end to end, in any case, identifies nobody."""
    priority: tuple[str, ...] = field(default_factory=lambda: tuple(IdentifierType))
    """All identifier types, strongest first: a call counts for the strongest that it carries."""
    # Not cached properties, which take twice as long to read; these are for each identifier of each call.
    _values: frozenset[str] = field(init=False, repr=False, compare=False)
    _patterns: tuple[Callable[[str], re.Match[str] | None], ...] = field(init=False, repr=False, compare=False)
    """Each on its own: joined into one, their groups would be numbered anew and a back reference be another's."""

    def __post_init__(self) -> None:
        """Prepare what `is_blocked` asks."""
        patterns = (re.compile(pattern, re.IGNORECASE).fullmatch for pattern in self.blocked_patterns)
        object.__setattr__(self, "_values", frozenset(value.lower() for value in self.blocked_values))
        object.__setattr__(self, "_patterns", tuple(patterns))

    def is_blocked(self, identifier: str) -> bool:
        """Whether the value never identifies anyone."""
        if identifier.lower() in self._values:
            return True
        # not any(): a loop costs half of a generator
        for matches in self._patterns:  # noqa: SIM110
            if matches(identifier) is not None:
                return True
        return False

    @cached_property
    def read_identifiers(self) -> Callable[[object], tuple[str | None, ...]]:
        """From a call to its identifiers, strongest first."""
        return attrgetter(*(str(identifier_type) for identifier_type in self.priority))


DEFAULT_RULES = IdentityRules()
