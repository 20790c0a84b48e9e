"""The windows in which a stream waits: fixed ones, by arrival."""

import apache_beam as beam
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Duration

# Late data is never dropped (contract section 3). Beam wants a number: longer than any backlog that Pub/Sub can hold.
ALLOWED_LATENESS = Duration(seconds=400 * 24 * 3600)


def window_by_arrival(window_seconds: int) -> beam.WindowInto:
    """Windows that end with the watermark. What is late has waited enough, and goes on at once."""
    return beam.WindowInto(
        FixedWindows(window_seconds),
        trigger=AfterWatermark(late=AfterCount(1)),
        accumulation_mode=AccumulationMode.DISCARDING,
        allowed_lateness=ALLOWED_LATENESS,
    )
