import subprocess
import sys

import pytest

from pipelines.import_beam import needs_no_client

FILES = ("--input_files", "calls.jsonl", "--output_dir", "out")

IMPORT = """
import sys
from pipelines.import_beam import CLIENTS, import_beam
import_beam(sys.argv[1:])
print(*(name for name in ("apache_beam", *CLIENTS) if name in sys.modules), sep=",")
import apache_beam, google.cloud.dataflow, google.cloud.storage, pymongo, apitools
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
def test_a_run_of_files_waits_for_no_client_and_each_can_be_imported_afterwards() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORT, *FILES], capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "apache_beam", "")
