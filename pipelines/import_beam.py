"""The import of Beam, without what a run that stays on this machine has no use for."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

CLIENTS = ("apitools", "google.cloud.bigquery_storage_v1", "google.cloud.dataflow", "google.cloud.storage", "pymongo")
"""Of Google's older APIs, of BigQuery's storage, of Dataflow, of Cloud Storage and of MongoDB. They are extras of
Beam's, which does without each that is not installed, and a quarter of the time that its import takes."""

PUBSUB_CLIENTS = ("google.auth", "google.cloud.pubsub", "requests")
"""Of Pub/Sub, and what it signs in with: the same, but where a flag names a topic or a subscription Beam must have
it."""

_CLOUDS = ("--runner", "--output_dataset")


def import_beam(argv: Sequence[str]) -> None:
    """Import Beam, without the clients if these flags need none. Whatever asks for one later finds it as always."""
    # NumPy's import starts threads that spin for a tenth of a second, for linear algebra that nobody here does.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if needs_no_client(argv):
        names_topic = any("projects/" in word for word in argv)
        with _without(CLIENTS if names_topic else CLIENTS + PUBSUB_CLIENTS), _beartype_when_it_is_asked():
            # Whoever can publish imports it, and Beam itself does not where BigQuery lacks a client.
            import apache_beam.io.gcp.pubsub  # noqa: F401


def needs_no_client(argv: Sequence[str]) -> bool:
    """Whether the flags of a run name no other runner, no BigQuery and no Cloud Storage."""
    return not any(word.startswith(_CLOUDS) or "gs://" in word for word in argv)


@contextmanager
def _without(modules: Sequence[str]) -> Iterator[None]:
    """Let an import of these modules fail, as if they were not installed."""
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    logging.disable()  # Beam warns of what is missing
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        for name in hidden:
            del sys.modules[name]


class _NotComparableError(Exception):
    """What Beam takes as a no: beartype does not know such types."""


def _is_subhint(one: object, other: object) -> bool:
    from beartype.door import is_subhint
    from beartype.roar import BeartypeDoorException

    try:
        return is_subhint(one, other)
    except BeartypeDoorException as error:
        raise _NotComparableError from error


@contextmanager
def _beartype_when_it_is_asked() -> Iterator[None]:
    """Let Beam have beartype's one function without its 300 modules, which most pipelines' types never need."""
    names = ("beartype", "beartype.door", "beartype.roar")
    if any(name in sys.modules for name in names):
        yield
        return
    stand_ins = {name: ModuleType(name) for name in names}
    stand_ins["beartype.door"].is_subhint = _is_subhint  # type: ignore[attr-defined]
    stand_ins["beartype.roar"].BeartypeDoorException = _NotComparableError  # type: ignore[attr-defined]
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
