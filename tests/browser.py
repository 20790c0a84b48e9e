"""A Chromium for Playwright, also where none is installed and nobody may install one."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

from playwright.sync_api import Browser, sync_playwright

from tests.node_tools import SDKS, install_sdks, one_at_a_time, run_node

ARGUMENTS = ("--no-sandbox", "--disable-gpu")
"""Containers allow no sandbox, and have no GPU."""

_NAMES = ("chromium", "google-chrome")
_START = """\
#!/bin/sh
here=$(dirname "$0")
[ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/chromium" "$@"
"""
_START_WITH_LIBRARIES = _START.replace(
    "exec", 'export LD_LIBRARY_PATH="$here/al2023/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\nexec'
)
# What comes with the package names only folders of Amazon's, and /tmp. A cache's folder is never relative to this file.
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <cachedir>{cache}</cachedir>
</fontconfig>
"""


class NoBrowserError(RuntimeError):
    """There is no Chromium here that starts; one line that says what to do."""


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Chromium without a window. Raises `NoBrowserError`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def find_chromium() -> str:
    """The one that CHROMIUM names, else one on the PATH, else npm's, inflated once. Raises `NoBrowserError`."""
    if named := os.environ.get("CHROMIUM"):
        return named
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoBrowserError("install Chromium, or name one in CHROMIUM: npm has one for Linux on x86-64 only")
    return str(_inflate_chromium(install_sdks() / "chromium"))


def _inflate_chromium(folder: Path) -> Path:
    """The program that starts it."""
    with one_at_a_time():
        if not folder.exists():
            unready = folder.with_suffix(".part")
            shutil.rmtree(unready, ignore_errors=True)
            unready.mkdir()
            run_node(SDKS / "inflate_chromium.mjs", environment={"TMPDIR": str(unready)})
            (unready / "fonts.conf").write_text(_FONTS.format(cache=escape(str(folder / "fonts-cache"))))
            _write_start(unready / "start")
            unready.rename(folder)
    return folder / "start"


def _write_start(start: Path) -> None:
    """A program that starts the Chromium beside it, with the libraries it came with if the system has too few."""
    start.touch(0o755)
    for text in (_START, _START_WITH_LIBRARIES):
        start.write_text(text)
        tried = subprocess.run([start, "--version"], capture_output=True, text=True, timeout=60)
        if tried.returncode == 0:
            return
    words = tried.stderr.strip().partition("\n")[0]
    raise NoBrowserError(f"npm's Chromium does not start here ({words}): install one, or name one in CHROMIUM")
