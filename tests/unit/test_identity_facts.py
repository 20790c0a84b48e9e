"""Facts as they travel: every type of node comes back, as the one object that stands for it."""

import pytest

from schemas.identities import PERSON_ID, IdentifierType
from schemas.identity_facts import Met, Same, Seen, decode_facts, encode_facts
from transforms.logic.name_persons import email_name, prior_name, user_name, warehouse_name

CAUSE = ("m1", 7)


@pytest.mark.parametrize("node_type", [*(each.value for each in IdentifierType), PERSON_ID])
def test_every_type_of_node_travels(node_type: str) -> None:
    met = Met(("w1", node_type, "one"), ("w2", node_type, "other"), CAUSE)

    found, again = decode_facts([encode_facts([met]), encode_facts([met])])

    assert found == again == met
    assert isinstance(found, Met)
    assert found.node[1] is found.partner[1] is again.node[1]


def test_every_name_travels() -> None:
    names = email_name("ann@example.com", 5), user_name("u1"), warehouse_name("P1"), prior_name("P2")
    facts = [Seen(("w1", "email", "a@x"), name, CAUSE) for name in names]
    same = Same(("w1", "", ""), names[0], names[1], CAUSE)

    assert decode_facts([encode_facts([*facts, same])]) == [*facts, same]
