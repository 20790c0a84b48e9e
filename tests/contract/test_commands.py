"""The commands in scripts/ that people call: from any folder, with whatever words."""

import ast
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
    shutil.copy(SCRIPTS / "run_module", scripts)
    for command in COMMANDS:
        shutil.copy(SCRIPTS / command, scripts)
        (scripts / f"{command}.py").write_text(_TELL)
    (scripts / "__init__.py").touch()
    (scripts / "make_venv").write_text("#!/bin/sh\n")
    for program in (python, scripts / "make_venv"):
        program.chmod(0o755)
    return repository


def make_venv(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([repository / "scripts/make_venv", *words], capture_output=True, text=True)


@pytest.fixture
def installing(repository: Path) -> Path:
    """The same with its own make_venv, and a Python that only writes down what it is to install."""
    shutil.copy(SCRIPTS / "make_venv", repository / "scripts")
    shutil.copy(SCRIPTS.parent / "setup.py", repository)
    (repository / ".venv/bin/python").write_text('#!/bin/sh\nfor word; do :; done\necho "$word" >> installed\n')
    return repository


def installed(repository: Path) -> list[str]:
    return (repository / "installed").read_text().split() if (repository / "installed").exists() else []


def test_extras_that_are_there_are_not_installed_again(installing: Path) -> None:
    for words in ("local,services", "local", "services", "services,local", "local,test", "test"):
        assert make_venv(installing, words).returncode == 0

    assert installed(installing) == [".[local,services]", ".[local,test]"]


def test_extras_are_installed_again_when_setup_py_has_changed(installing: Path) -> None:
    make_venv(installing, "local")
    later = (installing / ".venv/.installed-local").stat().st_mtime + 10
    os.utime(installing / "setup.py", (later, later))

    assert make_venv(installing, "local").returncode == 0
    assert installed(installing) == [".[local]"] * 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name the extras, with commas between"),
        ([""], "name the extras, with commas between"),
        (["local", "test"], "name the extras, with commas between"),
        (["nosuch"], "no extra is called nosuch"),
        (["local,nosuch"], "no extra is called nosuch"),
        (["*"], "no extra is called *"),
    ],
)
def test_extras_that_are_none_are_refused_in_one_line(installing: Path, words: list[str], says: str) -> None:
    made = make_venv(installing, *words)

    assert made.returncode == 2
    assert made.stderr == (
        f"scripts/make_venv: {says}; there are: local services test. For example: scripts/make_venv local,test\n"
    )
    assert installed(installing) == []


def test_each_extra_of_setup_py_is_known(installing: Path) -> None:
    setup = ast.parse((SCRIPTS.parent / "setup.py").read_text())
    (extras,) = [
        word.value for word in ast.walk(setup) if isinstance(word, ast.keyword) and word.arg == "extras_require"
    ]

    assert make_venv(installing, ",".join(ast.literal_eval(extras))).returncode == 0


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
