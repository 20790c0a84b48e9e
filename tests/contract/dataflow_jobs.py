"""Jobs as they would be sent to Dataflow: all is real but the credentials and the request itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import apache_beam as beam
import google.auth
from apache_beam.io.gcp import gcsio
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.internal import apiclient
from google.auth.credentials import AnonymousCredentials

_BEAMS_TRANSFORMS = (
    "MatchFiles",
    "ReadMessages",
    "PublishLetter",
    "PublishUpdate",
    "PublishCall",
    "CommitFiles",
    "SpreadRanges",
    "SumCounts",
)


@contextmanager
def no_cloud() -> Iterator[None]:
    """No credentials are looked for, no bucket is asked."""
    with (
        mock.patch.object(google.auth, "default", return_value=(AnonymousCredentials(), "my-project")),
        mock.patch.object(gcsio.GcsIO, "is_soft_delete_enabled", return_value=False),
    ):
        yield


@contextmanager
def one_build_at_a_time() -> Iterator[None]:
    """What is shipped is built in the source tree itself, where tests in other processes may want to build, too."""
    with (Path(__file__).parents[2] / "setup.py").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def launch(pipeline: beam.Pipeline) -> Any:
    """The job that running the pipeline would create."""
    jobs: list[Any] = []
    with (
        one_build_at_a_time(),
        mock.patch.object(apiclient.DataflowApplicationClient, "__init__", return_value=None),
        mock.patch.object(apiclient.DataflowApplicationClient, "create_job", side_effect=jobs.append),
    ):
        pipeline.run()
    return jobs[0]


def step_names(job: Any) -> list[str]:
    """Our own steps by name; what is inside Beam's transforms is Beam's to name."""
    names = {transform.unique_name for transform in job.proto_pipeline.components.transforms.values()}
    return sorted(name for name in names if not name.startswith("ref_AppliedPTransform") and not is_beams_own(name))


def is_beams_own(name: str) -> bool:
    """Whether a step is inside one of Beam's transforms."""
    parts = name.split("/")
    return any(part.startswith("Write") and part[5:6].isupper() for part in parts[1:-1]) or any(
        part in _BEAMS_TRANSFORMS for part in parts[:-1]
    )


def compare_step_names(job: Any, golden: str) -> None:
    """The steps' names are those of the golden file; with UPDATE_GOLDEN they become them."""
    path = Path(__file__).parent / golden
    names = step_names(job)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text("\n".join(names) + "\n")

    assert names == path.read_text().splitlines()


def state_key_coders(job: Any) -> dict[str, str]:
    """Each of our stateful steps -> the coder of its keys."""
    components = job.proto_pipeline.components
    stateful = {
        transform.unique_name: transform
        for transform in components.transforms.values()
        if transform.spec.urn == "beam:transform:pardo:v1"
        and beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).state_specs
        and not is_beams_own(transform.unique_name + "/x")
    }
    coders = {}
    for name, transform in stateful.items():
        coder = components.coders[components.pcollections[next(iter(transform.inputs.values()))].coder_id]
        coders[name] = components.coders[coder.component_coder_ids[0]].spec.urn
    return coders
