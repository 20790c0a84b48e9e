"""The windows in which a stream waits: fixed ones, by arrival."""

import apache_beam as beam
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Duration

# Late data is never dropped (contract section 3). Beam wants a number: longer than any backlog that Pub/Sub can hold.
ALLOWED_LATENESS = Duration(seconds=400 * 24 * 3600)

# What is late waits for this long, for whatever comes with it: a call for the news of its caller, which takes the way
# through the graph. The windows behind it should not have to wait for what it tells.
LATE_SECONDS = 2


def window_by_arrival(window_seconds: int) -> beam.WindowInto:
    """Windows that end with the watermark; what comes late waits together for a moment."""
    return _window(window_seconds, AfterProcessingTime(LATE_SECONDS))


def stay_in_window(window_seconds: int) -> beam.WindowInto:
    """The same windows for what has waited in them before: late data goes on at once."""
    return _window(window_seconds, AfterCount(1))


def _window(window_seconds: int, late: AfterCount | AfterProcessingTime) -> beam.WindowInto:
    return beam.WindowInto(
        FixedWindows(window_seconds),
        trigger=AfterWatermark(late=late),
        accumulation_mode=AccumulationMode.DISCARDING,
        allowed_lateness=ALLOWED_LATENESS,
    )
