"""What the collector takes at most; above it, it says so."""

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size
MAX_CALL_BYTES = 32 * 1024
MAX_BATCH_BYTES = 500 * 1024
MAX_BATCH_CALLS = 2500

# A webhook's body becomes one message, and Pub/Sub takes no larger ones than 10 MB with their attributes:
# https://cloud.google.com/pubsub/quotas#resource_limits
MAX_WEBHOOK_BYTES = 9_000_000

# How long a body may take. Segment itself gives a webhook five seconds for everything
# (https://segment.com/docs/connections/destinations/catalog/webhooks/#faqs); a phone in a tunnel needs longer.
BODY_SECONDS = 10.0

# Pub/Sub's answer, waiting for a turn included: within Segment's five seconds.
PUBLISH_SECONDS = 4.0

# What bodies may hold together until they are in Pub/Sub. It is what bounds the memory of a process, at about four
# times as much: a body is held as it came, unpacked, as messages and as a request to Pub/Sub.
MAX_PENDING_BYTES = 64 * 1024 * 1024

# When to come back after a 503.
RETRY_SECONDS = 2

REFRESH_SECONDS = 10.0
"""How often connections are read anew: a revoked key opens the door no longer than this, and a reading, after."""
