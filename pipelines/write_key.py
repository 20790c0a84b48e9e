"""Where Segment's write key comes from: the environment, or Google's Secret Manager. Never a flag.

Who can read a command line or a job's options must not be able to send calls in the customer's name.
https://segment.com/docs/connections/find-writekey/
"""

import os
import re
from dataclasses import dataclass

from pipelines.usage import UsageError

SEGMENT_WRITE_KEY = "SEGMENT_WRITE_KEY"
"""The environment variable that holds the key, for runs on one machine."""

SECRET_FLAG = "--segment_write_key_secret"
"""The flag that names the secret, for the texts of errors."""

# https://cloud.google.com/secret-manager/docs/reference/rpc/google.cloud.secretmanager.v1#accesssecretversionrequest
_SECRET = re.compile(r"projects/[^/\s]+/secrets/[\w-]{1,255}(/versions/[\w-]{1,63})?", re.ASCII)


class NoWriteKeyError(RuntimeError):
    """The write key is not where it is looked for; one line that says what to do."""


class WriteKeyForbiddenError(NoWriteKeyError):
    """The account may not read the secret; another one may."""


@dataclass(frozen=True)
class WriteKeySource:
    """Where to look for the key: it travels to the workers, the key does not."""

    secret: str | None = None
    """`projects/P/secrets/S`, of which the latest version is read, or `projects/P/secrets/S/versions/V`.
    None: the environment variable SEGMENT_WRITE_KEY."""

    def __post_init__(self) -> None:
        """Refuse a name that no secret can have."""
        if self.secret is not None and not _SECRET.fullmatch(self.secret):
            raise UsageError(
                f"{SECRET_FLAG} {self.secret!r} is not of the form projects/PROJECT/secrets/NAME, "
                "with or without /versions/VERSION"
            )

    def check(self) -> None:
        """Look for the key where the job is launched. Raises `UsageError` if there is none to be found.

        A secret that the launcher may not read passes: the workers' service account may be the only one that may.
        """
        try:
            self.read()
        except WriteKeyForbiddenError:
            pass
        except NoWriteKeyError as error:
            raise UsageError(str(error)) from None

    def read(self) -> str:
        """The key, read anew. Raises `NoWriteKeyError`."""
        key = (self._read_environment() if self.secret is None else self._read_secret(self.secret)).strip()
        if not key or not key.isascii() or not key.isprintable():
            what = "no key, but other text" if key else "empty"
            raise NoWriteKeyError(f"Segment's write key in {self.secret or SEGMENT_WRITE_KEY} is {what}: mend it there")
        return key

    def _read_environment(self) -> str:
        if SEGMENT_WRITE_KEY not in os.environ:
            raise NoWriteKeyError(
                f"Segment's write key is missing: set the environment variable {SEGMENT_WRITE_KEY}, or, for workers "
                f"elsewhere, which do not have the launcher's environment, name a secret with {SECRET_FLAG}"
            )
        return os.environ[SEGMENT_WRITE_KEY]

    def _read_secret(self, secret: str) -> str:
        from google.api_core.exceptions import Forbidden, GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import secretmanager

        name = secret if "/versions/" in secret else f"{secret}/versions/latest"
        try:
            with secretmanager.SecretManagerServiceClient() as client:
                data: bytes = client.access_secret_version(name=name).payload.data
        except (GoogleAPIError, GoogleAuthError) as error:
            kind = WriteKeyForbiddenError if isinstance(error, Forbidden) else NoWriteKeyError
            raise kind(
                f"Segment's write key cannot be read from {name} ({type(error).__name__}): does the secret exist, and "
                f"may this account read it (roles/secretmanager.secretAccessor)? {SECRET_FLAG} names it"
            ) from None
        return data.decode(errors="replace")
