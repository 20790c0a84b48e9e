"""A Pub/Sub on this machine: Google's own emulator where it is installed, else the embedded one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.pubsub_v1 import types

from scripts.free_ports import find_free_ports
from scripts.pubsub_emulator import PubsubEmulator

# Java takes about two seconds here, and several times that on a busy machine.
GOOGLE_START_SECONDS = 30.0

# gRPC's own first retry comes after a second, and the next ones later and later.
_EAGER = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100))


@dataclass(frozen=True)
class RunningPubsub:
    """What to put into PUBSUB_EMULATOR_HOST, and which emulator answers there."""

    host: str
    kind: str


def find_google_emulator() -> list[str] | None:
    """The command that starts it: the Google Cloud CLI with its pubsub-emulator component, and Java, are needed.

    `gcloud info` knows where the component is, but takes seconds to say so: the link of the executable tells as well.
    """
    gcloud = shutil.which("gcloud")
    java = shutil.which(
        "java", path=os.path.join(os.environ["JAVA_HOME"], "bin") if "JAVA_HOME" in os.environ else None
    )
    if not gcloud or not java:
        return None
    sdk = Path(gcloud).resolve().parent.parent
    emulator = shutil.which(sdk / "platform/pubsub-emulator/bin/cloud-pubsub-emulator")
    return [str(emulator)] if emulator else None


@contextmanager
def start_pubsub(
    prefer_google: bool = True, google_start_seconds: float = GOOGLE_START_SECONDS
) -> Iterator[RunningPubsub]:
    """An empty Pub/Sub, gone on exit. One line on stderr says so if Google's was wanted, is there and did not start."""
    command = find_google_emulator() if prefer_google else None
    if command:
        with _google_emulator(command, google_start_seconds) as host:
            if host:
                yield RunningPubsub(host, "Google's emulator")
                return
        print(
            f"Google's Pub/Sub emulator did not start ({command[0]}); the embedded one takes its place.",
            file=sys.stderr,
        )
    with PubsubEmulator() as emulator:
        yield RunningPubsub(emulator.host, "embedded emulator")


@contextmanager
def _google_emulator(command: list[str], start_seconds: float) -> Iterator[str | None]:
    """Its address, or None if it did not answer in time."""
    (port,) = find_free_ports(1)
    # A process group of its own: Ctrl-C does not reach it before us, and its Java ends with it.
    process = subprocess.Popen(
        [*command, "--host=127.0.0.1", f"--port={port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        host = f"127.0.0.1:{port}"
        yield host if _answers(host, process, start_seconds) else None
    finally:
        with suppress(ProcessLookupError):
            # It has nothing to save.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(host: str, process: subprocess.Popen[bytes], seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    with grpc.insecure_channel(host, options=_EAGER) as channel:
        list_topics = channel.unary_unary("/google.pubsub.v1.Publisher/ListTopics")
        request = types.ListTopicsRequest.pb()(project="projects/ready").SerializeToString()
        while process.poll() is None and time.monotonic() < give_up:
            with suppress(grpc.RpcError):
                list_topics(request, timeout=0.5, wait_for_ready=True)
                return True
    return False
