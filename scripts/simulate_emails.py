"""A simulated mailing for the demo: what an email provider logs before and after its recipients sign up."""

import json
import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

CAMPAIGN_RUN = "spring-2026-run-1"
_CAMPAIGN = {
    "campaign_id": "spring-2026",
    "campaign_run_id": CAMPAIGN_RUN,
    "campaign_name": "Spring offer",
    "email_id": "spring-offer-v2",
    "email_subject": "Your team is waiting for you",
}
_LINKS = ("https://www.acme.example/pricing", "https://www.acme.example/signup?from=mail")
_BROWSER = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile"
_APPLE_PROXY = "Mozilla/5.0"
_SCANNER = "BarracudaCentral link scanner"
_SENDGRID = {"delivered": "delivered", "opened": "open", "clicked": "click", "bounced": "bounce"}


@dataclass
class Mailing:
    """What the provider logs, and what must come of it."""

    before: list[bytes] = field(default_factory=list)
    """Messages of the first hours."""
    after: list[bytes] = field(default_factory=list)
    """Of the next day, when some recipients have signed up."""
    calls_before: int = 0
    """Segment calls that come of the first."""
    calls_after: int = 0
    """And of the others; identifies are not among them."""
    engagement: Counter[str] = field(default_factory=Counter)
    """Columns of the view `email_engagement` -> what they must be."""


def simulate_emails(recipients: Sequence[str], prospect: str, seed: int, now: datetime) -> Mailing:
    """One campaign run to these addresses; half of the provider's messages are SendGrid's, half our own lines.

    `prospect`: whose story is told, who clicks first and opens later. Sent five hours before `now`.
    """
    mailing = Mailing()
    chance = random.Random(seed)
    sent = now - timedelta(hours=5)
    before, after = _Log(chance), _Log(chance)
    for email in recipients:
        _simulate_recipient(email, chance, before, after, sent, is_prospect=email == prospect)
    mailing.before, mailing.after = before.messages(), after.messages()
    mailing.calls_before = before.lines + before.derived
    mailing.calls_after = after.lines + after.derived
    mailing.engagement = before.counted + after.counted
    return mailing


def _simulate_recipient(
    email: str, chance: random.Random, before: "_Log", after: "_Log", sent: datetime, *, is_prospect: bool
) -> None:
    minute = timedelta(minutes=1)
    if not is_prospect and chance.random() < 0.05:
        before.add("bounced", email, sent + minute)
        return
    before.add("delivered", email, sent + minute)
    if is_prospect or chance.random() < 0.3:
        before.add("opened", email, sent + 2 * minute, user_agent=_APPLE_PROXY, counts_as="machine_opens")
    if is_prospect or chance.random() < 0.2:
        link = chance.choice(_LINKS)
        before.add("clicked", email, sent + 3 * minute, link=link, user_agent=_SCANNER, counts_as="bot_clicks")
    opens_early = not is_prospect and chance.random() < 0.5
    clicks_early = is_prospect or chance.random() < 0.3
    clicked = chance.choice(_LINKS)
    if opens_early:
        before.add("opened", email, sent + 60 * minute, derives=("unique_opens",))
    if clicks_early:
        derives = ["unique_clicks", "unique_clickers"]
        derives += ["unique_clicks_per_unique_open"] * opens_early
        before.add("clicked", email, sent + 61 * minute, link=clicked, derives=derives)
    if is_prospect or chance.random() < 0.4:
        derives = [] if opens_early else ["unique_opens"]
        derives += ["unique_clicks_per_unique_open"] * (clicks_early and not opens_early)
        after.add("opened", email, sent + 200 * minute, derives=derives)
        if clicks_early:
            after.add("clicked", email, sent + 201 * minute, link=clicked)
    if not is_prospect and chance.random() < 0.03:
        after.add("unsubscribed", email, sent + 210 * minute)


class _Log:
    """What a provider logs of a while; one event in ten is delivered twice, and the order is not that of time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._sendgrid: list[dict[str, Any]] = []
        self._own: list[dict[str, Any]] = []
        self.lines = 0
        self.derived = 0
        self.counted: Counter[str] = Counter()

    def add(
        self,
        event: str,
        email: str,
        at: datetime,
        link: str | None = None,
        user_agent: str = _BROWSER,
        counts_as: str | None = None,
        derives: Sequence[str] = (),
    ) -> None:
        """Log an event that counts as one more of `counts_as` and of each of `derives`."""
        event_id = str(uuid.UUID(int=self._chance.getrandbits(128)))
        is_seen = event in ("opened", "clicked")
        about: dict[str, Any] = {**_CAMPAIGN, "email": email}
        if event in _SENDGRID and self._chance.random() < 0.5:
            logged = about | {"event": _SENDGRID[event], "sg_event_id": event_id, "timestamp": int(at.timestamp())}
            logged |= {"useragent": user_agent} if is_seen else {}
            log = self._sendgrid
            logged |= {"url": link} if link else {}
        else:
            logged = about | {"event": event, "log_id": event_id, "at": at.astimezone(UTC).isoformat()}
            logged |= {"user_agent": user_agent} if is_seen else {}
            logged |= {"email_link_url": link} if link else {}
            log = self._own
        log += [logged] * (2 if self._chance.random() < 0.1 else 1)
        self.lines += 1
        # `unique_clickers` is no call of its own: it is what is counted of the unique clicks
        self.derived += len([name for name in derives if name != "unique_clickers"])
        totals = {"opened": ["opens"], "clicked": ["clicks"]}.get(event, [event])
        human = {"opened": "human_opens", "clicked": "human_clicks"}.get(event)
        self.counted.update([*totals, *derives, *([counts_as] if counts_as else [human] if human else [])])

    def messages(self) -> list[bytes]:
        """Webhooks of up to 20 events, and single lines."""
        self._chance.shuffle(self._sendgrid)
        self._chance.shuffle(self._own)
        batches = [self._sendgrid[start : start + 20] for start in range(0, len(self._sendgrid), 20)]
        return [json.dumps(message).encode() for message in [*batches, *self._own]]
