"""The columns that the plain loop writes, and how their values are read from a call's parts.

Left out are the columns that this workload leaves NULL in every row, `trait_updates`, and most of what the ledgers say:
the loop does a little less than the pipeline does. Who a call counts for is read here for both baselines.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from benchmarks.check_calls import clean_email, read_micros
from schemas.tables import arrow_schema, load_table

_CALL = ("workspace_id", "message_id")
_CALLER = ("identifier_type", "identifier", "user_id", "anonymous_id", "timestamp", "sent_at", "received_at")
_CONTEXT = (
    "context",
    *("context_ip", "context_user_agent", "context_locale", "context_timezone"),
    *("context_page_path", "context_page_referrer", "context_page_search", "context_page_title", "context_page_url"),
    *("context_campaign_name", "context_campaign_source", "context_campaign_medium"),
    *("context_campaign_term", "context_campaign_content"),
    *("context_library_name", "context_library_version", "context_traits_email"),
)
_PERSON = ("email", "name", "created_at", "company_id", "company_name")
_ADDRESS = ("address_city", "address_country", "address_postal_code")
_ORGANISATION = ("name", "industry", "employees", "plan", "website")
_AUDIENCE = ("audience_key", "entered", "computation_id", "space_id")

FACTS: Mapping[str, tuple[str, ...]] = {
    "activities": (*_CALL, *_CALLER, "type", "event", "event_text", "name", "category", "properties", *_CONTEXT),
    "identifies": (*_CALL, *_CALLER, "traits", *_PERSON, *_ADDRESS, *_CONTEXT),
    "group_identifies": (*_CALL, *_CALLER, "group_id", "traits", *_ORGANISATION, *_CONTEXT),
    "aliases": (*_CALL, *_CALLER, "previous_id", "context"),
    "audience_memberships": (*_CALL, *(column for column in _CALLER if column != "sent_at"), *_AUDIENCE),
}
"""Table -> its columns but for person_id, which comes last and is known last."""

LEDGERS: Mapping[str, tuple[str, ...]] = {
    "identities": ("workspace_id", "identifier_type", "identifier", "person_id"),
    "dead_letters": ("workspace_id", "reason", "payload"),
    "counts": ("workspace_id", "type", "outcome", "count"),
}
"""Table -> its columns."""

FACT_TABLES: Mapping[str, str] = {
    "track": "activities",
    "page": "activities",
    "screen": "activities",
    "identify": "identifies",
    "group": "group_identifies",
    "alias": "aliases",
}
"""Type of call -> its table."""

_NOTHING: Mapping[str, Any] = {}


def columns_of(table: str) -> tuple[str, ...]:
    """All columns that the loop writes."""
    return (*FACTS[table], "person_id") if table in FACTS else LEDGERS[table]


def schema_of(table: str) -> pa.Schema:
    """Their Arrow types, as the pipeline has them."""
    whole = arrow_schema(load_table(table))
    return pa.schema([whole.field(column) for column in columns_of(table)])


def event_values(call_type: str, event: str | None, name: str | None, category: str | None) -> tuple[str | None, ...]:
    """From `type` to `category`. The events of the workload are words with spaces between them."""
    return call_type, None if event is None else event.lower().replace(" ", "_"), event, name, category


def context_values(context: Mapping[str, Any]) -> tuple[str | None, ...]:
    """The columns behind `context`."""
    page = context.get("page", _NOTHING)
    campaign = context.get("campaign", _NOTHING)
    library = context.get("library", _NOTHING)
    return (
        *(context.get("ip"), context.get("userAgent"), context.get("locale"), context.get("timezone")),
        *(page.get("path"), page.get("referrer"), page.get("search"), page.get("title"), page.get("url")),
        *(campaign.get("name"), campaign.get("source"), campaign.get("medium")),
        *(campaign.get("term"), campaign.get("content")),
        *(library.get("name"), library.get("version"), context.get("traits", _NOTHING).get("email")),
    )


def person_values(traits: Mapping[str, Any]) -> tuple[Any, ...]:
    """The traits of an identify that have columns."""
    company, address = traits.get("company", _NOTHING), traits.get("address", _NOTHING)
    created = traits.get("createdAt")
    return (
        *(traits.get("email"), traits.get("name"), None if created is None else read_micros(created)),
        *(company.get("id"), company.get("name")),
        *(address.get("city"), address.get("country"), address.get("postalCode")),
    )


def organisation_values(traits: Mapping[str, Any]) -> tuple[Any, ...]:
    """The traits of a group that have columns."""
    return tuple(traits.get(column) for column in _ORGANISATION)


def audience_values(context: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The audience that Engage tells of, None if the call is none of Engage's."""
    personas = context.get("personas")
    if personas is None or personas["computation_class"] != "audience":
        return None
    key = personas["computation_key"]
    return key, body[key], personas["computation_id"], personas["space_id"]


def caller_values(user_id: str | None, email: str | None, anonymous_id: str | None) -> tuple[str, str]:
    """Whom a call counts for: its strongest identifier."""
    if user_id is not None:
        return "user_id", user_id
    if email is not None:
        return "email", email
    assert anonymous_id is not None
    return "anonymous_id", anonymous_id


def caller_email(call_type: str, context: Mapping[str, Any], traits: Mapping[str, Any]) -> str | None:
    """The email that a call says of its caller."""
    said = traits.get("email") if call_type == "identify" else None
    return clean_email(said or context.get("traits", _NOTHING).get("email"))
