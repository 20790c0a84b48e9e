"""What every test leaves as it found it."""

import gc
from collections.abc import Iterator

import google.auth
import pytest


@pytest.fixture(autouse=True)
def _process_wide_settings() -> Iterator[None]:
    """A local run changes Google's default credentials (for an emulator) and the garbage collector's thresholds."""
    default, thresholds = google.auth.default, gc.get_threshold()
    yield
    google.auth.default = default
    gc.set_threshold(*thresholds)
