"""What the collector takes at most; above it, it says so."""

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size
MAX_BATCH_BYTES = 500 * 1024
MAX_BATCH_CALLS = 2500

# What a batch says of all its calls, repeated in each: twenty times more than a full batch of the usual kind has. Else
# half a megabyte could become a gigabyte.
MAX_SHARED_BYTES = 5_000_000

# https://segment.com/docs/connections/destinations/catalog/actions-webhook/#batch-size-limits
MAX_WEBHOOK_CALLS = 4000

# A webhook's body becomes one message, and Pub/Sub takes no larger ones than 10 MB with their attributes:
# https://cloud.google.com/pubsub/quotas#resource_limits
MAX_WEBHOOK_BYTES = 9_000_000

# How long a body may take. Segment itself gives a webhook five seconds for everything
# (https://segment.com/docs/connections/destinations/catalog/webhooks/#faqs); a phone in a tunnel needs longer.
BODY_SECONDS = 10.0

# Pub/Sub's answer, waiting for a turn included: within Segment's five seconds.
PUBLISH_SECONDS = 4.0

# What requests may hold together until they are in Pub/Sub: bodies as they came and unpacked, and messages. It bounds
# the memory of a process, at about twice as much: messages are copied once more to be sent.
MAX_PENDING_BYTES = 64 * 1024 * 1024

# Of these, what bodies of strangers may hold, whose key is in the body or who prove themselves by a signature: who has
# no key does not crowd out who has.
MAX_STRANGER_BYTES = MAX_PENDING_BYTES // 2

# What a message takes beside its payload, with the attributes (measured: 1,180 with short ones).
MESSAGE_BYTES = 1200

# An idle connection is kept for longer than load balancers keep theirs, 600 seconds at Google: a request that is under
# way as it is closed is lost. https://cloud.google.com/load-balancing/docs/https#timeouts_and_retries
KEEP_ALIVE_SECONDS = 620

# When to come back after a 503.
RETRY_SECONDS = 2

REFRESH_SECONDS = 10.0
"""How often connections are read anew: a revoked key opens the door no longer than this, and a reading, after."""
