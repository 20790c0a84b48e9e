import os
import select
import socket
from pathlib import Path

import pytest

from scripts import start_pubsub as module
from scripts.start_pubsub import find_google_emulator, start_pubsub


def executable(path: Path, script: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in which programs are looked for."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return path


def install_gcloud(tmp_path: Path, path: Path) -> Path:
    (path / "gcloud").symlink_to(executable(tmp_path / "sdk/bin/gcloud"))
    return tmp_path / "sdk/platform/pubsub-emulator/bin/cloud-pubsub-emulator"


def test_googles_emulator_is_found_through_the_link_of_gcloud(tmp_path: Path, path: Path) -> None:
    emulator = executable(install_gcloud(tmp_path, path))
    executable(path / "java")

    assert find_google_emulator() == [str(emulator)]


def test_java_may_be_in_java_home(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = executable(install_gcloud(tmp_path, path))
    executable(tmp_path / "jdk/bin/java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    assert find_google_emulator() == [str(emulator)]


def test_googles_emulator_needs_gcloud_its_component_and_java(tmp_path: Path, path: Path) -> None:
    assert find_google_emulator() is None
    emulator = install_gcloud(tmp_path, path)
    executable(path / "java")
    assert find_google_emulator() is None
    executable(emulator)
    (path / "java").unlink()
    assert find_google_emulator() is None


def test_the_embedded_emulator_takes_the_place_of_one_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [str(executable(tmp_path / "broken", "exit 1"))]
    monkeypatch.setattr(module, "find_google_emulator", lambda: command)

    with start_pubsub() as pubsub:
        assert pubsub.kind == "embedded emulator"

    (line,) = capfd.readouterr().err.splitlines()
    assert "did not start" in line


def test_the_embedded_emulator_takes_the_place_of_one_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the process that it started itself, as Google's script starts Java, is gone: nobody holds the pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    command = [str(executable(tmp_path / "broken", f"(echo started; exec sleep 60) > {pipe} & wait"))]
    monkeypatch.setattr(module, "find_google_emulator", lambda: command)

    with start_pubsub(google_start_seconds=0.5) as pubsub:
        assert pubsub.kind == "embedded emulator"
        assert os.read(reader, 100) == b"started\n"
        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 100) == b""
    os.close(reader)


@pytest.mark.slow
def test_googles_emulator_is_gone_on_exit() -> None:
    if not find_google_emulator():
        pytest.skip("Google's Pub/Sub emulator or Java is not installed")

    with start_pubsub() as pubsub:
        assert pubsub.kind == "Google's emulator"
        address = pubsub.host.split(":")
        socket.create_connection((address[0], int(address[1]))).close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address[0], int(address[1]))).close()
