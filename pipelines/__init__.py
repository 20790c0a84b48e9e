"""The two pipelines, and the only places that name Pub/Sub, BigQuery, files and HTTP: read, write, preflight, clients."""
