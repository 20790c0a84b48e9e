"""API keys: made, hashed and checked. A key is shown once, to who asked for it, and kept only as a salted hash."""

import hashlib
import hmac
import re
import secrets

from schemas.connections import ApiKey

SALT_BYTES = 16
HASH_BYTES = 32
# A key is 256 random bits: nobody guesses it, so a fast hash protects it as well as a slow one would, and the door
# checks it with each request (OWASP asks for slow hashes of what people choose:
# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html).
SECRET_BYTES = 32
KEY_ID_BYTES = 6

PREFIX = "sw"
"""Marks our keys, so that scanners for leaked secrets can find them."""

_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * KEY_ID_BYTES}}})_[A-Za-z0-9_-]{{43}}")
_NOBODY = ApiKey("", bytes(SALT_BYTES), bytes(HASH_BYTES), 0)


def make_key(now: int) -> tuple[str, ApiKey]:
    """A new key: the text to be shown once, and what is kept of it. `now` is in microseconds since 1970."""
    key_id = secrets.token_hex(KEY_ID_BYTES)
    text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    salt = secrets.token_bytes(SALT_BYTES)
    return text, ApiKey(key_id, salt, hash_key(text, salt), now)


def find_key_id(text: str) -> str | None:
    """The public part of what may be a key; None if it cannot be one."""
    found = _KEY.fullmatch(text)
    return found[1] if found else None


def hash_key(text: str, salt: bytes) -> bytes:
    """What is kept of a key's text."""
    return hashlib.blake2b(text.encode(), salt=salt, digest_size=HASH_BYTES).digest()


def is_key(text: str, kept: ApiKey | None) -> bool:
    """Whether the text is the key of which `kept` is kept; takes as long if there is none."""
    compared = kept or _NOBODY
    return hmac.compare_digest(hash_key(text, compared.salt), compared.hash) and kept is not None
