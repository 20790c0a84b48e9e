import os
import subprocess
import sys

import pytest

from pipelines.import_beam import needs_no_client

FILES = ("--input_files", "calls.jsonl", "--output_dir", "out")

IMPORT = """
import sys
from pipelines.import_beam import CLIENTS, PUBSUB_CLIENTS, import_beam
import_beam(sys.argv[1:])
print(*(name for name in ("apache_beam", *CLIENTS, *PUBSUB_CLIENTS) if name in sys.modules), sep=",")
import apache_beam, google.auth, google.cloud.bigquery_storage_v1, google.cloud.dataflow, google.cloud.storage
import apitools, pymongo, requests
from google.cloud import pubsub
pubsub.PublisherClient
"""


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (FILES, True),
        (("--input_subscription", "projects/p1/subscriptions/s", "--output_topic", "projects/p1/topics/t"), True),
        ((*FILES, "--output_dataset", "p.d"), False),
        ((*FILES, "--output_dataset=p.d"), False),
        ((*FILES, "--runner=DataflowRunner"), False),
        ((*FILES, "--runner", "DirectRunner"), False),
        (("--input_files=gs://bucket/*.jsonl", "--output_dir", "out"), False),
        ((*FILES, "--identity_settings", "gs://bucket/settings.toml"), False),
    ],
)
def test_what_names_the_cloud_is_told_from_what_does_not(flags: tuple[str, ...], expected: bool) -> None:
    assert needs_no_client(flags) is expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "imported"),
    [
        (FILES, "apache_beam"),
        ((*FILES, "--output_topic", "projects/p1/topics/t"), "apache_beam,google.auth,google.cloud.pubsub,requests"),
        ((*FILES, "--dead_letter_topic=projects/p1/topics/t"), "apache_beam,google.auth,google.cloud.pubsub,requests"),
    ],
)
def test_a_run_waits_for_no_client_that_it_does_not_need_and_each_can_be_imported_afterwards(
    flags: tuple[str, ...], imported: str
) -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORT, *flags], capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, imported, "")


BEARTYPE = """
import sys
from pipelines.import_beam import import_beam
import_beam(["--input_files", "calls.jsonl"])
from apache_beam.typehints.typehints import is_consistent_with
print(any(name.startswith("beartype") for name in sys.modules), end=" ")
print(is_consistent_with(bool, int), is_consistent_with(int, bool), is_consistent_with(0.5, int), end=" ")
print("beartype.door" in sys.modules)
"""


@pytest.mark.slow
def test_types_are_compared_as_beam_compares_them_but_nobody_waits_for_it() -> None:
    ran = subprocess.run([sys.executable, "-c", BEARTYPE], capture_output=True, text=True, timeout=60)

    assert (ran.stdout, ran.stderr) == ("False True False False True\n", "")


THREADS = """
import os
from pipelines.import_beam import import_beam
import_beam([])
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.slow
def test_numpy_starts_no_threads_but_those_that_somebody_asks_for() -> None:
    def count(**environment: str) -> int:
        command = [sys.executable, "-c", THREADS]
        return int(subprocess.check_output(command, env={**os.environ, **environment}, timeout=60))

    assert count(OPENBLAS_NUM_THREADS="2") == count() + 1
