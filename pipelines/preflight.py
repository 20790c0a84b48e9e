"""Does all that the run needs exist? Asked before any work starts, so that a mistake costs a second and not a job."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines.clients import bigquery_client, find_columns
from pipelines.email_settings import EmailSettings
from pipelines.first_line import first_line, innermost
from pipelines.person_rows import find_file_columns, missing_column
from pipelines.read_known import VIEW, VIEW_COLUMNS
from pipelines.settings import PERSON_FILES, Settings
from pipelines.usage import UsageError
from pipelines.write_calls import CALLS_FOLDER, DEAD_LETTERS_FOLDER
from pipelines.write_identity_updates import FOLDER
from pipelines.write_key import SECRET_FLAG
from pipelines.write_lines import has_lines
from pipelines.write_parquet import has_parquet_files
from schemas.tables import CALLS_TABLES, EMAIL_TABLES, find_project, load_table

_TIMEOUT_SECONDS = 10.0


def check_world(settings: Settings, options: PipelineOptions) -> None:
    """Raise `UsageError` with the first thing that is missing."""
    if settings.output_dataset is not None and settings.bigquery_method == "FILE_LOADS":
        _check_temp_location(options.view_as(GoogleCloudOptions).temp_location)
    if settings.input_files is not None:
        _check_files("--input_files", settings.input_files)
    if settings.output_dir is not None:
        if settings.input_files is not None:  # a stream goes on where it was
            _refuse_used(settings.output_dir)
        _check_output_dir(settings.output_dir)
    if settings.input_subscription is not None:
        _check_subscription("--input_subscription", settings.input_subscription)
    if settings.dead_letter_topic is not None:
        _check_topic("--dead_letter_topic", settings.dead_letter_topic)
    if settings.identity_topic is not None:
        _check_topic("--identity_topic", settings.identity_topic)
    if settings.warehouse_persons is not None:
        _check_persons(settings.warehouse_persons)
    if settings.output_dataset is not None:
        tables = {name: load_table(name).columns for name in CALLS_TABLES}
        _check_dataset(settings.output_dataset, tables | {VIEW: VIEW_COLUMNS})


def check_email_world(settings: EmailSettings, local: bool) -> None:
    """Raise `UsageError` with the first thing that is missing for email_logs_to_segment.

    `local`: it runs in this process, which has the environment's write key.
    """
    for flag, pattern in (("--input_files", settings.input_files), ("--identity_files", settings.identity_files)):
        if pattern is not None:
            _check_files(flag, pattern)
    if settings.output_dir is not None:
        if settings.input_files is not None:
            _refuse_used(settings.output_dir)
        _check_output_dir(settings.output_dir)
    for flag, subscription in (
        ("--input_subscription", settings.input_subscription),
        ("--identity_subscription", settings.identity_subscription),
    ):
        if subscription is not None:
            _check_subscription(flag, subscription)
    for flag, topic in (
        ("--output_topic", settings.output_topic),
        ("--dead_letter_topic", settings.dead_letter_topic),
    ):
        if topic is not None:
            _check_topic(flag, topic)
    if settings.output_dataset is not None:
        _check_dataset(settings.output_dataset, {name: load_table(name).columns for name in EMAIL_TABLES})
    if settings.segment_endpoint is not None:
        if settings.segment_write_key_secret is None and not local:
            raise UsageError(f"workers elsewhere need {SECRET_FLAG}: they do not have this environment's write key")
        settings.write_key_source.check()


def _check_files(flag: str, pattern: str) -> list[str]:
    """The files that there are, at least one."""
    try:
        matched = FileSystems.match([pattern])[0].metadata_list
    except Exception as error:
        raise UsageError(f"{flag}: cannot look for {pattern!r}: {first_line(error)}") from None
    if not matched:
        raise UsageError(f"{flag}: no file matches {pattern!r}")
    for file in matched:
        if "://" not in file.path and os.path.isdir(file.path):
            raise UsageError(f"{flag}: {file.path!r} is a folder; name its files, e.g. {file.path}/*.jsonl")
        if "://" not in file.path and not os.access(file.path, os.R_OK):
            raise UsageError(f"{flag}: {file.path!r} may not be read")
    return [file.path for file in matched]


def _check_temp_location(location: str | None) -> None:
    """Where Beam's load jobs read from. Who may not look into a bucket may still be allowed to write there."""
    from google.api_core.exceptions import NotFound

    if location is None or not location.startswith("gs://"):
        raise UsageError(
            "--bigquery_method FILE_LOADS needs --temp_location gs://BUCKET/FOLDER: load jobs read from there"
        )
    try:
        FileSystems.match([FileSystems.join(location, "no-such-name*")])  # of others there may be very many
    except Exception as error:
        if isinstance(innermost(error), NotFound):
            raise UsageError(f"--temp_location: {location!r} cannot be written to: {first_line(error)}") from None


def _check_persons(source: str) -> None:
    if source.endswith(PERSON_FILES):
        first, *_ = _check_files("--warehouse_persons", source)  # of the others the run will tell
        try:
            columns = find_file_columns(first)
        except Exception as error:
            raise UsageError(f"--warehouse_persons: {first!r} cannot be read: {first_line(error)}") from None
        source = first
    else:
        columns = [name.lower() for name in _ask_columns("--warehouse_persons", source)]
    missing = missing_column(columns)
    if missing is not None:
        there = ", ".join(columns)[:200] or "none"
        raise UsageError(f"--warehouse_persons: {source!r} has no column {missing}; its columns are: {there}")


def _ask_columns(flag: str, table: str) -> list[str]:
    with _ask_bigquery(
        flag, find_project(find_project(table)), lambda _: f"{table!r} does not exist at {_bigquery()}"
    ) as client:
        return find_columns(client, table, retry=None, timeout=_TIMEOUT_SECONDS)


@contextmanager
def _ask_bigquery(flag: str, project: str, say_missing: Callable[[Exception], str]) -> Iterator[Any]:
    """A client for the questions within; what BigQuery says against them is a `UsageError`."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        client = bigquery_client(project)
        try:
            yield client
        finally:
            client.close()
    except exceptions.NotFound as error:
        raise UsageError(f"{flag}: {say_missing(error)}") from None
    except (exceptions.GoogleAPICallError, GoogleAuthError, RequestException, exceptions.RetryError) as error:
        raise UsageError(f"{flag}: {_bigquery()} cannot be asked: {first_line(error)}") from None


def _refuse_used(output_dir: str) -> None:
    """By either pipeline: both write dead letters, one as lines and one as Parquet."""
    try:
        is_used = any(has_lines(output_dir, folder) for folder in (FOLDER, CALLS_FOLDER, DEAD_LETTERS_FOLDER)) or any(
            has_parquet_files(FileSystems.join(output_dir, table)) for table in CALLS_TABLES
        )
    except Exception as error:
        raise UsageError(f"--output_dir: cannot look into {output_dir!r}: {first_line(error)}") from None
    if is_used:
        raise UsageError(
            f"--output_dir: {output_dir!r} holds the files of an earlier run; name another folder or remove them, "
            "since both together would hold every call twice"
        )


def _check_output_dir(output_dir: str) -> None:
    if "://" not in output_dir:
        try:
            os.makedirs(output_dir, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--output_dir: cannot make {output_dir!r}: {error.strerror}") from None
        if not os.access(output_dir, os.W_OK):
            raise UsageError(f"--output_dir: {output_dir!r} may not be written to")


def _check_subscription(flag: str, subscription: str) -> None:
    import google.cloud.pubsub_v1 as pubsub_v1

    _ask_pubsub(
        f"{flag}: {subscription!r}",
        pubsub_v1.SubscriberClient,
        lambda client: client.get_subscription(subscription=subscription, retry=None, timeout=_TIMEOUT_SECONDS),
    )


def _check_topic(flag: str, topic: str) -> None:
    import google.cloud.pubsub_v1 as pubsub_v1

    _ask_pubsub(
        f"{flag}: {topic!r}",
        pubsub_v1.PublisherClient,
        lambda client: client.get_topic(topic=topic, retry=None, timeout=_TIMEOUT_SECONDS),
    )


def _ask_pubsub(what: str, make_client: Any, ask: Any) -> None:
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    where = f"the emulator at {emulator} (PUBSUB_EMULATOR_HOST)" if emulator else "Pub/Sub"
    try:
        client = make_client()
        try:
            ask(client)
        finally:
            client.transport.close()
    except exceptions.NotFound:
        raise UsageError(f"{what} does not exist at {where}") from None
    except (exceptions.GoogleAPICallError, GoogleAuthError, exceptions.RetryError) as error:
        raise UsageError(f"{what}: {where} cannot be asked: {first_line(error)}") from None


def _check_dataset(dataset: str, wanted: Mapping[str, Sequence[str]]) -> None:
    """`wanted`: tables and views, each with its columns."""
    create = f"run scripts/create_tables --dataset {dataset}"

    def say_missing(error: Exception) -> str:
        return f"{dataset!r} lacks tables at {_bigquery()} ({first_line(error)}): {create}"

    with _ask_bigquery("--output_dataset", find_project(dataset), say_missing) as client:
        for name, columns in wanted.items():
            found = find_columns(client, f"{dataset}.{name}", retry=None, timeout=_TIMEOUT_SECONDS)
            missing = [column for column in columns if column not in found]
            if missing:
                raise UsageError(f"--output_dataset: {dataset}.{name} lacks the column {missing[0]}: {create}")


def _bigquery() -> str:
    emulator = os.environ.get("BIGQUERY_EMULATOR_HOST")
    return f"the emulator at {emulator} (BIGQUERY_EMULATOR_HOST)" if emulator else "BigQuery"
