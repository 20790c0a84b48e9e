"""What every test leaves as it found it, and how many processes share the tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import google.auth
import pytest

from pipelines.clients import WITHOUT_CREDENTIALS


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """How many processes `-n auto` starts; None leaves it to pytest-xdist.

    None but this one for single files, which are done before others are up, nor where golden files are written anew:
    some tests read what another one writes.
    """
    files = all(Path(argument.partition("::")[0]).is_file() for argument in config.args)
    return 0 if files or os.environ.get("UPDATE_GOLDEN") else None


def pytest_configure() -> None:
    """What is printed, by us and by what we start, is as wide as without a terminal, whoever runs the tests."""
    os.environ["COLUMNS"] = "80"


def pytest_collection() -> None:
    """What is imported now stays to the end: looking through it for cycles, now and later, took a sixth of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See `pytest_collection`."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _process_wide_settings() -> Iterator[None]:
    """A local run changes Google's default credentials (for an emulator) and how garbage is collected."""
    default, thresholds = google.auth.default, gc.get_threshold()
    yield
    google.auth.default = default
    os.environ.pop(WITHOUT_CREDENTIALS, None)
    gc.set_threshold(*thresholds)
    gc.enable()
