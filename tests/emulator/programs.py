"""Our programs as processes of their own, and what they talk to."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google.cloud.pubsub_v1 as pubsub_v1
from google.cloud import bigquery

from tests.emulator.conftest import PROJECT
from tests.factories import sent

PATIENCE_SECONDS = 60.0

# A pipeline in a process with another thread, which cannot be forked: its workers start anew, as on macOS.
BESIDE_A_THREAD = """
import sys, threading, time
threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
from pipelines.segment_to_bigquery import run
sys.exit(run(sys.argv[1:]))
"""


def line(message_id: str, call_type: str = "track", **fields: object) -> bytes:
    """A call as one line, without the newline."""
    return json.dumps(sent(call_type, messageId=message_id, **fields)).encode()


class Topic:
    """A topic and its subscription."""

    def __init__(self, name: str) -> None:
        self.topic = f"projects/{PROJECT}/topics/{name}"
        self.subscription = f"projects/{PROJECT}/subscriptions/{name}"
        with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
            publisher.create_topic(name=self.topic)
            subscriber.create_subscription(name=self.subscription, topic=self.topic)

    def publish(self, data: bytes, **attributes: str) -> None:
        with pubsub_v1.PublisherClient() as publisher:
            publisher.publish(self.topic, data, **attributes).result(timeout=10)

    def publish_all(self, payloads: Iterable[bytes], **attributes: str) -> None:
        with pubsub_v1.PublisherClient() as publisher:
            for future in [publisher.publish(self.topic, data, **attributes) for data in payloads]:
                future.result(timeout=30)

    def pull(self) -> list[tuple[bytes, dict[str, str]]]:
        with pubsub_v1.SubscriberClient() as subscriber:
            pulled = subscriber.pull(subscription=self.subscription, max_messages=100, timeout=10)
            return [(each.message.data, dict(each.message.attributes)) for each in pulled.received_messages]

    def drain(self) -> list[bytes]:
        """What is there, acknowledged."""
        drained: list[bytes] = []
        with pubsub_v1.SubscriberClient() as subscriber:
            while True:
                request = {"subscription": self.subscription, "max_messages": 1000, "return_immediately": True}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    received = subscriber.pull(request=request, timeout=10).received_messages
                if not received:
                    return drained
                drained += [each.message.data for each in received]
                subscriber.acknowledge(subscription=self.subscription, ack_ids=[each.ack_id for each in received])


@contextmanager
def start_program(
    *flags: str, pipeline: str = "segment_to_bigquery", module: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A pipeline, or what `module` is, in a process of its own, gone on exit."""
    # where tests run in the background of a shell, SIGINT is ignored, and a program inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", module or f"pipelines.{pipeline}", *flags],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):  # not to their end: what the program has started may hold them
            assert pipe is not None
            pipe.close()


def run_program(*flags: str, module: str = "pipelines.segment_to_bigquery", exit_code: int = 0) -> str:
    """What it prints and says."""
    with start_program(*flags, module=module) as program:
        printed, said = program.communicate(timeout=120)
    assert program.returncode == exit_code, said
    return printed + said


def last_words(process: subprocess.Popen[str]) -> str:
    """What a program that has ended said last."""
    try:
        return process.communicate(timeout=10)[1][-3000:]
    except subprocess.TimeoutExpired:
        return "what it has started goes on"


def wait_until(
    process: subprocess.Popen[str], reached: Callable[[], bool], patience_seconds: float = PATIENCE_SECONDS
) -> None:
    give_up = time.monotonic() + patience_seconds
    while not reached():
        assert process.poll() is None, last_words(process)
        assert time.monotonic() < give_up, "it takes too long"
        time.sleep(0.2)


def ask(client: bigquery.Client, dataset: str, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in client.query_and_wait(sql.replace("{d}", dataset))]


def counts(client: bigquery.Client, dataset: str) -> dict[tuple[str, str | None], int]:
    rows = ask(client, dataset, "SELECT outcome, reason, SUM(count) FROM `{d}.counts` GROUP BY 1, 2")
    return {(outcome, reason): count for outcome, reason, count in rows}
