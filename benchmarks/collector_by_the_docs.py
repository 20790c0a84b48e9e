"""A collector as the documentation of FastAPI and of Pub/Sub teaches it, twice.

A pydantic model of a call, HTTPBasic with `secrets.compare_digest`, one publish a call, and an answer when Pub/Sub has
taken it. `blocking` waits for the future in a `def` endpoint, which FastAPI runs in a thread; `waiting` awaits it in an
`async def` one. Both let the publisher gather messages of several requests, as it does by default.
https://fastapi.tiangolo.com/advanced/security/http-basic-auth/
https://cloud.google.com/pubsub/docs/publisher#publish_messages

  CALLS_TOPIC=projects/P/topics/T API_KEY=... uvicorn benchmarks.collector_by_the_docs:blocking
"""

import asyncio
import os
import secrets
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from google.cloud import pubsub_v1
from pydantic import BaseModel

TOPIC = os.environ["CALLS_TOPIC"]
KEY = os.environ["API_KEY"].encode()

blocking = FastAPI()
waiting = FastAPI()
security = HTTPBasic()
publisher = pubsub_v1.PublisherClient()


class Call(BaseModel):
    """One call."""

    type: Literal["identify", "track", "page", "screen", "group", "alias"]
    messageId: str | None = None  # noqa: N815 - Segment's name, as those below
    userId: str | None = None  # noqa: N815
    anonymousId: str | None = None  # noqa: N815
    groupId: str | None = None  # noqa: N815
    previousId: str | None = None  # noqa: N815
    event: str | None = None
    name: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    timestamp: datetime | None = None
    sentAt: datetime | None = None  # noqa: N815


class Batch(BaseModel):
    """Several calls."""

    batch: list[Call]
    sentAt: datetime | None = None  # noqa: N815


def check_key(credentials: Annotated[HTTPBasicCredentials, Depends(security)]) -> None:
    """Raise 401 unless the user name is the key."""
    if not secrets.compare_digest(credentials.username.encode("utf8"), KEY):
        raise HTTPException(
            status_code=status.HTTP_401_UNAUTHORIZED,
            detail="Incorrect key",
            headers={"WWW-Authenticate": "Basic"},
        )


def publish(call: Call) -> Future[str]:
    """Its message id, once Pub/Sub has taken it."""
    data = call.model_dump_json(exclude_unset=True).encode("utf-8")
    received_at = datetime.now(UTC).isoformat()
    future: Future[str] = publisher.publish(
        TOPIC, data, workspace_id="default", connection_id="default", received_at=received_at
    )
    return future


@blocking.post("/v1/track", dependencies=[Depends(check_key)])
def track(call: Call) -> dict[str, bool]:
    """Take one call."""
    publish(call).result()
    return {"success": True}


@blocking.post("/v1/batch", dependencies=[Depends(check_key)])
def take_batch(batch: Batch) -> dict[str, bool]:
    """Take several calls."""
    for future in [publish(call) for call in batch.batch]:
        future.result()
    return {"success": True}


@waiting.post("/v1/track", dependencies=[Depends(check_key)])
async def track_waiting(call: Call) -> dict[str, bool]:
    """Take one call."""
    await asyncio.wrap_future(publish(call))
    return {"success": True}


@waiting.post("/v1/batch", dependencies=[Depends(check_key)])
async def take_batch_waiting(batch: Batch) -> dict[str, bool]:
    """Take several calls."""
    await asyncio.gather(*[asyncio.wrap_future(publish(call)) for call in batch.batch])
    return {"success": True}
