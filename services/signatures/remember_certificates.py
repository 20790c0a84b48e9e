"""Amazon's certificates, fetched once each: they change a few times a year, and each has its own URL."""

import asyncio
from collections import OrderedDict

from services.signatures.amazon_sns import AmazonUnavailableError, FetchAmazon, read_certificate

# A region has one or two at a time. What gets in was served by SNS, so a stranger cannot push them out.
MAX_CERTIFICATES = 100

# Who names certificates that do not exist makes us ask Amazon for them: not for more than these at a time.
MAX_FETCHES = 8


class RememberedCertificates:
    """To be given to `check_sns_message` in place of what fetches; of one event loop.

    Messages that wait for the same certificate wait for one fetch, which goes on if one of them is given up.
    """

    def __init__(
        self, fetch: FetchAmazon, max_certificates: int = MAX_CERTIFICATES, max_fetches: int = MAX_FETCHES
    ) -> None:
        self._fetch = fetch
        self._max_certificates = max_certificates
        self._max_fetches = max_fetches
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[bytes]] = {}

    async def __call__(self, url: str) -> bytes:
        """The certificate, as PEM. Raises `AmazonUnavailableError`."""
        if url in self._kept:
            self._kept.move_to_end(url)
            return self._kept[url]
        if url not in self._fetches:
            if len(self._fetches) >= self._max_fetches:
                raise AmazonUnavailableError("too many certificates are being fetched")
            self._fetches[url] = asyncio.create_task(self._fetch_and_keep(url))
            self._fetches[url].add_done_callback(_see_failure)
        return await asyncio.shield(self._fetches[url])

    async def _fetch_and_keep(self, url: str) -> bytes:
        try:
            pem = await self._fetch(url)
        finally:
            del self._fetches[url]
        read_certificate(pem)
        self._kept[url] = pem
        while len(self._kept) > self._max_certificates:
            self._kept.popitem(last=False)
        return pem


def _see_failure(task: asyncio.Task[bytes]) -> None:
    """Else asyncio complains of a failure that nobody waited for any more."""
    if not task.cancelled():
        task.exception()
