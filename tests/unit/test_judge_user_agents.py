import time

import pytest

from schemas.email_logs import EmailEvent
from transforms.logic.email_logs.judge_user_agents import is_bot_click, is_machine, is_machine_open

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
OUTLOOK = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Trident/7.0; Microsoft Outlook 16.0.5)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101 Thunderbird/102.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
APPLE = "Mozilla/5.0"
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; BingPreview/1.0b)",
    "python-requests/2.31.0",
    "curl/8.5.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/79.0 Safari/537.36",
)
SCANNERS = (
    "BarracudaCentral",
    "Mozilla/5.0 (compatible; Mimecast)",
    "Proofpoint URL Defense",
    "CiscoSecureEmail",
    "IronPort",
    "Sophos",
    "FortiMail",
)


@pytest.mark.parametrize("user_agent", [CHROME, IPHONE, OUTLOOK, THUNDERBIRD])
def test_a_human_uses_a_browser_or_a_mail_program(user_agent: str) -> None:
    assert not is_machine_open(user_agent)
    assert not is_bot_click(user_agent)


@pytest.mark.parametrize("user_agent", [*CRAWLERS, *SCANNERS])
def test_a_program_that_says_so_is_one(user_agent: str) -> None:
    assert is_machine_open(user_agent)
    assert is_bot_click(user_agent)


@pytest.mark.parametrize("user_agent", [GMAIL, YAHOO, GMAIL.upper()])
def test_a_proxy_that_loads_images_for_a_human_is_no_machine(user_agent: str) -> None:
    assert not is_machine_open(user_agent)


def test_a_proxy_of_images_has_no_reason_to_click() -> None:
    assert is_bot_click(GMAIL)


@pytest.mark.parametrize("user_agent", [APPLE, f" {APPLE} "])
def test_apples_prefetch_opens_and_never_clicks(user_agent: str) -> None:
    assert is_machine_open(user_agent)
    assert not is_bot_click(user_agent)


@pytest.mark.parametrize("user_agent", [None, "", " "])
def test_who_does_not_say_is_no_machine(user_agent: str | None) -> None:
    assert not is_machine_open(user_agent)
    assert not is_bot_click(user_agent)


@pytest.mark.parametrize("event", list(EmailEvent))
def test_only_opens_and_clicks_are_judged(event: EmailEvent) -> None:
    assert is_machine(event, CRAWLERS[0]) == (event in ("opened", "clicked"))
    assert is_machine(event, APPLE) == (event == "opened")


def test_a_user_agent_without_end_is_judged_in_no_time() -> None:
    started = time.process_time()

    assert not is_machine_open("(" * 5_000_000 + CHROME)
    assert not is_bot_click("Mozilla/5.0 " * 500_000)
    assert time.process_time() - started < 0.5


def test_a_judgement_is_remembered() -> None:
    is_bot_click(CHROME)
    started = time.process_time()

    for _ in range(1_000):
        is_bot_click(CHROME)
    assert time.process_time() - started < 0.02
