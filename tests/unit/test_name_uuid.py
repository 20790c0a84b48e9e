import uuid

from hypothesis import given
from hypothesis import strategies as st

from transforms.logic.name_uuid import UuidNamespace

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "example.com")
NAMES = UuidNamespace(NAMESPACE)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_name_is_that_of_the_standard_library(name: str) -> None:
    assert NAMES.name(name.encode()) == str(uuid.uuid5(NAMESPACE, name))
