"""A page without BigQuery: what it would ask is made up."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from schemas.connections import Connection
from services.connection_changes import Change, fold_changes
from services.connection_store import ConnectionStore, StoreError
from services.page.app import build_page
from services.page.fold_traffic import Fact, Period, Traffic
from services.page.hold_keys import HeldKeys
from services.page.judge_status import RecentTraffic
from services.page.parts import Parts
from services.page.read_statistics import Detail, Overview, Sample, Statistics, StatisticsError, Workspace
from services.page.sessions import Attempts, Sessions
from services.secret_store import FolderStore, SecretStore
from tests.factories import NOW, SECOND

TOKEN = "a token of the tests"


class MemoryStore(ConnectionStore):
    """Connections in memory; `is_away`: as if BigQuery did not answer."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.is_away = False

    def load(self) -> dict[str, Connection]:
        if self.is_away:
            raise StoreError("connections cannot be read (ServiceUnavailable): do something")
        return fold_changes(self.changes)

    def append(self, changes: Iterable[Change]) -> None:
        self.changes += changes


@dataclass
class MadeUpStatistics:
    """The same answers to all questions."""

    day: dict[str, Traffic] = field(default_factory=dict)
    recent: dict[str, RecentTraffic] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    is_away: bool = False

    def read_overview(self, now: int) -> Overview:
        if self.is_away:
            raise StatisticsError("BigQuery does not answer for p.d (ServiceUnavailable): try again")
        return Overview(Period.DAY.start(now), self.day, self.recent)

    def read_detail(self, connection_id: str, period: Period, now: int) -> Detail:
        return Detail(period.start(now), self.facts)

    def read_samples(self, connection_id: str, workspace_id: str, period: Period, now: int) -> dict[str, Sample]:
        return self.samples

    def read_workspace(self, workspace_id: str, period: Period, now: int) -> Workspace:
        return Workspace(12, 3, 4, 5)


class Browser:
    """Asks the page without a network; keeps its cookies and follows nothing."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self.app = app
        self.base_url = base_url
        self.cookies = httpx.Cookies()

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=self.base_url, cookies=self.cookies) as client:
                answer = await client.request(method, path, **request)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("GET", path, **request)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("POST", path, **request)


class PageForTests:
    """The page, a browser, and a clock."""

    def __init__(self, folder: Path, is_https: bool = False, secrets_at: str | None = None) -> None:
        self.now = NOW
        self.store = MemoryStore()
        self.statistics = MadeUpStatistics()
        self.secrets = FolderStore(folder)
        parts = build_parts(lambda: self.now, self.store, self.statistics, self.secrets, secrets_at or str(folder))
        base_url = "https://page.example" if is_https else "http://page.example"
        self.browser = Browser(build_page(parts, is_https), base_url)

    def log_in(self, token: str = TOKEN) -> int:
        return self.browser.post("/login", data={"token": token}).status_code

    def read_form_token(self) -> str:
        page = self.browser.get("/source").text
        return page.partition('name="form_token" value="')[2].partition('"')[0]


def build_parts(
    clock: Callable[[], int],
    store: ConnectionStore,
    statistics: Statistics,
    secrets: SecretStore,
    secrets_at: str = "x",
) -> Parts:
    return Parts(
        store=store,
        statistics=statistics,
        secrets=secrets,
        secrets_at=secrets_at,
        collector_url="https://c.example",
        sessions=Sessions(TOKEN, clock),
        attempts=Attempts(lambda: clock() / SECOND),
        held_keys=HeldKeys(lambda: clock() / SECOND),
        clock=clock,
    )
