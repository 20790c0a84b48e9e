from argparse import ArgumentParser
from functools import wraps
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.transforms import core
from apache_beam.transforms.userstate import BagStateSpec

from pipelines.find_arguments import find_arguments
from pipelines.runners import make_options

beam_finds = core.get_function_args_defaults


def described(method: Any) -> Any:
    @wraps(method)
    def call(*values: Any) -> Any:
        return method(*values)

    return call


class EveryKindOfMethod(beam.DoFn):
    BAG = BagStateSpec("bag", BytesCoder())

    def process(self, element: str, window: Any = beam.DoFn.WindowParam, bag: Any = beam.DoFn.StateParam(BAG)) -> None:
        """State, a window and no answer."""

    def only_self(self) -> None: ...

    def with_stars(self, *values: str, by_name: int = 1, **rest: str) -> None: ...

    def stars_alone(*values: str) -> None: ...

    @described
    def wrapped(self, first: str, second: int = 2) -> None: ...

    @classmethod
    def of_the_class(cls, first: str, second: int = 2) -> None: ...

    @staticmethod
    def of_nobody(first: str, second: int = 2) -> None: ...


@pytest.mark.parametrize("name", [name for name in vars(EveryKindOfMethod) if name.islower() and name[0] != "_"])
def test_the_arguments_are_those_that_beam_finds_each_time(name: str) -> None:
    for method in (getattr(EveryKindOfMethod(), name), getattr(EveryKindOfMethod(), name)):
        assert find_arguments(method) == beam_finds(method)


@pytest.mark.parametrize("function", [len, str.upper, lambda one, two=2: one, EveryKindOfMethod, [].append])
def test_what_is_no_method_is_asked_each_time(function: Any) -> None:
    assert find_arguments(function) == beam_finds(function)


def test_what_somebody_does_with_the_lists_is_their_own() -> None:
    names, defaults = find_arguments(EveryKindOfMethod().process)
    names.clear()
    defaults.clear()

    assert find_arguments(EveryKindOfMethod().process) == beam_finds(EveryKindOfMethod().process)


def test_a_local_run_asks_once_for_each_method_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "get_function_args_defaults", beam_finds)

    make_options([], ArgumentParser(), input_files="calls.jsonl")

    assert core.get_function_args_defaults is find_arguments
