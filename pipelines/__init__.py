"""The pipelines, and the only places that name Pub/Sub, BigQuery and files: read, write_*, preflight, clients."""
