"""What to copy so that a sender uses a new key, for each kind of connection."""

from typing import NamedTuple
from urllib.parse import urlsplit

from schemas.connections import Connection, ConnectionKind

PROVIDERS = {
    ConnectionKind.SENDGRID: ("SendGrid", "sendgrid"),
    ConnectionKind.MAILGUN: ("Mailgun", "mailgun"),
    ConnectionKind.POSTMARK: ("Postmark", "postmark"),
    ConnectionKind.AMAZON_SES: ("Amazon SES, through SNS", "ses"),
}
"""Email provider -> its name, and the last part of the path of its webhooks."""

_PLACES = {
    ConnectionKind.SENDGRID: "Settings, Mail Settings, Event Webhook: paste it as the HTTP Post URL.",
    ConnectionKind.MAILGUN: "Sending, Webhooks: paste it for each event that you want.",
    ConnectionKind.POSTMARK: "Servers, your server, the message stream, Webhooks: paste it as the webhook URL.",
    ConnectionKind.AMAZON_SES: (
        "Amazon SNS, your topic, Create subscription, protocol HTTPS: paste it as the endpoint. "
        "Have SES publish its events to the topic."
    ),
}


class Snippet(NamedTuple):
    """Something to copy."""

    title: str
    text: str
    note: str = ""


def write_snippets(connection: Connection, key: str, collector_url: str) -> list[Snippet]:
    """The snippets of a connection; `collector_url` is the collector's public address without a slash at its end."""
    if connection.kind.sends_calls:
        return [
            _write_curl(key, collector_url),
            _write_python(key, collector_url),
            _write_node(key, collector_url),
            _write_browser(key, collector_url),
            _write_webhook(connection, key, collector_url),
        ]
    name, path = PROVIDERS[connection.kind]
    url = _hook_url(connection, path, key, collector_url)
    return [Snippet(f"Webhook URL for {name}", url, f"{_PLACES[connection.kind]} {_say_proof(connection)}")]


def _write_curl(key: str, url: str) -> Snippet:
    call = '{"userId": "user-1", "event": "Connection Tested"}'
    words = f"curl -sS -u '{key}:'", "-H 'Content-Type: application/json'", f"-d '{call}'", f"'{url}/v1/track'"
    return Snippet("curl", " \\\n  ".join(words), 'A first call: the answer is {"success": true}.')


def _write_python(key: str, url: str) -> Snippet:
    return Snippet(
        "Python",
        f"""import segment.analytics as analytics

analytics.write_key = "{key}"
analytics.host = "{url}"

analytics.identify("user-1", {{"email": "ann@example.com"}})
analytics.track("user-1", "Connection Tested")
analytics.flush()""",
        "Package segment-analytics-python.",
    )


def _write_node(key: str, url: str) -> Snippet:
    return Snippet(
        "Node.js",
        f"""import {{ Analytics }} from '@segment/analytics-node'

const analytics = new Analytics({{
  writeKey: '{key}',
  host: '{url}',
}})

analytics.identify({{ userId: 'user-1', traits: {{ email: 'ann@example.com' }} }})
analytics.track({{ userId: 'user-1', event: 'Connection Tested' }})
await analytics.closeAndFlush()""",
        "Package @segment/analytics-node.",
    )


def _write_browser(key: str, url: str) -> Snippet:
    parts = urlsplit(url)
    # The settings that analytics.js else fetches from Segment's CDN, which does not know the key:
    # https://github.com/segmentio/analytics-next, packages/browser/src/browser/index.ts
    return Snippet(
        "analytics.js",
        f"""import {{ AnalyticsBrowser }} from '@segment/analytics-next'

const writeKey = '{key}'
const collector = {{
  apiKey: writeKey,
  apiHost: '{parts.netloc}{parts.path}/v1',
  protocol: '{parts.scheme}',
}}

export const analytics = AnalyticsBrowser.load({{
  writeKey,
  cdnSettings: {{ integrations: {{ 'Segment.io': collector }} }},
}})

analytics.page()""",
        "Package @segment/analytics-next. A key in a web page is public: take a connection of its own for it.",
    )


def _write_webhook(connection: Connection, key: str, url: str) -> Snippet:
    return Snippet(
        "Segment webhook",
        _hook_url(connection, "segment", key, url),
        "Segment, Catalog, destination Webhooks: paste it as the webhook URL. " + _say_proof(connection),
    )


def _hook_url(connection: Connection, path: str, key: str, url: str) -> str:
    if not needs_key(connection):
        return f"{url}/hooks/{path}?connection={connection.connection_id}"
    parts = urlsplit(url)
    return f"{parts.scheme}://{key}:@{parts.netloc}{parts.path}/hooks/{path}"


def is_signed(connection: Connection) -> bool:
    """Whether its webhooks have to be signed."""
    return connection.secret_kept_at is not None or bool(connection.verification_key or connection.topic_arn)


def needs_key(connection: Connection) -> bool:
    """Whether the URL of its webhooks holds the key; else their signature says enough.

    Segment's signature of a batch covers its first call only:
    https://segment.com/docs/connections/destinations/catalog/actions-webhook/#authentication
    """
    return connection.kind.sends_calls or not is_signed(connection)


def _say_proof(connection: Connection) -> str:
    if not needs_key(connection):
        return "The URL holds no key: what is not signed as set here is refused."
    also = "Unsigned webhooks are refused as well." if is_signed(connection) else ""
    return f"The URL holds the key: treat it as a password. {also}".strip()
