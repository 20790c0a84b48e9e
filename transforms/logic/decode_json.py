"""JSON objects that `parse_call` has let through, as Python values, whatever numbers stand in them."""

import json
import math
from typing import Any

import msgspec

_FAST = msgspec.json.Decoder(dict[str, Any])


def decode_object(text: str) -> dict[str, Any]:
    """The object in `text`. A number that no double can hold (1e999) comes out as its own text: it is not lost."""
    try:
        return _FAST.decode(text)
    except msgspec.ValidationError:
        decoded: dict[str, Any] = json.loads(text, parse_int=_read_integer, parse_float=_read_float)
        return decoded


def _read_integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 300 else digits


def _read_float(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits
