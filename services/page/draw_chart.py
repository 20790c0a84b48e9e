"""The geometry of the charts. Drawn by the template as SVG with classes only: no script and no style within.

Widths are percentages and heights are pixels, so a chart fits any screen and its text keeps its size. (pygal was tried
first: its charts carry a script and a style sheet within, and their text shrinks with the screen.)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from services.page.fold_traffic import CALL_TYPES, OTHER, Period, Series
from services.page.say_times import SECOND, to_datetime

PLOT_HEIGHT = 200
"""Pixels."""
GREY = 7
_GAP = 0.18
"""Of a bar's width, between bars."""


class Bar(NamedTuple):
    """One type within one column."""

    series: int
    """Which of the series, from 0."""
    y: float
    height: float
    """Pixels, from the top."""


class Column(NamedTuple):
    """All that came within one bucket."""

    x: float
    width: float
    """Percent."""
    title: str
    bars: list[Bar]


class Tick(NamedTuple):
    """A label at an axis."""

    place: float
    """Percent from the left, or pixels from the top."""
    label: str
    is_minor: bool = False
    """Left out on narrow screens."""


class Chart(NamedTuple):
    """Stacked columns over time."""

    columns: list[Column]
    times: list[Tick]
    rates: list[Tick]
    height: int


def draw_chart(series: Sequence[Series], period: Period, start: int) -> Chart:
    """Messages per minute over the period that begins at `start`, in microseconds since 1970."""
    minutes = period.bucket_seconds / 60
    sums = [sum(each.counts[bucket] for each in series) for bucket in range(period.buckets)]
    top = find_top(max(sums, default=0) / minutes)
    scale = PLOT_HEIGHT / (top * minutes)
    step = 100 / period.buckets
    columns = []
    for bucket, total in enumerate(sums):
        if not total:
            continue
        bars, y = [], float(PLOT_HEIGHT)
        for number, each in enumerate(series):
            height = each.counts[bucket] * scale
            if height > 0:
                y -= height
                bars.append(Bar(number, round(y, 2), round(height, 2)))
        parts = ", ".join(f"{each.type} {each.counts[bucket]:,}" for each in series if each.counts[bucket])
        title = f"{say_bucket(period, start, bucket)}: {parts}"
        columns.append(Column(round(bucket * step, 3), round(step * (1 - _GAP), 3), title, bars))
    return Chart(columns, _find_times(period, start), _find_rates(top), PLOT_HEIGHT)


def pick_colours(series: Sequence[Series]) -> list[int]:
    """A colour for each, from 0 to 7: that of its call type, whatever else is shown; `other` is grey, the last one."""
    fixed = {name: number for number, name in enumerate(CALL_TYPES)} | {OTHER: GREY, "unknown": GREY}
    taken = {fixed[each.type] for each in series if each.type in fixed}
    free = iter([colour for colour in range(GREY) if colour not in taken] + [GREY] * len(series))
    return [fixed[each.type] if each.type in fixed else next(free) for each in series]


def say_bucket(period: Period, start: int, bucket: int) -> str:
    """When a bar begins, as a person reads it."""
    then = to_datetime(start + bucket * period.bucket_seconds * SECOND)
    return f"{then:%a} {then.day} {then:%b, %H:%M}" if period is Period.WEEK else f"{then:%H:%M}"


def find_top(value: float) -> float:
    """The end of the scale: a round number not much above the value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15) if step * power >= value * (1 - 1e-9))


def _find_rates(top: float) -> list[Tick]:
    return [Tick(PLOT_HEIGHT * (1 - share), _say_rate(top * share)) for share in (0, 0.5, 1)]


def _say_rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate == int(rate) else f"{rate:.3g}"


def _find_times(period: Period, start: int) -> list[Tick]:
    every = {Period.HOUR: 10 * 60, Period.DAY: 3 * 3600, Period.WEEK: 24 * 3600}[period]
    length = period.buckets * period.bucket_seconds
    first = -(start // SECOND) % every
    ticks = []
    for number, second in enumerate(range(first, length, every)):
        then = to_datetime(start + second * SECOND)
        label = f"{then:%a} {then.day}" if period is Period.WEEK else f"{then:%H:%M}"
        ticks.append(Tick(round(100 * second / length, 3), label, bool(number % 2)))
    return ticks


SPARK_BOX = (96, 24)
"""Width and height of the tiny chart of a row."""


def draw_spark(hours: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """A bar an hour, by the row's own scale: x, y, width and height. An hour with anything in it is seen."""
    width, height = SPARK_BOX
    step, top = width / max(1, len(hours)), max(hours, default=0)
    return [
        (round(place * step, 2), round(height - tall, 2), round(step - 1, 2), round(tall, 2))
        for place, count in enumerate(hours)
        if count > 0
        for tall in [max(1.5, height * count / top)]
    ]
