"""Where the browser of the tests is."""

import os


def find_chromium() -> str:
    """The path of a Chromium or its headless shell."""
    return os.environ.get("CHROMIUM", "/tmp/chromium")
