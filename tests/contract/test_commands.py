"""The commands in scripts/ that people call: from any folder, with whatever words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"

COMMANDS = ("connections", "create_tables", "erase", "heal_identities", "replay_dead_letters")

# Stands in for a command's module: says where it runs.
_TELL = "import os, sys\nprint(os.getcwd(), *sys.argv[1:])\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the commands; this Python is its .venv, and there is nothing to install."""
    repository = tmp_path / "a clone"
    python = repository / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    scripts = repository / "scripts"
    scripts.mkdir()
    for command in COMMANDS:
        shutil.copy(SCRIPTS / command, scripts)
        (scripts / f"{command}.py").write_text(_TELL)
    (scripts / "__init__.py").touch()
    (scripts / "make_venv").write_text("#!/bin/sh\n")
    for program in (python, scripts / "make_venv"):
        program.chmod(0o755)
    return repository


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_among_the_flags_are_relative_to_the_callers_folder(repository: Path, command: str) -> None:
    theirs = repository.parent / "theirs"
    (theirs / "scripts").mkdir(parents=True)  # is nothing to us
    (theirs / "scripts/__init__.py").touch()

    ran = subprocess.run(
        [repository / "scripts" / command, "--file", "a b"],
        cwd=theirs,
        env=os.environ | {"CDPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == f"{theirs} --file a b\n"
