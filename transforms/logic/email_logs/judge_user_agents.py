"""Whether a program opened an email or followed its link, as far as its user agent tells.

Machines that call themselves a browser are not found here: no user agent tells them from one.
"""

from functools import lru_cache

import crawleruseragents

from schemas.email_logs import EmailEvent

# All that is left of the user agent when Apple's Mail Privacy Protection loads the images of an email that nobody may
# ever open: https://help.socketlabs.com/docs/identifying-apple-mpp-opens-in-notification-api-events.
APPLE_PRIVACY_PROTECTION = "Mozilla/5.0"

# Gmail and Yahoo load images through a proxy at the moment that a human opens the email. The list of crawlers has them,
# because to a web site they are programs.
IMAGE_PROXIES = ("googleimageproxy", "yahoomailproxy")

# Mail gateways that open each email and follow its links before the recipient sees it, where they say who they are.
# https://wordtothewise.com/2013/07/barracuda-filters-clicking-all-links/
LINK_SCANNERS = ("barracuda", "ciscosecureemail", "fortimail", "ironport", "mimecast", "proofpoint", "sophos")

# A program that names itself does so early; 1,500 patterns over a text without bounds would take seconds.
MAX_JUDGED_CHARACTERS = 512

# As many different user agents as a day's log has. A judgement that is not remembered takes 20 to 300 microseconds.
REMEMBERED_USER_AGENTS = 16_384

_OPENED, _CLICKED = EmailEvent.OPENED.value, EmailEvent.CLICKED.value


def is_machine(event: str, user_agent: str | None) -> bool:
    """Whether this event is a program's doing; only opens and clicks can be."""
    if event == _OPENED:
        return is_machine_open(user_agent)
    return event == _CLICKED and is_bot_click(user_agent)


def is_machine_open(user_agent: str | None) -> bool:
    """Apple's prefetch, a crawler or a mail gateway, but no proxy that loads images when a human opens the email."""
    return user_agent is not None and _is_machine_open(user_agent[:MAX_JUDGED_CHARACTERS])


def is_bot_click(user_agent: str | None) -> bool:
    """A crawler, a previewer of links, or a mail gateway that checks where links lead."""
    return user_agent is not None and _is_program(user_agent[:MAX_JUDGED_CHARACTERS])


@lru_cache(REMEMBERED_USER_AGENTS)
def _is_machine_open(user_agent: str) -> bool:
    if user_agent.strip() == APPLE_PRIVACY_PROTECTION:
        return True
    lower = user_agent.lower()
    return not any(proxy in lower for proxy in IMAGE_PROXIES) and _is_program(user_agent)


@lru_cache(REMEMBERED_USER_AGENTS)
def _is_program(user_agent: str) -> bool:
    """The maintained list of https://github.com/monperrus/crawler-user-agents, and the gateways that it lacks."""
    lower = user_agent.lower()
    return any(scanner in lower for scanner in LINK_SCANNERS) or crawleruseragents.is_crawler(user_agent)
