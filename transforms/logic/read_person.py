"""From the values of a row of the customer's person table to a person, or to nothing that could be used."""

from decimal import Decimal

from schemas.identities import WarehousePerson
from schemas.identity_rules import IdentityRules
from transforms.logic.parse_call import normalise_email
from transforms.logic.read_wire import read_id


def read_person(
    person_id: object, email: object, workspace_id: object, default_workspace_id: str, rules: IdentityRules
) -> WarehousePerson | None:
    """The person of a row; None if the email or the person_id is missing, is none, or is blocked.

    Numbers become text as they do in calls, also those that a file has as 12.0 or as decimals.
    """
    address = normalise_email(email)
    identifier = _read_id(person_id)
    if address is None or identifier is None or rules.is_blocked(address) or rules.is_blocked(identifier):
        return None
    return WarehousePerson(_read_id(workspace_id) or default_workspace_id, address, identifier)


def _read_id(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, Decimal) and value.is_finite():
        return str(int(value)) if value == int(value) else str(value)
    if isinstance(value, float) and value - value != 0:  # not a number, or infinite
        return None
    return read_id(value)
