"""Who is who, in the words that both baselines share; how each finds it is its own."""

import uuid
from typing import TypeAlias

# The pipeline's, written down again: an id that changed would be found by the comparison.
PERSON_NAMESPACE = uuid.UUID("0f6a5c0b-3c2e-5b7d-8f59-6a4de1a90d21")

Node: TypeAlias = tuple[str, str]
"""Identifier type and identifier."""

Claim: TypeAlias = tuple[int, int, Node]
"""When an anonymous_id was seen with a node, and how strong that is; the smallest claim wins."""


def name_person(workspace_id: str, first_email: str) -> str:
    """The id of the person whose earliest email this is."""
    return str(uuid.uuid5(PERSON_NAMESPACE, f"{workspace_id}\n{first_email}"))
