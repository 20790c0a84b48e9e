"""Which version of the pipeline this is: dead letters carry it."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def pipeline_version() -> str:
    """The release and, from a git checkout, the commit, e.g. `0.1.0+1a2b3c4`. Known where the job is launched."""
    try:
        release = version("segment-warehouse")
    except PackageNotFoundError:
        release = "0"
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+{commit}"
