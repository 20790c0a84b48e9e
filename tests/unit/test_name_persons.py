from tests.unit.identity_oracle import person_id_of
from transforms.logic import name_persons
from transforms.logic.name_persons import email_name, prior_name, user_name, warehouse_name


def test_an_email_gives_a_uuid_of_version_5_whatever_its_digest() -> None:
    emails = [f"é{number}@x" for number in range(200)]

    named = {email: name_persons.person_id_of("w1", email_name(email, 0)) for email in emails}

    assert named == {email: person_id_of(email, "w1") for email in emails}
    assert {person_id[19] for person_id in named.values() if person_id} == set("89ab")


def test_a_warehouse_gives_its_own_id_and_other_names_give_none() -> None:
    names = [warehouse_name("P1"), user_name("u1"), prior_name("P1")]

    assert [name_persons.person_id_of("w1", name) for name in names] == ["P1", None, None]
