"""Transforms with more than one input or output."""

from collections.abc import Callable
from typing import Any, TypeVar

from apache_beam.typehints.decorators import no_annotations

Expand = TypeVar("Expand", bound=Callable[..., Any])


def gives_several(expand: Expand) -> Expand:
    """Mark an `expand` that gives or takes several PCollections: Beam reads its annotation and would warn of it."""
    no_annotations(expand)
    return expand
