"""How well resolved persons match true ones, as pairs of identifiers."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from math import comb
from typing import Any

import msgspec


class Score(msgspec.Struct, frozen=True):
    """Both are 1 where nothing was asked."""

    precision: float
    """Of the pairs that were put into one person, the share that belongs together."""
    recall: float
    """Of the pairs that belong together, the share that was put into one person."""


def score_persons(true: Mapping[Any, Hashable], resolved: Mapping[Any, Hashable]) -> Score:
    """Both are identifier -> person. An identifier that was not resolved is a person of its own."""
    found = {identifier: resolved.get(identifier, ("alone", identifier)) for identifier in true}
    both = _pairs((true[identifier], found[identifier]) for identifier in true)
    resolved_pairs, true_pairs = _pairs(found.values()), _pairs(true.values())
    return Score(
        precision=both / resolved_pairs if resolved_pairs else 1.0,
        recall=both / true_pairs if true_pairs else 1.0,
    )


def _pairs(persons: Iterable[Hashable]) -> int:
    return sum(comb(size, 2) for size in Counter(persons).values())
