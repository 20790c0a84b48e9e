"""A call without the traits of its person: what is written where persons come from the customer's warehouse."""

import msgspec

from schemas.calls import CallType, SegmentCall

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def drop_traits(call: SegmentCall) -> SegmentCall:
    """The call without the traits of an identify, and of any call without context.traits.

    Both are the person's: mobile libraries repeat the traits of the last identify in the context of every call. A
    group's traits are the group's and stay. All else of the context stays as it was sent.
    """
    body = "{}" if call.type == CallType.IDENTIFY else call.body
    context = call.context
    if '"traits"' in context or "\\" in context:  # an escape may spell the name otherwise
        members = _MEMBERS.decode(context)
        if members.pop("traits", None) is not None:
            context = msgspec.json.encode(members).decode()
    return msgspec.structs.replace(call, body=body, context=context)
