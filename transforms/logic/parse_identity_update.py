"""From a message's bytes to an identity update, or to the reason why it is none."""

import msgspec

from schemas.identity_updates import IdentityUpdate
from schemas.messages import Message
from schemas.rejections import Reason, Rejected
from transforms.logic.parse_call import normalise_email
from transforms.logic.read_wire import check_nesting

_DECODER = msgspec.json.Decoder(IdentityUpdate)
_INT64 = 2**63


def parse_identity_update(message: Message) -> IdentityUpdate:
    """Read one message as docs/identity_updates.md describes it.

    Raises `Rejected` if the payload can never become an update, however often retried.
    """
    payload = message.payload
    check_nesting(payload)
    try:
        payload.decode()
        update = _DECODER.decode(payload)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.IDENTITY_UPDATE_NOT_VALID, str(error)[:200]) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Rejected(Reason.BAD_REQUEST, "the payload is not JSON in UTF-8") from None
    if (update.user_id is None) == (update.email is None):
        raise Rejected(Reason.IDENTITY_UPDATE_NOT_VALID, "exactly one of user_id and email is to be set")
    if update.user_id == "" or update.person_id == "":
        raise Rejected(Reason.IDENTITY_UPDATE_NOT_VALID, "user_id or person_id is an empty string")
    if not -_INT64 <= update.version < _INT64:
        raise Rejected(Reason.IDENTITY_UPDATE_NOT_VALID, "version is beyond 64 bits")
    if update.email is None:
        return update
    email = normalise_email(update.email)
    if email is None:
        raise Rejected(Reason.IDENTITY_UPDATE_NOT_VALID, "email is no email")
    return msgspec.structs.replace(update, email=email)
