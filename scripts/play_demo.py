"""The demo's story: a mailing, visits and sign-ups, the mailing again; and whether all came out as it must."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.cloud import bigquery
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scripts.relay_events import Relay
from scripts.simulate_calls import Simulated
from scripts.simulate_emails import CAMPAIGN_RUN, Mailing

# Longer than any run that goes well: what is still missing then will not come.
PATIENCE_SECONDS = 180.0
SETTLING_SECONDS = 20

Send = Callable[[Sequence[bytes]], None]
"""Takes messages to where they belong; returns when all of them are there."""

# Of each event that an email provider logs one of these is sent, if it has not come before.
TELLING_EVENTS = (
    *("Email Delivered", "Email Opened", "Email Bounced", "Email Reported as Spam"),
    *("Link Clicked", "Email Unsubscribed", "page"),
)

FACT_TABLES = ("activities", "identifies", "group_identifies", "aliases", "erasure_requests")


class Demo:
    """Publishes what was simulated to two running pipelines, and compares what comes of it.

    Nothing more comes if one of `programs`, by what people call it, has ended.
    """

    def __init__(
        self,
        client: bigquery.Client,
        dataset: str,
        console: Console,
        programs: Mapping[str, subprocess.Popen[bytes]],
        relay: Relay,
    ) -> None:
        self._client = client
        self._dataset = dataset
        self._console = console
        self._programs = programs
        self._relay = relay

    def play(self, simulated: Simulated, mailing: Mailing, send_calls: Send, send_logs: Send) -> list[str]:
        """Send everything, in acts; what went wrong, a line each."""
        signed_up = [email for email in simulated.everyone if email in simulated.user_ids]
        published = len(simulated.payloads)
        self._send(mailing.before, send_logs, "of the email provider: a mailing to people who have not signed up")
        if not self._await_events(mailing.calls_before):
            return self._explain("events of the mailing", mailing.calls_before, len(self._relay.calls()))
        self._send(simulated.payloads, send_calls, "of visits and sign-ups")
        if not self._await_accounted(published):
            return self._explain("messages", published + self._relay.relayed(), self._count_accounted())
        identified = mailing.calls_before + len(signed_up)
        if not self._await_events(identified):
            return self._explain("events, identifies among them,", identified, len(self._relay.calls()))
        self._send(mailing.after, send_logs, "of the email provider: the day after")
        events = identified + mailing.calls_after
        if not self._await_events(events):
            return self._explain("events", events, len(self._relay.calls()))
        if not self._await_accounted(published):
            return self._explain("messages", published + self._relay.relayed(), self._count_accounted())
        deadline = time.monotonic() + SETTLING_SECONDS  # counts and rows are written side by side
        while (failures := self._check(simulated, mailing)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return failures

    def ask(self, question: str, sql: str) -> Table:
        """The answer of BigQuery, as a table to show."""
        rows = self._read(sql)
        table = Table(title=question, title_justify="left", title_style="bold", min_width=len(question))
        for column, value in rows[0].items() if rows else ():
            table.add_column(column, justify="right" if isinstance(value, int | float) else "left")
        for row in rows:
            table.add_row(
                *("" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row)
            )
        return table

    def tell(self, email: str) -> Table:
        """What was sent to Segment of one recipient, in the order in which it was sent."""
        title = f"What Segment was told of {email}"
        table = Table(title=title, title_justify="left", title_style="bold", min_width=len(title))
        for column in ("call", "anonymousId", "userId", "remark"):
            table.add_column(column)
        for call in self._relay.calls():
            if email not in (call.get("properties", {}).get("userId"), call.get("traits", {}).get("email")):
                continue
            remarks = [name for name in ("machine_open", "bot_click") if call.get("context", {}).get(name)]
            anonymous_id = call.get("anonymousId")
            table.add_row(
                call.get("event") or call["type"],
                f"{anonymous_id[:8]}…" if anonymous_id else "",
                call.get("userId"),
                ", ".join(remarks),
            )
        return table

    def count_accepted(self) -> dict[str, int]:
        """The connection -> how many of its calls were written, or of its emails' events sent."""
        sql = """
            SELECT connection_id, SUM(count) FROM (
              SELECT connection_id, outcome, count FROM `{d}.counts`
              UNION ALL SELECT connection_id, outcome, count FROM `{d}.email_counts`
            ) WHERE outcome IN ('written', 'sent') GROUP BY connection_id"""
        return dict(tuple(row) for row in self._read(sql))

    def count_people(self) -> int:
        """Persons in BigQuery."""
        return int(self._read("SELECT COUNT(*) FROM `{d}.persons`")[0][0])

    def _send(self, payloads: Sequence[bytes], send: Send, what: str) -> None:
        with self._console.status("sending"):
            send(payloads)
        self._console.print(f"Sent {len(payloads):,} messages {what}.")

    def _await_events(self, count: int) -> bool:
        """Wait until so many different calls have been sent to Segment."""
        with self._console.status("events on their way to Segment"):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not self._relay.wait_for(count, 1):
                if time.monotonic() > deadline or self.find_ended():
                    return False
        return True

    def _await_accounted(self, published: int) -> bool:
        """Wait until the counts in BigQuery add up to what was published and what came back from Segment."""
        columns = (TextColumn("accounted for"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        deadline = time.monotonic() + PATIENCE_SECONDS
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("")
            while time.monotonic() < deadline and not self.find_ended():
                total = published + self._relay.relayed()
                accounted = self._count_accounted()
                progress.update(task, total=total, completed=accounted)
                if accounted == total:
                    return True
                time.sleep(0.5)
        return False

    def _count_accounted(self) -> int:
        return int(self._read("SELECT COALESCE(SUM(count), 0) FROM `{d}.counts`")[0][0])

    def find_ended(self) -> list[str]:
        """Which of the programs have ended, though nobody stopped them, a line each."""
        ended = {name: program.poll() for name, program in self._programs.items()}
        return [f"{name} has ended with exit code {code}" for name, code in ended.items() if code is not None]

    def _explain(self, what: str, expected: int, found: int) -> list[str]:
        state = "; ".join(self.find_ended()) or "all programs run on"
        return [f"{found:,} {what} of {expected:,} have come, and {state}"]

    def _read(self, sql: str) -> list[Any]:
        return list(self._client.query_and_wait(sql.replace("{d}", self._dataset)))

    def _check(self, simulated: Simulated, mailing: Mailing) -> list[str]:
        """What did not end as the simulation knows that it must."""
        sent = self._relay.calls()
        expected = simulated.expected.copy()
        expected["written"] += len(sent)
        expected["duplicate"] += self._relay.relayed() - len(sent)
        counts = "SELECT outcome, reason, SUM(count) AS messages FROM `{d}.counts` GROUP BY outcome, reason"
        ended = {row["reason"] or row["outcome"]: row["messages"] for row in self._read(counts)}
        failures = [
            f"{key}: {ended.get(key, 0):,} messages, expected {expected[key]:,}"
            for key in sorted(ended.keys() | expected.keys())
            if ended.get(key, 0) != expected[key]
        ]
        rows = sum(self._read(f"SELECT COUNT(*) FROM `{{d}}.{table}`")[0][0] for table in FACT_TABLES)
        if rows != expected["written"]:
            failures.append(f"{rows:,} rows in the fact tables, expected {expected['written']:,}")
        people = self.count_people()
        if people != len(simulated.everyone):
            failures.append(f"{people:,} persons, expected {len(simulated.everyone):,}")
        failures += self._check_email_counts(sent, mailing)
        return failures + self._check_engagement(mailing) + check_identified(sent, simulated.user_ids)

    def _check_email_counts(self, sent: Sequence[dict[str, Any]], mailing: Mailing) -> list[str]:
        """Whether `email_counts` holds each call that Segment got, and each event that the provider logged."""
        rows = self._read(
            "SELECT event, outcome, connection_id IS NOT NULL AS came_by_connection, SUM(count) AS ended "
            "FROM `{d}.email_counts` GROUP BY 1, 2, 3"
        )
        found, ended = Counter[str](), Counter[bool]()
        for row in rows:
            if row["outcome"] == "sent":
                found[row["event"]] += row["ended"]
            if row["outcome"] in ("rejected", "duplicate") or row["event"] in TELLING_EVENTS:
                ended[row["came_by_connection"]] += row["ended"]
        expected = Counter(call.get("event") or call["type"] for call in sent)
        failures = [
            f"email_counts: {found[event]:,} {event} sent, expected {expected[event]:,}"
            for event in sorted(found.keys() | expected.keys())
            if found[event] != expected[event]
        ]
        # Webhooks are batches and come through the collector; our own lines come one by one.
        messages = [json.loads(message) for message in mailing.before + mailing.after]
        logged = {True: sum(len(each) for each in messages if isinstance(each, list))}
        logged[False] = sum(not isinstance(each, list) for each in messages)
        return failures + [
            f"email_counts: {ended[by]:,} events {'with' if by else 'without'} a connection, expected {logged[by]:,}"
            for by in (True, False)
            if ended[by] != logged[by]
        ]

    def _check_engagement(self, mailing: Mailing) -> list[str]:
        found = self._read(f"SELECT * FROM `{{d}}.email_engagement` WHERE campaign_run_id = '{CAMPAIGN_RUN}'")
        if len(found) != 1:
            return [f"{len(found)} rows of email_engagement, expected 1"]
        return [
            f"email_engagement: {found[0][column]:,} {column}, expected {expected:,}"
            for column, expected in mailing.engagement.items()
            if found[0][column] != expected
        ]


def check_identified(sent: Sequence[dict[str, Any]], user_ids: dict[str, str]) -> list[str]:
    """Whether each who signed up was identified once, by both ids, before the first call under the userId."""
    failures = []
    identified: dict[str, str | None] = {}
    for call in sent:
        email = call.get("properties", {}).get("userId") or call.get("traits", {}).get("email")
        user_id = call.get("userId")
        if call["type"] == "identify":
            if email in identified or user_id != user_ids.get(email) or not call.get("anonymousId"):
                failures.append(f"{email} was identified twice or as somebody else")
            identified[email] = user_id
        elif user_id is not None and identified.get(email) != user_id:
            failures.append(f"{email}: a {call.get('event')} under a userId that no identify had told")
    missing = user_ids.keys() - identified.keys()
    return failures + [f"{len(missing)} people who signed up were not identified"] * bool(missing)
