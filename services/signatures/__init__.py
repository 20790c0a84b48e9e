"""Whether a webhook comes from who it says: the signatures of Segment and of the email providers.

Logic only: nothing here knows of HTTP, and the clock is a parameter. A webhook passes or `ForgedError` is raised.
Postmark signs nothing: its webhooks are known by the API key alone
(https://postmarkapp.com/developer/webhooks/webhooks-overview#protecting-your-webhook).
"""
