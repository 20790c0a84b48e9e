"""Whatever can happen to signed bytes on their way: one bit turned, anywhere."""

from collections.abc import Iterator


def flips(text: bytes) -> Iterator[bytes]:
    """The bytes with one bit turned, for each bit in them."""
    for place in range(8 * len(text)):
        turned = bytearray(text)
        turned[place // 8] ^= 1 << place % 8
        yield bytes(turned)
