"""From what a call costs to what a billion calls cost: nothing but arithmetic."""

import msgspec

from benchmarks import list_prices as prices

CALLS = 1_000_000_000

# An assumption: workers wait for a part of their time, for other services and for work.
BUSY = 0.6

# n1-standard-2, a worker of Streaming Engine: 7.5 GB for two vCPUs.
MEMORY_GIB_A_VCPU = 3.75


class CallCosts(msgspec.Struct):
    """What one call costs, on average. Bytes, but where another unit is said."""

    cpu_us: float
    input: float
    shuffled: float
    """By our own steps and by Beam's counts, not by the sinks."""
    sink_shuffled: float
    """By the sinks for streaming inserts."""
    state: float
    """Read and written."""
    json: float
    """To BigQuery, as insertAll takes it."""
    proto: float
    """To BigQuery, as the Storage Write API takes it."""
    billed_inserts: float
    logical: float


class Bill(msgspec.Struct):
    """A billion calls, in dollars, but where another unit is said."""

    vcpu_hours: float
    workers: float
    service: float
    """Streaming Engine, or Dataflow Shuffle."""
    pubsub: float
    ingestion: float
    """Into BigQuery."""
    storage_a_month: float

    @property
    def calls_a_vcpu_second(self) -> float:
        """What one vCPU gets done."""
        return CALLS / 3600 / self.vcpu_hours

    @property
    def total(self) -> float:
        """All of it; the rows are stored for one month."""
        return self.workers + self.service + self.pubsub + self.ingestion + self.storage_a_month


def price_storage_write(costs: CallCosts) -> Bill:
    """Pub/Sub to BigQuery by the Storage Write API.

    Its sink is Java's and cannot be measured here. For its CPU stands that of the whole anchor, which reads, parses and
    writes; it groups rows by stream, so each is shuffled once, and sent, as a protocol buffer.
    """
    hours = _vcpu_hours(costs.cpu_us) + _billion(1 / prices.ANCHOR_CALLS_A_VCPU_SECOND) / 3600
    processed = costs.input + costs.shuffled + costs.state + 2 * costs.proto
    return _bill_stream(costs, hours, processed, _gib(costs.proto) * prices.STORAGE_WRITE_GIB)


def price_streaming_inserts(costs: CallCosts) -> Bill:
    """Pub/Sub to BigQuery by streaming inserts."""
    processed = costs.input + costs.shuffled + costs.sink_shuffled + costs.state + costs.json
    ingestion = _billion(costs.billed_inserts) / (200 * prices.MIB) * prices.STREAMING_INSERTS_200_MIB
    return _bill_stream(costs, _vcpu_hours(costs.cpu_us), processed, ingestion)


def price_files(costs: CallCosts) -> Bill:
    """Files to BigQuery by load jobs, which are free."""
    hours = _vcpu_hours(costs.cpu_us)
    return Bill(
        vcpu_hours=hours,
        workers=_price_workers(hours, prices.BATCH_VCPU_HOUR),
        service=_gib(costs.shuffled) * prices.SHUFFLE_GIB,
        pubsub=0.0,
        ingestion=0.0,
        storage_a_month=_gib(costs.logical) * prices.STORAGE_GIB_MONTH,
    )


def _bill_stream(costs: CallCosts, hours: float, processed: float, ingestion: float) -> Bill:
    """`processed`: bytes a call, of what is read, what goes from stage to stage or into state, and what is written."""
    return Bill(
        vcpu_hours=hours,
        workers=_price_workers(hours, prices.STREAMING_VCPU_HOUR),
        service=_gib(processed) * prices.STREAMING_ENGINE_GIB,
        pubsub=2 * _billion(costs.input) / prices.TIB * prices.PUBSUB_TIB,
        ingestion=ingestion,
        storage_a_month=_gib(costs.logical) * prices.STORAGE_GIB_MONTH,
    )


def _vcpu_hours(cpu_us: float) -> float:
    return _billion(cpu_us) / 1_000_000 / 3600 / BUSY


def _price_workers(hours: float, vcpu_hour: float) -> float:
    return hours * (vcpu_hour + MEMORY_GIB_A_VCPU * prices.MEMORY_GIB_HOUR)


def _gib(bytes_a_call: float) -> float:
    return _billion(bytes_a_call) / prices.GIB


def _billion(a_call: float) -> float:
    return a_call * CALLS
