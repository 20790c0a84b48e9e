"""What Amazon SNS has to be asked for: certificates and confirmations, small and rarely."""

import httpx

from services.signatures.amazon_sns import MAX_ANSWER_BYTES, AmazonUnavailableError

FETCH_SECONDS = 3.0
"""Amazon gives a webhook 15 seconds for all: https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html"""


async def fetch_amazon(url: str) -> bytes:
    """The answer to a GET of a URL that was found to be Amazon's. It follows no redirects, which may lead elsewhere.

    Raises `AmazonUnavailableError`.
    """
    try:
        async with (
            httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=True) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise AmazonUnavailableError("Amazon's answer is too large")
            return bytes(content)
    except httpx.HTTPError as error:
        raise AmazonUnavailableError(f"Amazon does not answer ({type(error).__name__})") from None
