"""From a rejected message to its dead letter."""

from schemas.messages import Message, MessageBlock
from schemas.rejections import DeadLetter, Rejected
from transforms.logic.parse_call import peek_call


def bury_message(
    message: Message,
    block: MessageBlock,
    step: str,
    verdict: Rejected,
    default_workspace_id: str,
    payload: bytes | None = None,
) -> DeadLetter:
    """The dead letter of a message, or of the part of it that `payload` is."""
    buried = message.payload if payload is None else payload
    call_type, message_id = peek_call(buried)
    return DeadLetter(
        buried,
        step,
        verdict.reason.value,
        verdict.detail,
        block.read_at if message.published_at is None else message.published_at,
        message.attributes.get("workspace_id") or default_workspace_id,
        message.attributes.get("connection_id") or None,
        call_type,
        message_id,
        dict(message.attributes),
        block.source,
    )
