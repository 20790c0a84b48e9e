"""Clients of Google Cloud, made in one place: the only code that knows whether an emulator stands in for a service."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.first_line import first_line

if TYPE_CHECKING:  # google.cloud takes a second to import; a local run without BigQuery needs none of it
    from google.cloud.bigquery import Client

BIGQUERY_EMULATOR_HOST = "BIGQUERY_EMULATOR_HOST"
"""The environment variable that sends Google's clients, ours and Beam's, to an emulator, e.g. http://127.0.0.1:9050."""

STORAGE_EMULATOR_HOST = "STORAGE_EMULATOR_HOST"
"""The same for Cloud Storage."""

WITHOUT_CREDENTIALS = "SEGMENT_WAREHOUSE_WITHOUT_CREDENTIALS"
"""The environment variable by which a run tells workers that are no forks to do as it does; the default project."""

MOST_SECONDS = 300.0
"""How long a request waits for the next bytes of its answer if nobody says: Google's client would wait for ever for a
connection that is gone. The answer to a query may take 200 s."""


def is_bigquery_emulated() -> bool:
    """Whether BIGQUERY_EMULATOR_HOST sends this process to an emulator."""
    return bool(os.environ.get(BIGQUERY_EMULATOR_HOST))


def bigquery_client(project: str) -> "Client":
    """Return a BigQuery client that bills `project`: the emulator's if BIGQUERY_EMULATOR_HOST names one, else Google's.

    The emulator is met without credentials, Google with application default credentials: raises
    google.auth.exceptions.DefaultCredentialsError if there are none. Nothing is sent yet. No request waits for ever.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.bigquery import Client

    if is_bigquery_emulated():
        options = {"api_endpoint": _emulator_url()}
        client = Client(project=project, credentials=AnonymousCredentials(), client_options=options)
    else:
        client = Client(project=project)
    _bound_requests(client._http)
    return client


def _emulator_url() -> str:
    # Google's client takes the variable as a URL; people write it without the scheme, as for the other emulators.
    emulator = os.environ[BIGQUERY_EMULATOR_HOST]
    return emulator if "://" in emulator else f"http://{emulator}"


def _bound_requests(session: Any) -> None:
    """Give each request of the session that has no timeout one. Its adapters stay: one may show a certificate."""
    send = session.send

    def send_in_time(request: Any, **kwargs: Any) -> Any:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = MOST_SECONDS
        return send(request, **kwargs)

    session.send = send_in_time


def find_columns(client: "Client", table: str, **call: Any) -> list[str]:
    """The columns of a table or view, in their order; `call` are arguments of get_table. Raises Google's exceptions."""
    columns = [field.name for field in client.get_table(table, **call).schema]
    if not columns and is_bigquery_emulated():  # bqemulator 1.4.0 tells no columns of a view
        columns = [field.name for field in client.query_and_wait(f"SELECT * FROM `{table}` LIMIT 0").schema]
    return columns


def use_emulators(dataset: str | None) -> None:
    """Let Beam's own BigQuery sink meet the emulator without credentials, where BIGQUERY_EMULATOR_HOST names one.

    The sink asks Google's library for default credentials and a default project, and there is no flag to say that none
    are needed. Its load jobs have a client of their own, which does not know the variable. Without an emulator nothing
    changes.
    """
    if dataset is None or not is_bigquery_emulated():
        return
    from schemas.tables import find_project

    _use_no_credentials(find_project(dataset))
    _redirect_load_jobs()


def go_without_credentials(argv: Sequence[str]) -> str | None:
    """Let Beam meet Cloud Storage without credentials, if flags name it and there are none; what to warn of then.

    What is public can be read so, and an emulator asks for none. Beam would come to the same, after it had looked for
    credentials five times, for half a minute, and had printed a traceback each time.
    """
    if not any("gs://" in word for word in argv):
        return None
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        _use_no_credentials(None)
        if not os.environ.get(STORAGE_EMULATOR_HOST):
            return f"without Google credentials, so with public buckets only: {first_line(error)}"
    return None


def do_as_the_run() -> None:
    """Go without credentials in a worker process, if its run does."""
    project = os.environ.get(WITHOUT_CREDENTIALS)
    if project is not None:
        _use_no_credentials(project or None)
        if is_bigquery_emulated():
            _redirect_load_jobs()


def _use_no_credentials(project: str | None) -> None:
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    google.auth.default = lambda *args, **kwargs: (AnonymousCredentials(), project)
    os.environ[WITHOUT_CREDENTIALS] = project or ""


def _redirect_load_jobs() -> None:
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2

    BigqueryV2.BASE_URL = f"{_emulator_url()}/bigquery/v2/"
