"""The embedded Pub/Sub emulator: a gRPC server that Google's clients, and Beam, reach through PUBSUB_EMULATOR_HOST.

For development where Google's own emulator is not installed. What it leaves out (push, filters, ordering, schemas,
snapshots, ...) it answers with UNIMPLEMENTED.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument
from google.pubsub_v1 import types

from scripts.pubsub_broker import MAX_ACK_DEADLINE_SECONDS, Broker, Consumer, Proto

# Each open stream and each waiting pull holds a thread; the call after the last one waits for its turn.
MAX_THREADS = 128

# Google's holds a pull for about 90 seconds, longer than Beam (30) or the Python client (60) have patience for, and
# they take that for an error. An empty answer makes them ask again.
PULL_WAIT_SECONDS = 2.0

# As the API documents for Pull, and as Google's emulator does for a stream.
MAX_PULL_MESSAGES = 1000
MAX_STREAM_MESSAGES = 100

# Documented for StreamingPullRequest.stream_ack_deadline_seconds.
MIN_STREAM_ACK_DEADLINE_SECONDS = 10

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Else a second emulator starts on the same port, and each gets half of the calls.
    ("grpc.so_reuseport", 0),
)

_ListTopicsResponse = types.ListTopicsResponse.pb()
_ListSubscriptionsResponse = types.ListSubscriptionsResponse.pb()
_ListTopicSubscriptionsResponse = types.ListTopicSubscriptionsResponse.pb()
_PublishResponse = types.PublishResponse.pb()
_PullResponse = types.PullResponse.pb()
_StreamingPullResponse = types.StreamingPullResponse.pb()


class PubsubEmulator:
    """A server on 127.0.0.1 from `__enter__` to `__exit__`; port 0 takes a free one."""

    host: str

    def __init__(self, port: int = 0) -> None:
        self._port = port
        broker = Broker()
        self._server = grpc.server(
            ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="pubsub-emulator"),
            handlers=[_publisher(broker), _subscriber(broker), _Unimplemented()],
            options=_OPTIONS,
        )

    def __enter__(self) -> Self:
        # Raises RuntimeError if the port is taken.
        self.host = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{self._port}')}"
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait()


def _publisher(broker: Broker) -> Any:
    def publish(request: Proto) -> Proto:
        return _PublishResponse(message_ids=broker.publish(request.topic, request.messages))

    def list_topics(request: Proto) -> Proto:
        topics, token = _page(broker.list_topics(request.project), request, lambda topic: topic.name)
        return _ListTopicsResponse(topics=topics, next_page_token=token)

    def list_topic_subscriptions(request: Proto) -> Proto:
        names, token = _page(broker.list_topic_subscriptions(request.topic), request, str)
        return _ListTopicSubscriptionsResponse(subscriptions=names, next_page_token=token)

    return grpc.method_handlers_generic_handler(
        "google.pubsub.v1.Publisher",
        {
            "CreateTopic": _unary(types.Topic, broker.create_topic),
            "GetTopic": _unary(types.GetTopicRequest, lambda request: broker.get_topic(request.topic)),
            "ListTopics": _unary(types.ListTopicsRequest, list_topics),
            "DeleteTopic": _unary(types.DeleteTopicRequest, lambda request: broker.delete_topic(request.topic)),
            "Publish": _unary(types.PublishRequest, publish),
            "ListTopicSubscriptions": _unary(types.ListTopicSubscriptionsRequest, list_topic_subscriptions),
        },
    )


def _subscriber(broker: Broker) -> Any:
    def list_subscriptions(request: Proto) -> Proto:
        held, token = _page(broker.list_subscriptions(request.project), request, lambda held: held.name)
        return _ListSubscriptionsResponse(subscriptions=held, next_page_token=token)

    def pull(request: Proto, context: grpc.ServicerContext) -> Proto:
        consumer = Consumer()
        context.add_callback(lambda: broker.leave(request.subscription, consumer))
        wait_seconds = 0.0 if request.return_immediately else PULL_WAIT_SECONDS
        most = min(request.max_messages, MAX_PULL_MESSAGES)
        with _Answer(context):
            return _PullResponse(received_messages=broker.pull(request.subscription, consumer, most, wait_seconds))

    def streaming_pull(requests: Iterator[Proto], context: grpc.ServicerContext) -> Iterator[Proto]:
        with _Answer(context):
            yield from _Stream(broker, requests, context).responses()

    return grpc.method_handlers_generic_handler(
        "google.pubsub.v1.Subscriber",
        {
            "CreateSubscription": _unary(types.Subscription, broker.create_subscription),
            "GetSubscription": _unary(
                types.GetSubscriptionRequest, lambda request: broker.get_subscription(request.subscription)
            ),
            "ListSubscriptions": _unary(types.ListSubscriptionsRequest, list_subscriptions),
            "DeleteSubscription": _unary(
                types.DeleteSubscriptionRequest, lambda request: broker.delete_subscription(request.subscription)
            ),
            "Acknowledge": _unary(
                types.AcknowledgeRequest, lambda request: broker.acknowledge(request.subscription, request.ack_ids)
            ),
            "ModifyAckDeadline": _unary(
                types.ModifyAckDeadlineRequest,
                lambda request: broker.modify_ack_deadline(
                    request.subscription, request.ack_ids, request.ack_deadline_seconds
                ),
            ),
            "Pull": grpc.unary_unary_rpc_method_handler(
                pull, types.PullRequest.pb().FromString, _PullResponse.SerializeToString
            ),
            "StreamingPull": grpc.stream_stream_rpc_method_handler(
                streaming_pull, types.StreamingPullRequest.pb().FromString, _StreamingPullResponse.SerializeToString
            ),
        },
    )


class _Stream:
    """One StreamingPull: messages go out on the caller's thread, the client's requests are read on another."""

    def __init__(self, broker: Broker, requests: Iterator[Proto], context: grpc.ServicerContext) -> None:
        first = next(requests, types.StreamingPullRequest.pb()())
        if not first.subscription:
            raise InvalidArgument("first message must set subscription")
        if not first.stream_ack_deadline_seconds:
            raise InvalidArgument("first message must set stream_ack_deadline_seconds")
        if not MIN_STREAM_ACK_DEADLINE_SECONDS <= first.stream_ack_deadline_seconds <= MAX_ACK_DEADLINE_SECONDS:
            raise InvalidArgument("stream_ack_deadline_seconds must be between 10 and 600 seconds")
        self._broker = broker
        self._name: str = first.subscription
        self._requests = requests
        self._consumer = Consumer(ack_deadline_seconds=first.stream_ack_deadline_seconds)
        # Google's emulator sends on regardless; Google does not, and a slow subscriber depends on it. 0: no limit.
        if first.max_outstanding_messages > 0:
            self._consumer.room = first.max_outstanding_messages
        self._refusal: GoogleAPICallError | None = None
        self._apply(first)
        context.add_callback(self._leave)

    def responses(self) -> Iterator[Proto]:
        """Until the client closes its side, cancels, or says something wrong."""
        threading.Thread(target=self._read_requests, daemon=True).start()
        while not self._consumer.gone:
            received = self._broker.pull(self._name, self._consumer, MAX_STREAM_MESSAGES, PULL_WAIT_SECONDS)
            if received:
                yield _StreamingPullResponse(received_messages=received)
        if self._refusal:
            raise self._refusal

    def _read_requests(self) -> None:
        try:
            for request in self._requests:
                if request.subscription:
                    raise InvalidArgument("subscription may only be set in first message")
                if request.stream_ack_deadline_seconds:
                    self._consumer.ack_deadline_seconds = request.stream_ack_deadline_seconds
                self._apply(request)
        except GoogleAPICallError as refusal:
            self._refusal = refusal
        except grpc.RpcError:
            # The client cancelled the stream: how every subscriber ends.
            pass
        finally:
            self._leave()

    def _apply(self, request: Proto) -> None:
        if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
            raise InvalidArgument("ack IDs and deadlines must have the same size")
        if request.ack_ids:
            self._broker.acknowledge(self._name, request.ack_ids)
        for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
            self._broker.modify_ack_deadline(self._name, [ack_id], seconds)

    def _leave(self) -> None:
        self._broker.leave(self._name, self._consumer)


class _Answer:
    """Ends the call with the status of the Google exception raised inside, if any."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, GoogleAPICallError):
            self._context.abort(error.grpc_status_code, error.message)


class _Unimplemented(grpc.GenericRpcHandler):
    """Answers the calls that no other handler takes."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def refuse(request: bytes, context: grpc.ServicerContext) -> None:
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"The embedded Pub/Sub emulator does not know {handler_call_details.method}",
            )

        return grpc.unary_unary_rpc_method_handler(refuse)


def _unary(request_type: Any, answer: Callable[[Proto], Proto | None]) -> Any:
    def handle(request: Proto, context: grpc.ServicerContext) -> bytes:
        with _Answer(context):
            response = answer(request)
            # google.protobuf.Empty has no bytes.
            return response.SerializeToString() if response is not None else b""

    return grpc.unary_unary_rpc_method_handler(handle, request_type.pb().FromString)


def _page(found: list[Any], request: Proto, name: Callable[[Any], str]) -> tuple[list[Any], str]:
    """One page of what is sorted by name, and the name at which the next begins."""
    rest = [item for item in found if name(item) >= request.page_token]
    if 0 < request.page_size < len(rest):
        return rest[: request.page_size], name(rest[request.page_size])
    return rest, ""


def main() -> None:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="The embedded Pub/Sub emulator.", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8085)
    port = parser.parse_args().port
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with PubsubEmulator(port) as emulator:
            print(f"Pub/Sub emulator ready: export PUBSUB_EMULATOR_HOST={emulator.host}", flush=True)
            stop.wait()
    except RuntimeError as refusal:
        sys.exit(f"Cannot serve on port {port}: {refusal}")


if __name__ == "__main__":
    main()
