"""Where secrets are kept that have to be read again: Google's Secret Manager, or a folder on one machine.

They go in and are used; nothing here shows them to people.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol

# https://cloud.google.com/secret-manager/docs/reference/rpc/google.cloud.secretmanager.v1#createsecretrequest
_NAME = re.compile(r"[\w-]{1,255}", re.ASCII)
_PROJECT = re.compile(r"projects/[^/\s]+")

READ_SECONDS = 5.0
"""For Secret Manager's answer. Its library else waits and tries for a minute; who needs a secret asks again."""

WRITE_KEY_SECRET = "segment-write-key"
"""Segment's write key, for the source side: what `--segment_write_key_secret` of the email pipeline names."""


class SecretStoreError(RuntimeError):
    """The secret store did not do as asked; one line that says what to do, without the secret."""


class SecretStore(Protocol):
    """Keeps texts under names."""

    def write(self, name: str, value: str) -> None:
        """Keep it; the last one counts. Raises `SecretStoreError`."""

    def read(self, name: str) -> str | None:
        """The last one; None if there is none. Raises `SecretStoreError`."""


def signing_secret_name(connection_id: str) -> str:
    """The name of the secret with which signatures of a connection's webhooks are checked."""
    return f"signing-secret-{connection_id}"


def open_secret_store(where: str) -> SecretStore:
    """`projects/P`: Secret Manager; else a folder, made if need be, that only this user may read."""
    return SecretManagerStore(where) if _PROJECT.fullmatch(where) else FolderStore(Path(where))


class FolderStore:
    """A file a secret, readable by the user who wrote it. For one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, value: str) -> None:
        """See `SecretStore`; whoever reads meanwhile sees the old one or the new one."""
        path = self._path(name)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            unfinished.unlink(missing_ok=True)
            try:
                opened = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(opened, "w", encoding="utf-8") as file:
                    file.write(value)
                    file.flush()
                    os.fsync(opened)
                unfinished.replace(path)
            finally:  # part of a secret, where the disk is full
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise SecretStoreError(f"{path} cannot be written: {error.strerror}") from None

    def read(self, name: str) -> str | None:
        """See `SecretStore`."""
        path = self._path(name)
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretStoreError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SecretStoreError(f"{path} cannot be read: it is no text") from None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise SecretStoreError(f"{name!r} is no name of a secret")
        return self._folder / name


class SecretManagerStore:
    """Google's Secret Manager in `projects/P`; a secret's versions pile up there, and the latest counts."""

    def __init__(self, project: str) -> None:
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import secretmanager

        self._project = project
        try:
            self._client = secretmanager.SecretManagerServiceClient()
        except DefaultCredentialsError:
            raise SecretStoreError("no Google credentials: gcloud auth application-default login") from None

    def write(self, name: str, value: str) -> None:
        """See `SecretStore`."""
        from google.api_core.exceptions import AlreadyExists, GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import secretmanager

        path = f"{self._project}/secrets/{name}"
        secret = secretmanager.Secret(replication={"automatic": {}})
        try:
            with suppress(AlreadyExists):
                self._client.create_secret(parent=self._project, secret_id=name, secret=secret)
            self._client.add_secret_version(parent=path, payload=secretmanager.SecretPayload(data=value.encode()))
        except (GoogleAPIError, GoogleAuthError) as error:
            raise SecretStoreError(
                f"{path} cannot be written ({type(error).__name__}): is the API on, and does the account have "
                "roles/secretmanager.admin?"
            ) from None

    def read(self, name: str) -> str | None:
        """See `SecretStore`."""
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError

        path = f"{self._project}/secrets/{name}/versions/latest"
        try:
            answer = self._client.access_secret_version(name=path, retry=None, timeout=READ_SECONDS)
            data: bytes = answer.payload.data
        except NotFound:
            return None
        except (GoogleAPIError, GoogleAuthError) as error:
            raise SecretStoreError(
                f"{path} cannot be read ({type(error).__name__}): does the account have "
                "roles/secretmanager.secretAccessor?"
            ) from None
        return data.decode(errors="replace")
