"""The arguments of methods as Beam wants to know them, without looking them up thousands of times."""

from functools import cache
from types import MethodType
from typing import Any, TypeAlias

from apache_beam.transforms import core

_Arguments: TypeAlias = tuple[list[str], list[Any]]
"""Their names, and the defaults of the last of them."""

_look_up = core.get_function_args_defaults
_look_up_once = cache(_look_up)


def remember_arguments() -> None:
    """Let Beam look up the arguments of each method of a class once.

    It asks for those of every method of a DoFn several times a step, in the run and in each of its workers: 7,000 times
    for the 30 steps of a job over files, and two fifths of what such a job of ten lines takes after the imports.
    """
    beam_core: Any = core
    beam_core.get_function_args_defaults = find_arguments


def find_arguments(function: Any) -> _Arguments:
    """What Beam's function of the name that it replaces gives: without the argument that a method is bound to."""
    if not isinstance(function, MethodType):
        return _look_up(function)
    names, defaults = _look_up_once(function.__func__)
    return names[1:], list(defaults)
