"""The page as people meet it: the real program, a real browser, with the keyboard, on small screens and in the dark."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from schemas.connections import ConnectionKind
from services.connection_store import ConnectionStore
from services.manage_connections import create_connection, find_connection, revoke_keys
from services.secret_store import WRITE_KEY_SECRET, FolderStore
from tests.browser import start_browser
from tests.emulator.conftest import PROJECT
from tests.emulator.page_traffic import NASTY, fill
from tests.factories import DAY

pytestmark = pytest.mark.slow

TOKEN = "a token of the tests"

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


class Site(NamedTuple):
    """The page as a program that runs, and what it works on."""

    url: str
    store: ConnectionStore
    secrets: FolderStore


@pytest.fixture(scope="module")
def site(running_bigquery: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("secrets")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(BIGQUERY_EMULATOR_HOST, running_bigquery)
        environment.setenv("ADMIN_TOKEN", TOKEN)
        client = bigquery_client(PROJECT)
        now = time.time_ns() // 1000
        # Its own: when tests move between processes, one may make this twice over the same BigQuery.
        dataset = f"{PROJECT}.page_in_browser_{uuid.uuid4().hex}"
        fill(client, dataset, now)
        store = ConnectionStore(client, dataset)
        for connection_id, name, kind in (
            ("c1", "Web shop", ConnectionKind.SEGMENT),
            ("backend", "Backend of the platform that we had before", ConnectionKind.SEGMENT),
            ("mail", "Mailings", ConnectionKind.SENDGRID),
            ("waiting", NASTY[:60], ConnectionKind.SEGMENT),
            ("gone", "Prototype", ConnectionKind.SEGMENT),
        ):
            create_connection(store, name, "acme", kind, now - 2 * DAY, connection_id=connection_id)
        revoke_keys(store, "gone", now)
        flags = ["--dataset", dataset, "--secrets", str(folder), "--collector_url", "https://collector.example.com"]
        process = subprocess.Popen(
            [sys.executable, "-m", "services.run_page", *flags, "--port", "0"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()  # once it listens
            assert said, process.communicate(timeout=10)[1]
            yield Site(said.split()[-1], store, FolderStore(folder))
        finally:
            process.kill()
            process.communicate()
            client.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with start_browser() as browser:
        yield browser


class Watched:
    """What a browser complained of, and where it wanted to go."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        context.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))


def open_page(chromium: Browser, site: Site, viewport: dict[str, int] = DESK, scheme: str = "light") -> Page:
    """A browser of its own, not logged in."""
    context = chromium.new_context(viewport=viewport, color_scheme=scheme, base_url=site.url)  # type: ignore[arg-type]
    context.set_default_timeout(10_000)
    return context.new_page()


def log_in(page: Page) -> None:
    page.goto("/login")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    expect(page.get_by_role("heading", name="Connections", exact=True)).to_be_visible()


def press_until(page: Page, name: str, key: str = "Tab") -> None:
    """Goes on with the keyboard until what has this name has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        focused = page.evaluate(
            """() => {
                const at = document.activeElement;
                const label = at.labels?.[0]?.textContent ?? at.textContent;
                return (at.getAttribute("aria-label") ?? label).trim();
            }"""
        )
        if focused == name:
            return
    raise AssertionError(f"{name} cannot be reached with {key}")


def test_everything_can_be_done_with_the_keyboard(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site)
    page.goto("/")
    expect(page.get_by_label("Admin token")).to_be_focused()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")

    press_until(page, "Skip to the content")
    page.keyboard.press("Enter")
    press_until(page, "Add a connection")
    page.keyboard.press("Enter")
    page.wait_for_url("**/connections/new")
    press_until(page, "Name")
    page.keyboard.type("By keyboard")
    press_until(page, "Segment SDKs, the HTTP API, Segment’s webhooks")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("SendGrid: verification key")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("SendGrid: verification key")).to_be_hidden()
    press_until(page, "Make the connection")
    page.keyboard.press("Enter")
    page.wait_for_url("**/key?ticket=*")

    connection_id = page.url.split("/")[4]
    assert find_connection(site.store, connection_id).name == "By keyboard"
    press_until(page, "I have copied it: go to the connection")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Waiting for the first call")).to_be_visible()
    (key,) = find_connection(site.store, connection_id).keys
    press_until(page, f"Revoke key {key.key_id}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Revoke this key?")).to_be_visible()
    press_until(page, "Revoke")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Revoked: no key opens the door")).to_be_visible()
    press_until(page, "Log out", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Admin token")).to_be_visible()
    page.context.close()


def test_a_key_is_shown_once_and_a_reload_makes_no_other(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site)
    log_in(page)
    page.goto("/connections/new")
    page.get_by_label("Name", exact=True).fill("Once")
    page.get_by_role("button", name="Make the connection").click()
    key = page.get_by_label("The key", exact=True).inner_text()
    made = len(site.store.load())

    page.reload()
    expect(page.get_by_role("heading", name="The key is not shown again")).to_be_visible()
    assert key not in page.content()
    page.go_back()
    page.go_forward()
    assert key not in page.content()
    assert len(site.store.load()) == made
    page.context.close()


def test_a_key_is_copied_with_a_button(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    log_in(page)
    page.goto("/connections/c1")
    page.get_by_role("button", name="Rotate").click()
    key = page.get_by_label("The key", exact=True).inner_text()
    page.get_by_role("button", name="Copy: The key").click()

    expect(page.get_by_role("button", name="Copied: The key")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.context.close()


def test_a_rotation_lets_the_old_key_end_and_revoking_asks_first(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site)
    log_in(page)
    page.goto("/connections/backend")
    page.get_by_label("Old keys end").select_option("in an hour")
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("link", name="I have copied it").click()
    old, new = find_connection(site.store, "backend").keys
    assert old.expires_at is not None
    expect(page.get_by_text("valid until")).to_have_count(1)

    page.get_by_role("link", name=f"Revoke key {old.key_id}").click()
    page.get_by_role("link", name="Keep it").click()
    assert find_connection(site.store, "backend").keys[0].expires_at == old.expires_at
    page.get_by_role("link", name=f"Revoke key {old.key_id}").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("ended just now")).to_be_visible()
    assert find_connection(site.store, "backend").keys[1].is_valid(new.created_at)
    page.context.close()


def test_the_write_key_is_kept_and_not_shown(chromium: Browser, site: Site) -> None:
    page = open_page(chromium, site)
    log_in(page)
    page.get_by_role("link", name="Source").click()
    page.get_by_label("Write key", exact=True).fill("wk-of-a-browser")
    page.get_by_role("button", name="Keep it").click()

    expect(page.get_by_role("status")).to_have_text("The key is kept.")
    assert "wk-of-a-browser" not in page.content()
    assert site.secrets.read(WRITE_KEY_SECRET) == "wk-of-a-browser"
    page.context.close()


def test_all_is_there_without_scripts(chromium: Browser, site: Site) -> None:
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    log_in(page)
    page.goto("/connections/c1?period=week")
    page.get_by_text("The chart as a table").click()

    expect(page.get_by_role("region", name="The chart as a table")).to_be_visible()
    page.get_by_role("link", name="Revoke the connection").click()
    expect(page.get_by_role("button", name="Revoke")).to_be_visible()
    context.close()


PAGES = {
    "list": "/",
    "hour": "/connections/c1",
    "day": "/connections/backend?period=day",
    "week": "/connections/c1?period=week",
    "emails": "/connections/mail?period=day",
    "waiting": "/connections/waiting",
    "revoked": "/connections/gone",
    "nobody": "/unknown?period=day",
    "stranger": f"/unknown?connection_id={quote(NASTY)}&period=week",
    "new": "/connections/new",
    "lost_key": "/connections/c1/key",
    "revoke": "/connections/c1/revoke",
    "source": "/source",
    "missing": "/nothing",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_is_accessible_fits_and_stays_at_home(
    chromium: Browser, site: Site, viewport: dict[str, int], scheme: str, tmp_path: Path
) -> None:
    page = open_page(chromium, site, viewport, scheme)
    watched = Watched(page.context)
    page.goto("/login")
    found = {"login": look_at(page, tmp_path / "login.png")}
    log_in(page)
    for name, path in PAGES.items():
        page.goto(path)
        found[name] = look_at(page, tmp_path / f"{name}.png")
    page.goto("/connections/new")
    page.get_by_label("Name", exact=True).fill(f"Seen {scheme} {viewport['width']}")
    page.get_by_role("button", name="Make the connection").click()
    page.wait_for_url("**/key?ticket=*")
    found["key"] = look_at(page, tmp_path / "key.png")

    assert {name: faults for name, faults in found.items() if faults} == {}
    assert watched.hosts == {urlsplit(site.url).netloc}
    # What the browser says of the pages that are meant to be missing.
    expected = {"404 (Not Found)", "410 (Gone)"}
    assert [each for each in watched.complaints if not any(word in each for word in expected)] == []
    page.context.close()


def look_at(page: Page, picture: Path) -> list[str]:
    """What is wrong with a page; with all that can be unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    page.screenshot(path=picture, full_page=True)
    faults = [
        f"{violation['id']}: {[node['target'] for node in violation['nodes']]}"
        for violation in Axe().run(page).response["violations"]
    ]
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*faults, f"{width} pixels too wide"] if width > 0 else faults
