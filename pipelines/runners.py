"""Which runner a run uses, and the options that the pipelines need on it. The only place that asks.

DirectRunner, the default, is a switch in Beam 2.77: it first tries Prism, a Go program that it downloads. A local run
should not depend on that, so bounded input goes to the FnApiRunner and Pub/Sub to the BundleBasedDirectRunner, made
faster (pipelines/local_runner.py): the two that the switch falls back to. Every other runner gets what it is given.
"""

import gc
import logging
import os
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.runner import create_runner

from pipelines.cached_options import CachedOptions
from pipelines.find_arguments import remember_arguments
from pipelines.local_workers import count_workers, make_runner_with_workers
from pipelines.run_worker import end_bundles_at_once
from pipelines.usage import UsageError, suggest_flag

_LOCAL = ("", "DirectRunner")
FNAPI_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
STREAMING_RUNNER = "pipelines.local_runner.LocalStreamingRunner"


def make_options(beam_flags: Sequence[str], ours: ArgumentParser, *, input_files: str | None) -> PipelineOptions:
    """The pipeline's options, from the flags that are not ours.

    `input_files`: their pattern; without it the input is a stream.

    Raises `UsageError` for a flag that Beam doesn't know either: Beam only warns of it.
    """
    _refuse_unknown(beam_flags, ours)
    streaming = input_files is None
    options = CachedOptions(list(beam_flags), streaming=streaming)
    standard = options.view_as(StandardOptions)
    if (standard.runner or "") in _LOCAL:
        standard.runner = STREAMING_RUNNER if streaming else FNAPI_RUNNER
        # Calls, rows, state and the runner form no cycles, and looking for some took an eighth of a stream's time.
        gc.disable()
        if options.view_as(DirectOptions).direct_num_workers < 0:
            raise UsageError("--direct_num_workers is at least 1, or 0 for one a core")
        if input_files is not None and not any(flag.startswith("--direct_num_workers") for flag in beam_flags):
            options.view_as(DirectOptions).direct_num_workers = count_workers(input_files)
        # The embedded worker sizes each entry of its state cache by walking every imported module: 1.5 ms a read.
        worker_handlers.STATE_CACHE_SIZE_MB = 0
        remember_arguments()
        end_bundles_at_once()
        _quieten_logs()
    else:
        gc.enable()  # `answer_early` switched it off
        _check_runner(standard.runner)
    # Functions travel by reference: workers have our packages, and nothing of the main session.
    options.view_as(SetupOptions).save_main_session = False
    return options


def make_runner(options: PipelineOptions) -> Any:
    """The runner for these options if it is more than a name: the FnApiRunner with worker processes. Else None."""
    direct = options.view_as(DirectOptions)
    is_alone = direct.direct_num_workers == 1 or direct.direct_running_mode != "in_memory"
    if options.view_as(StandardOptions).runner != FNAPI_RUNNER or is_alone:
        return None
    return make_runner_with_workers(direct.direct_num_workers or os.cpu_count() or 1)


def is_local(options: PipelineOptions) -> bool:
    """Whether the pipeline runs in this process."""
    return options.view_as(StandardOptions).runner in (FNAPI_RUNNER, STREAMING_RUNNER)


def _check_runner(name: str) -> None:
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError):
        raise UsageError(
            f"--runner: Beam has no {name!r}; DirectRunner runs here, DataflowRunner in the cloud"
        ) from None


def _refuse_unknown(beam_flags: Sequence[str], our_parser: ArgumentParser) -> None:
    parser: Any = pipeline_options._BeamArgumentParser(allow_abbrev=False, conflict_handler="resolve", add_help=False)
    for group in _all_subclasses(PipelineOptions):
        group._add_argparse_args(parser)
    parser.error = _raise_usage_error
    _, unknown = parser.parse_known_args(list(beam_flags))
    if unknown:
        ours = [option for action in our_parser._actions for option in action.option_strings]
        known = ours + [option for action in parser._actions for option in action.option_strings]
        raise UsageError(suggest_flag(unknown[0], known))


def _raise_usage_error(message: str) -> None:
    raise UsageError(message)


def _all_subclasses(cls: Any) -> list[Any]:
    found: list[Any] = []
    for subclass in cls.__subclasses__():
        if "_add_argparse_args" in vars(subclass):
            found.append(subclass)
        found += _all_subclasses(subclass)
    return found


def _quieten_logs() -> None:
    """Beam's own news of a local run is for Beam's developers; warnings of ours and errors stay."""
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
