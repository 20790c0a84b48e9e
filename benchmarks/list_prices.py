"""Google's list prices, in dollars, without discounts and free tiers.

Of us-central1 in the middle of 2026, as copies of the pages that are named and others' notes of them have it: the live
pages were not read. They change and differ by region: check them before a budget is built on them.
"""

GIB = 2**30
TIB = 2**40
MIB = 2**20

# https://cloud.google.com/dataflow/pricing, "Worker CPU and memory".
STREAMING_VCPU_HOUR = 0.069
BATCH_VCPU_HOUR = 0.056
MEMORY_GIB_HOUR = 0.003557

# The same page. Streaming Engine by data processed; a job may be billed by Streaming Engine Compute Units instead,
# which nobody can count without running it.
STREAMING_ENGINE_GIB = 0.018
# Dataflow Shuffle, before the reductions for the volume of a job.
SHUFFLE_GIB = 0.011

# https://cloud.google.com/pubsub/pricing: published and delivered bytes alike.
PUBSUB_TIB = 40.0

# https://cloud.google.com/bigquery/pricing, "Data ingestion": the first 2 TiB of a month are free with the Storage
# Write API, load jobs are free. Active logical storage, US multi-region.
STORAGE_WRITE_GIB = 0.025
STREAMING_INSERTS_200_MIB = 0.01
STORAGE_GIB_MONTH = 0.02

# Google's benchmark of Beam Java, a map-only template, exactly-once, about 1 KiB a message:
# https://cloud.google.com/dataflow/docs/guides/pubsub-bigquery-performance. About, and to check as well.
ANCHOR_CALLS_A_VCPU_SECOND = 6_000
