"""The runner of local streams: Beam's BundleBasedDirectRunner, without what it does anew for every bundle.

That runner takes each bundle through each step of the graph on one thread. Profiles of a stream of calls showed where
nine tenths of its time went, and none of it was the steps' own work:

- each step, at each bundle, pickled its DoFn, looked through its signature and set it up: here a DoFn is kept from
  bundle to bundle, as other runners do, and after a failure replaced by a new one;
- bundles without elements ran through all the steps that follow: here they end where they begin;
- a window's key kept several cells of state for ever, and state was copied deeply at every bundle: here the groups of
  fixed windows wait in a dict and are gone when their window has fired, and only what a bundle may change is copied;
- each step's timers were looked through after each bundle of any other: here only if something has changed;
- its reader of Pub/Sub: pipelines/local_streaming.py says what is different.

What it computes is the same: the tests of pipelines run on it. Whatever is not named here is Beam's own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy, deepcopy
from typing import Any

import apache_beam as beam
from apache_beam.coders.typecoders import registry
from apache_beam.internal import pickler
from apache_beam.pipeline import PTransformOverride
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.runners import common
from apache_beam.runners.direct import evaluation_context, transform_evaluator
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner, _StreamingGroupAlsoByWindow
from apache_beam.runners.direct.direct_userstate import DirectUserStateContext
from apache_beam.runners.direct.util import TransformResult
from apache_beam.runners.direct.watermark_manager import WatermarkManager
from apache_beam.transforms import core, userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark, Always, DefaultTrigger
from apache_beam.transforms.userstate import is_stateful_dofn
from apache_beam.transforms.window import FixedWindows, GlobalWindow, GlobalWindows, TimestampCombiner
from apache_beam.utils import counters
from apache_beam.utils.timestamp import TIME_GRANULARITY, Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming, WindowedValue

from pipelines.local_streaming import LocalSubscription
from pipelines.read import ReadSubscription
from schemas.messages import MessageBlock

_ON_TIME = PaneInfo(True, False, PaneInfoTiming.ON_TIME, 0, 0)
_LATE = PaneInfo(False, False, PaneInfoTiming.LATE, 1, 1)


class LocalStreamingRunner(BundleBasedDirectRunner):
    """Runs a stream in this process."""

    def run_pipeline(self, pipeline: Any, options: Any) -> Any:
        """As Beam's own, with our evaluators."""
        pipeline.replace_all([_ReadInBlocks()])
        with (
            _replaced(evaluation_context, "EvaluationContext", _Context),
            _replaced(transform_evaluator, "TransformEvaluatorRegistry", _Registry),
            _replaced(userstate, "get_dofn_specs", _remember(userstate.get_dofn_specs)),
        ):
            result = super().run_pipeline(pipeline, options)
        running: Any = result._executor
        running.await_completion = _finally(running.await_completion, result._evaluation_context.tear_down)
        return result


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """While a runner is put together, it takes `value` for what the module calls by this name."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _remember(get_specs: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A DoFn's state and timers, looked up once: Beam looks through all its methods each time that it asks."""
    known: dict[int, tuple[Any, Any]] = {}

    def get_known_specs(dofn: Any) -> Any:
        if id(dofn) not in known:
            known[id(dofn)] = get_specs(dofn), dofn  # which is held, so that no other one gets its id
        return known[id(dofn)][0]

    return get_known_specs


def _finally(function: Callable[[], None], afterwards: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            function()
        finally:
            afterwards()

    return run


class _ReadBlocks(beam.PTransform):
    """What stands for ReadSubscription: `_ReadEvaluator` reads."""

    def __init__(self, subscription: str, window_seconds: int) -> None:
        super().__init__()
        self.subscription = subscription
        self.window_seconds = window_seconds

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        blocks: Any = PCollection
        return blocks(begin.pipeline, element_type=MessageBlock, is_bounded=False)  # type: ignore[no-any-return]

    def get_windowing(self, inputs: Any) -> beam.Windowing:
        """All blocks begin in one."""
        return beam.Windowing(GlobalWindows())


class _ReadInBlocks(PTransformOverride):
    """Puts `_ReadBlocks` in the place of ReadSubscription."""

    def matches(self, applied_ptransform: Any) -> bool:
        """Whether a step is one."""
        return isinstance(applied_ptransform.transform, ReadSubscription)

    def get_replacement_transform_for_applied_ptransform(self, applied_ptransform: Any) -> beam.PTransform:
        """What reads in its place."""
        own = applied_ptransform.transform
        return _ReadBlocks(own.subscription, own.window_seconds)


class _ReadEvaluator(transform_evaluator._TransformEvaluator):  # type: ignore[misc, name-defined, unused-ignore]
    """Reads what a subscription has. The runner asks when there is nothing else to do."""

    def process_element(self, element: Any) -> None:
        """There is none."""

    def finish_bundle(self) -> Any:
        """A bundle of blocks, and the wish to be asked again."""
        step: Any = self._applied_ptransform
        context: Any = self._evaluation_context
        if step not in context.subscriptions:
            read = step.transform
            context.subscriptions[step] = LocalSubscription(read.subscription, read.window_seconds)
        subscription = context.subscriptions[step]
        (output,) = self._outputs
        bundle = context.create_bundle(output)
        for earliest, block in subscription.read():
            bundle.output(GlobalWindows.windowed_value(block, timestamp=Timestamp(micros=earliest)))
        again = context.create_bundle(PBegin(step.transform.pipeline))
        return TransformResult(self, [bundle], [again], None, {None: Timestamp(micros=subscription.watermark)})


class _State(evaluation_context.DirectUnmergedState):  # type: ignore[misc, name-defined, unused-ignore]
    """The state of a key. A bundle writes to a copy of it, and what it holds is never changed in place."""

    def copy(self) -> "_State":
        """What Beam copies deeply for each key of each bundle: timers are times, and values are encoded."""
        clone = _State()
        if self.global_state:
            clone.global_state = deepcopy(self.global_state)
        for window, timers in self.timers.items():
            clone.timers[window] = dict(timers)
        for window, cells in self.state.items():
            clone.state[window].update((tag, copy(values)) for tag, values in cells.items())
        return clone


class _StepContext(evaluation_context.DirectStepContext):  # type: ignore[misc, name-defined, unused-ignore]
    """The states of a step in one bundle."""

    def get_keyed_state(self, key: bytes | None) -> _State:
        """The bundle's copy of a key's state."""
        state: _State | None = self.partial_keyed_state.get(key)
        if state is None:
            whole = self.existing_keyed_state.get(key)
            if whole is None:
                whole = self.existing_keyed_state[key] = _State()
            state = self.partial_keyed_state[key] = whole.copy()
        return state


class _Context(evaluation_context.EvaluationContext):  # type: ignore[misc, name-defined, unused-ignore]
    """What the evaluators of a pipeline share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: dict[Any, _KeptFn] = {}
        """Step -> its DoFn."""
        self.waiting: dict[Any, dict[Any, dict[bytes, list[Any]]]] = {}
        """Step -> window -> encoded key -> values."""
        self.subscriptions: dict[Any, LocalSubscription] = {}
        """Step -> what it reads."""
        self._quiet: dict[Any, Any] = {}
        """Steps that had no timer to fire -> their watermark at that time."""

    def get_execution_context(self, applied_ptransform: Any) -> Any:
        """What one bundle sees of a step."""
        context: Any = super().get_execution_context(applied_ptransform)
        context._step_context = _StepContext(context.keyed_states)
        return context

    def handle_result(self, completed_bundle: Any, completed_timers: Any, result: Any) -> Any:
        """Commit a bundle; those of its outputs that hold anything."""
        committed = super().handle_result(completed_bundle, completed_timers, result)
        self._quiet.pop(result.transform, None)
        return [bundle for bundle in committed if bundle.has_elements()]

    def extract_all_timers(self) -> tuple[list[Any], bool]:
        """The timers that fire, by step, and whether any waits for a time of day."""
        firing: list[Any] = []
        has_realtime_timer = False
        for step, watermarks in self._watermark_manager._transform_to_watermarks.items():
            if not watermarks._keyed_states:
                continue
            before = watermarks.input_watermark
            if self._quiet.get(step) == before:
                continue
            timers, has_realtime = watermarks.extract_transform_timers()
            if timers:
                firing.append((step, sorted(timers, key=lambda timer: timer.timestamp)))
            elif not has_realtime:
                self._quiet[step] = before
            has_realtime_timer |= has_realtime and watermarks.output_watermark < WatermarkManager.WATERMARK_POS_INF
        return firing, has_realtime_timer

    def tear_down(self) -> None:
        """Nothing runs any more."""
        for kept in self.kept.values():
            kept.tear_down()
        self.kept.clear()
        for subscription in self.subscriptions.values():
            subscription.close()


class _Registry(transform_evaluator.TransformEvaluatorRegistry):  # type: ignore[misc, name-defined, unused-ignore]
    """Which evaluator takes a bundle through a step."""

    def __init__(self, context: _Context) -> None:
        super().__init__(context)
        self._evaluators[_ReadBlocks] = _ReadEvaluator
        self._evaluators[core.ParDo] = _KeptParDoEvaluator
        self._evaluators[_StreamingGroupAlsoByWindow] = _GroupEvaluator
        self._serial: dict[Any, bool] = {}
        self._classes: dict[Any, Any] = {}

    def get_evaluator(self, step: Any, bundle: Any, side_inputs: Any) -> Any:
        """The evaluator of a bundle."""
        if step not in self._classes:
            self._classes[step] = self._choose_class(step)
        return self._classes[step](self._evaluation_context, step, bundle, side_inputs)

    def _choose_class(self, step: Any) -> Any:
        """Beam's own where a step needs what ours do not do."""
        own = next(cls for cls in type(step.transform).mro() if cls in self._evaluators)
        evaluator = self._evaluators[own]
        if evaluator is _GroupEvaluator:
            windowing = step.transform.windowing
            if not _fires_at_the_end(windowing) and not _fires_at_once(windowing):
                return transform_evaluator._StreamingGroupAlsoByWindowEvaluator
        if evaluator is _KeptParDoEvaluator and step.side_inputs:
            return transform_evaluator._ParDoEvaluator
        return evaluator

    def should_execute_serially(self, step: Any) -> bool:
        """Remembered: to find out means to look through the signatures of a DoFn."""
        if step not in self._serial:
            self._serial[step] = super().should_execute_serially(step)
        return self._serial[step]


class _Output(common.Receiver):  # type: ignore[misc, name-defined, unused-ignore]
    """An output of a DoFn: goes to the bundle of the time."""

    def __init__(self) -> None:
        self.add: Any = None

    def receive(self, windowed_value: Any) -> None:
        self.add(windowed_value)


class _KeptFn:
    """The DoFn of a step, set up once."""

    def __init__(self, step: Any, context: _Context, step_context: Any) -> None:
        transform = step.transform
        dofn = pickler.roundtrip(transform.dofn)
        self.is_in_bundle = False
        make_pcollection: Any = PCollection
        self.pcollections: dict[Any, Any] = {}
        self.receivers = transform_evaluator._TaggedReceivers(context)
        for tag in step.outputs:
            self.pcollections[tag] = make_pcollection(None, tag=tag)
            self.pcollections[tag].producer = step
            self.receivers[tag] = _Output()
        self.state_context: Any = None
        self.key_coder: Any = None
        self.timers: dict[str, Any] = {}
        if is_stateful_dofn(dofn):
            hint = step.inputs[0].element_type
            self.key_coder = registry.get_coder(Any if hint in (None, Any) else hint)
            if hint not in (None, Any):
                self.key_coder = self.key_coder.key_coder()
            self.state_context = DirectUserStateContext(step_context, dofn, self.key_coder)
            self.timers = {f"user/{spec.name}": spec for spec in self.state_context.all_timer_specs}
        self.runner = common.DoFnRunner(
            dofn,
            getattr(transform, "args", []),
            getattr(transform, "kwargs", {}),
            [],
            step.inputs[0].windowing,
            tagged_receivers=self.receivers,
            step_name=step.full_label,
            state=common.DoFnState(counters.CounterFactory()),
            user_state_context=self.state_context,
        )
        self.runner.setup()

    def tear_down(self) -> None:
        """It is used no more."""
        with suppress(Exception):  # as Beam has it: the last of its calls, of which nothing depends
            self.runner.teardown()


class _KeptParDoEvaluator(transform_evaluator._ParDoEvaluator):  # type: ignore[misc, name-defined, unused-ignore]
    """Takes bundles through a DoFn that is kept; one whose bundle failed is not."""

    def start_bundle(self) -> None:
        """Begin a bundle."""
        context: Any = self._evaluation_context
        step = self._applied_ptransform
        kept = context.kept.get(step)
        if kept is not None and kept.is_in_bundle:
            kept.tear_down()
            kept = None
        if kept is None:
            kept = context.kept[step] = _KeptFn(step, context, self._step_context)
        self._kept = kept
        self._bundles = {tag: context.create_bundle(pcollection) for tag, pcollection in kept.pcollections.items()}
        for tag, bundle in self._bundles.items():
            bundle.tag = tag
            kept.receivers[tag].add = bundle.add
        self.user_state_context, self.user_timer_map = kept.state_context, kept.timers
        if kept.state_context is not None:
            self.key_coder = kept.key_coder
            kept.state_context.reset()
            kept.state_context.step_context = self._step_context
        self.runner = kept.runner
        kept.is_in_bundle = True
        kept.runner.start()

    def finish_bundle(self) -> Any:
        """End the bundle; what came of it."""
        self.runner.finish()
        if self.user_state_context is not None:
            self.user_state_context.commit()
            self.user_state_context.reset()
        self._kept.is_in_bundle = False
        return TransformResult(self, list(self._bundles.values()), [], [], None)


def _fires_at_the_end(windowing: Any) -> bool:
    """Whether a group is given once, at the end of its window, and what is late at once."""
    trigger = windowing.triggerfn
    is_known = isinstance(trigger, DefaultTrigger) or (
        isinstance(trigger, AfterWatermark)
        and trigger.early is None
        and trigger.late is not None
        and trigger.late.underlying == AfterCount(1)
    )
    return (
        is_known
        and isinstance(windowing.windowfn, FixedWindows)
        and windowing.accumulation_mode == AccumulationMode.DISCARDING
        and windowing.timestamp_combiner == TimestampCombiner.OUTPUT_AT_EOW
    )


def _fires_at_once(windowing: Any) -> bool:
    """Whether a group waits for nothing: a Reshuffle."""
    return (
        isinstance(windowing.triggerfn, Always)
        and isinstance(windowing.windowfn, GlobalWindows)
        and windowing.accumulation_mode == AccumulationMode.DISCARDING
    )


class _GroupEvaluator(transform_evaluator._TransformEvaluator):  # type: ignore[misc, name-defined, unused-ignore]
    """Groups the values of a key by their windows; one timer stands for all keys of a window."""

    def start_bundle(self) -> None:
        """Begin a bundle."""
        step: Any = self._applied_ptransform
        context: Any = self._evaluation_context
        self._windowing = step.transform.windowing
        self._at_once = isinstance(self._windowing.windowfn, GlobalWindows)
        self._waiting = context.waiting.setdefault(step, {})
        self._watermark = self._execution_context.watermarks.input_watermark
        hint: Any = step.outputs[None].element_type
        self._key_coder = registry.get_coder(hint.tuple_types[0] if hint else Any)
        (output,) = self._outputs
        self._bundle = self._evaluation_context.create_bundle(output)

    def process_element(self, element: Any) -> None:
        """Take what one bundle says of a key."""
        item = element.value
        if self._at_once:
            earliest = min(value.timestamp for value in item.elements)
            self._give(item.encoded_key, [value.value for value in item.elements], earliest, GlobalWindow(), _ON_TIME)
            return
        late: dict[Any, list[Any]] = {}
        for value in item.elements:
            (window,) = value.windows
            if self._watermark < window.end:
                if window not in self._waiting:
                    self._waiting[window] = {}
                    state = self._step_context.get_keyed_state(None)
                    state.set_timer(window, "", TimeDomain.WATERMARK, window.end)
                self._waiting[window].setdefault(item.encoded_key, []).append(value.value)
            elif self._watermark <= window.end + self._windowing.allowed_lateness:
                late.setdefault(window, []).append(value.value)
        for window, values in late.items():
            self._give(item.encoded_key, values, window.max_timestamp(), window, _LATE)

    def process_timer(self, timer_firing: Any) -> None:
        """A window is over."""
        window = timer_firing.window
        for encoded_key, values in self._waiting.pop(window, {}).items():
            self._give(encoded_key, values, window.max_timestamp(), window, _ON_TIME)

    def finish_bundle(self) -> Any:
        """What came of it; the watermark waits for the windows that are open."""
        hold = min((window.max_timestamp() - TIME_GRANULARITY for window in self._waiting), default=None)
        return TransformResult(self, [self._bundle], [], None, {None: hold})

    def _give(self, encoded_key: bytes, values: list[Any], timestamp: Any, window: Any, pane: PaneInfo) -> None:
        self._bundle.add(WindowedValue((self._key_coder.decode(encoded_key), values), timestamp, (window,), pane))
