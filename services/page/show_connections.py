"""The list of connections, and one of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schemas.connections import Connection
from services.page.advice import Advice, advise
from services.page.draw_chart import SPARK_BOX, draw_chart, draw_spark, pick_colours, say_bucket
from services.page.fold_traffic import Period, Series, Traffic, add_up, count_reasons, group_by_type
from services.page.judge_status import MEMORY, RecentTraffic, Status, judge_status
from services.page.mask_payload import mask_payload
from services.page.parts import Parts
from services.page.read_statistics import Overview, Sample, Statistics
from services.page.render import render
from services.page.say_times import DAY
from services.page.write_snippets import PROVIDERS, is_signed

MAX_STRANGERS = 20
"""Rows for ids that no connection has; what more there are is one row."""

NO_TRAFFIC = Traffic([0] * 24, 0, 0)

Show = Callable[[Request], Response]


class Row(NamedTuple):
    """A line of the list."""

    label: str
    link: str
    kind: str
    """Empty where no connection is known."""
    status: Status
    last_at: int | None
    unseen: str
    """What to say where `last_at` is None."""
    traffic: Traffic
    bars: list[tuple[float, float, float, float]]


class Rejection(NamedTuple):
    """A reason, and all there is to say of it."""

    reason: str
    messages: int
    advice: Advice
    sample: Sample | None
    shown: str
    """The sample's payload, masked."""


class Bucket(NamedTuple):
    """A row of the chart's table."""

    label: str
    counts: list[int]
    total: int


def show_list(parts: Parts) -> Show:
    """All connections, and what came in that belongs to none."""

    def show(request: Request) -> Response:
        now = parts.clock()
        with ThreadPoolExecutor(2) as together:
            loading = together.submit(parts.store.load)
            overview = parts.statistics.read_overview(now)
            connections = loading.result()
        known = sorted(connections.values(), key=lambda connection: connection.is_revoked(now))
        rows = [
            _row(name_connection(each), f"/connections/{each.connection_id}", each, overview, now) for each in known
        ]
        strangers = {
            name: traffic for name, traffic in overview.day.items() if name not in connections and traffic.messages
        }
        named = sorted(strangers, key=lambda name: (name != "", -strangers[name].messages, name))
        for name in named[:MAX_STRANGERS]:
            label = name or "No connection named"
            link = f"/unknown?connection_id={quote(name, safe='')}" if name else "/unknown"
            rows.append(_row(label, link, None, overview, now, name))
        more = [strangers[name] for name in named[MAX_STRANGERS:]]
        everything = [row.traffic for row in rows] + more
        return render(
            request,
            "list.html",
            rows=rows,
            has_connections=bool(connections),
            more_names=len(more),
            more_messages=sum(traffic.messages for traffic in more),
            messages=sum(traffic.messages for traffic in everything),
            rejected=sum(traffic.rejected for traffic in everything),
            spark_box=SPARK_BOX,
            now=now,
            start=overview.start,
        )

    return show


def _row(label: str, link: str, connection: Connection | None, overview: Overview, now: int, name: str = "") -> Row:
    name = connection.connection_id if connection else name
    recent = overview.recent.get(name, RecentTraffic())
    traffic = overview.day.get(name, NO_TRAFFIC)
    status = judge(connection, recent, now)
    kind = name_kind(connection) if connection else ""
    is_young = connection is not None and connection.created_at > now - MEMORY
    unseen = "never" if is_young else f"not in {MEMORY // DAY} days"
    return Row(label, link, kind, status, recent.last_at, unseen, traffic, draw_spark(traffic.hours))


def show_connection(parts: Parts) -> Show:
    """One connection; 404 if there is none of this id."""

    def show(request: Request) -> Response:
        return _show(parts, request, request.path_params["connection_id"], must_exist=True)

    return show


def show_unknown(parts: Parts) -> Show:
    """What came in under an id that no connection has, or under none."""

    def show(request: Request) -> Response:
        return _show(parts, request, request.query_params.get("connection_id", ""), must_exist=False)

    return show


def _show(parts: Parts, request: Request, connection_id: str, must_exist: bool) -> Response:
    now = parts.clock()
    period = read_period(request)
    ask = parts.statistics
    # Each question takes BigQuery a second or so.
    with ThreadPoolExecutor(3) as together:
        asked_detail = together.submit(ask.read_detail, connection_id, period, now)
        asked_overview = together.submit(ask.read_overview, now)
        connection = parts.store.load().get(connection_id)
        if connection is None and must_exist:
            raise HTTPException(404, "There is no connection of this id.")
        asked_workspace = (
            together.submit(ask.read_workspace, connection.workspace_id, period, now) if connection else None
        )
        detail = asked_detail.result()
        reasons = count_reasons(detail.facts)
        rejections = _explain(ask, connection_id, connection, period, now, reasons) if reasons else []
        recent = asked_overview.result().recent.get(connection_id, RecentTraffic())
        workspace = asked_workspace.result() if asked_workspace else None
    series = group_by_type(detail.facts, period.buckets)
    return render(
        request,
        "connection.html",
        connection=connection,
        connection_id=connection_id,
        label=name_connection(connection) if connection else connection_id or "No connection named",
        own_link=_own_link(connection, connection_id),
        kind=name_kind(connection) if connection else "",
        is_signed=connection is not None and is_signed(connection),
        is_revoked=connection is not None and connection.is_revoked(now),
        is_email=connection is not None and not connection.kind.sends_calls,
        noun=noun_of(connection),
        status=judge(connection, recent, now),
        last_at=recent.last_at,
        period=period,
        periods=list(Period),
        start=detail.start,
        totals=add_up(detail.facts),
        series=series,
        colours=pick_colours(series),
        chart=draw_chart(series, period, detail.start),
        buckets=list_buckets(series, period, detail.start),
        rejections=rejections,
        workspace=workspace,
        now=now,
    )


def _explain(
    ask: Statistics,
    connection_id: str,
    connection: Connection | None,
    period: Period,
    now: int,
    reasons: list[tuple[str, int]],
) -> list[Rejection]:
    samples = ask.read_samples(connection_id, connection.workspace_id if connection else "", period, now)
    return [
        Rejection(reason, count, advise(reason), samples.get(reason), show_sample(samples.get(reason)))
        for reason, count in reasons
    ]


def show_sample(sample: Sample | None) -> str:
    """A sample as it may be seen."""
    if sample is None:
        return ""
    if sample.payload is None:
        return f"‹{sample.length:,} bytes, too many to show›"
    return mask_payload(sample.payload)


def read_period(request: Request) -> Period:
    """What the address asks for; the last hour if that is no period."""
    wanted = request.query_params.get("period", "")
    return Period(wanted) if wanted in list(Period) else Period.HOUR


def list_buckets(series: list[Series], period: Period, start: int) -> list[Bucket]:
    """The chart in numbers, the newest first; bars with nothing in them are left out."""
    columns = [[each.counts[bucket] for each in series] for bucket in range(period.buckets)]
    return [
        Bucket(say_bucket(period, start, bucket), counts, sum(counts))
        for bucket, counts in reversed(list(enumerate(columns)))
        if any(counts)
    ]


def judge(connection: Connection | None, recent: RecentTraffic, now: int) -> Status:
    """The status of a connection, or of what came in without one."""
    if connection is None:
        return judge_status(recent, now, noun="message")
    return judge_status(recent, now, connection.created_at, connection.is_revoked(now), noun_of(connection))


def noun_of(connection: Connection | None) -> str:
    """What comes through it."""
    if connection is None:
        return "message"
    return "call" if connection.kind.sends_calls else "event"


def name_connection(connection: Connection) -> str:
    """What people call it."""
    return connection.name or connection.connection_id


def name_kind(connection: Connection) -> str:
    """What sends through it, in words."""
    return "Segment" if connection.kind.sends_calls else PROVIDERS[connection.kind][0]


def _own_link(connection: Connection | None, connection_id: str) -> str:
    if connection is not None:
        return f"/connections/{connection_id}?"
    return f"/unknown?connection_id={quote(connection_id, safe='')}&" if connection_id else "/unknown?"
