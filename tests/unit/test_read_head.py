import base64

import pytest

from services.read_head import Head, read_head

KEY = "sw_0123456789ab_x"


def basic(text: str) -> bytes:
    return base64.b64encode(text.encode())


@pytest.mark.parametrize(
    "header",
    [
        b"Basic " + basic(f"{KEY}:"),
        b"bAsIc  " + basic(f"{KEY}:") + b" ",
        b"Basic " + basic(KEY),
        b"Basic " + basic(f"{KEY}:a:password"),
    ],
)
def test_the_key_is_the_user_name_whatever_the_password(header: bytes) -> None:
    assert read_head([(b"authorization", header)]).key == KEY


@pytest.mark.parametrize("header", [b"", b"Bearer " + basic(KEY), b"Basic", b"Basically " + basic(KEY)])
def test_another_scheme_brings_no_key(header: bytes) -> None:
    assert read_head([(b"authorization", header)]).key is None


@pytest.mark.parametrize(
    "header",
    [b"Basic ", b"Basic !", b"Basic \xff", b"Basic /w==", b"Basic !" + basic(f"{KEY}:"), b"Basic " + basic(KEY)[:-1]],
)
def test_what_is_no_base64_is_a_wrong_key_and_not_none_at_all(header: bytes) -> None:
    assert read_head([(b"authorization", header)]).key == ""


def test_of_headers_that_come_twice_the_first_counts() -> None:
    wanted = [(b"authorization", b"Basic " + basic(KEY)), (b"content-encoding", b" GZip\t"), (b"content-length", b"1")]
    others = [(b"authorization", b"Basic eA=="), (b"content-encoding", b"br"), (b"content-length", b"2")]

    assert read_head(wanted + others) == Head(KEY, b"gzip", b"1")


def test_a_head_may_say_nothing() -> None:
    assert read_head([]) == Head(None, b"identity", None)
