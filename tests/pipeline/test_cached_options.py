"""The options that a pipeline gets: Beam's own, of which each group is parsed once."""

import copy
import pickle

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TypeOptions,
)

from pipelines.runners import make_options
from pipelines.settings import build_parser

CLOUD = ["--runner=DataflowRunner", "--project=my-project", "--impersonate_service_account=deputy@example.com"]


def options_of(*beam_flags: str) -> PipelineOptions:
    return make_options(beam_flags, build_parser(), input_files="calls.jsonl")


def test_a_group_is_parsed_once() -> None:
    options = options_of()

    assert options.view_as(TypeOptions) is options.view_as(TypeOptions)


def test_groups_share_what_is_set() -> None:
    options = options_of(*CLOUD)
    google = options.view_as(GoogleCloudOptions)
    options.view_as(StandardOptions).view_as(GoogleCloudOptions).region = "europe-west1"

    assert (google.project, google.region) == ("my-project", "europe-west1")
    assert options.get_all_options()["region"] == "europe-west1"


def test_a_copy_is_on_its_own() -> None:
    """Beam copies what it is given, and sets the copy's runner."""
    options = options_of()
    options.view_as(StandardOptions).runner = "before"
    copied = copy.deepcopy(options)
    copied.view_as(StandardOptions).runner = "after"

    assert options.view_as(StandardOptions).runner == "before"
    assert copied.view_as(SetupOptions).save_main_session is False


def test_workers_are_not_told_whose_deputy_launches() -> None:
    """Beam takes the account out of what it pickles; the groups know it, too."""
    options = options_of(*CLOUD)
    pickled = pickle.dumps(options)

    assert options.view_as(GoogleCloudOptions).impersonate_service_account == "deputy@example.com"
    assert b"deputy@example.com" not in pickled.replace(b"--impersonate_service_account=deputy@example.com", b"")
    assert pickle.loads(pickled).view_as(GoogleCloudOptions).project == "my-project"
