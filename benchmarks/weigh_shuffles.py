"""What enters the shuffles of a pipeline while it runs: elements, and bytes as the pipeline's own coders make them.

A step before each shuffle encodes every element as it would travel, with its key, its window and its times, and gives
it on. What a service adds for itself, or takes away by compressing once more, is not seen.
"""

import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.coders import WindowedValueCoder
from apache_beam.coders.typecoders import registry
from apache_beam.pvalue import PCollection
from apache_beam.transforms.core import _MultiParDo
from apache_beam.transforms.userstate import is_stateful_dofn

from benchmarks.list_shuffles import short_name


class Weight(msgspec.Struct):
    """What entered a shuffle."""

    elements: int = 0
    bytes: int = 0


_lock = threading.Lock()
_weights: dict[str, Weight] = {}


def take_weights() -> dict[str, Weight]:
    """Step -> what entered its shuffle since the last time."""
    with _lock:
        taken = dict(_weights)
        _weights.clear()
    return taken


class WeighingPipeline(beam.Pipeline):
    """A pipeline that weighs what enters its shuffles, in this process."""

    def apply(self, transform: Any, pvalueish: Any = None, label: str | None = None) -> Any:
        """As Beam's; a step that shuffles gets another before it."""
        if label is None and isinstance(pvalueish, PCollection) and self._shuffles(transform):
            name = "/".join(part for part in (self._current_transform().full_label, transform.label) if part)
            coder = WindowedValueCoder(
                registry.get_coder(pvalueish.element_type), pvalueish.windowing.windowfn.get_window_coder()
            )
            weigh = beam.ParDo(_WeighFn(short_name(name), coder)).with_output_types(pvalueish.element_type)
            pvalueish = super().apply(weigh, pvalueish, f"Weigh{transform.label}")
        return super().apply(transform, pvalueish, label)

    def _shuffles(self, transform: Any) -> bool:
        outer = self._current_transform().transform
        if isinstance(transform, beam.GroupByKey):
            return not any(isinstance(each.transform, beam.CombinePerKey) for each in self.transforms_stack)
        if isinstance(outer, _MultiParDo):  # weighed before, as a whole: Beam takes its first part for the ParDo
            return False
        inner = transform._do_transform if isinstance(transform, _MultiParDo) else transform
        is_stateful = isinstance(inner, beam.ParDo) and is_stateful_dofn(inner.fn)
        return is_stateful or isinstance(transform, beam.CombinePerKey)


class _WeighFn(beam.DoFn):
    def __init__(self, name: str, coder: WindowedValueCoder) -> None:
        self._name = name
        self._coder = coder

    def start_bundle(self) -> None:
        self._weight = Weight()

    def process(self, element: Any, windowed: Any = beam.DoFn.WindowedValueParam) -> Iterator[Any]:
        self._weight.elements += 1
        self._weight.bytes += len(self._coder.encode(windowed))
        yield element

    def finish_bundle(self) -> None:
        with _lock:
            weight = _weights.setdefault(self._name, Weight())
            weight.elements += self._weight.elements
            weight.bytes += self._weight.bytes
