"""What hypothesis draws from: payloads aimed at where decoders, coders and sinks break."""

import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, TypeAlias

from hypothesis import strategies as st

from schemas.calls import CallType, SegmentCall
from tests.factories import NOW, sent

Fields: TypeAlias = list[tuple[str, str]]
"""The members of a JSON object in their order, each a name and a JSON text; a name may come twice."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)

ONE_OF_EACH_TYPE = ("null", "true", "false", "0", "1.5", '""', '"text"', "[]", "{}")

ODD_TEXTS = (
    *ONE_OF_EACH_TYPE,
    "-0",
    "-0.0",
    "5.0",
    "1e3",
    "1e-7",
    str(2**53 + 1),
    str(2**63 - 1),
    str(2**63),
    str(-(2**63) - 1),
    str(2**64),
    "1e308",
    "1e999",
    "-1e999",
    "9" * 310,
    "9" * 5000,
    '" "',
    r'"\u0000"',
    r'"\ud83d\ude00"',
    '"😀"',
    r'"\"\\\/\b\f\n\r\t"',
    '"\u2028"',
    "[" * 150 + "]" * 150,
    '{"a":' * 150 + "1" + "}" * 150,
    '[{"a":null},[[]],"x"]',
    '{"":1," ":2,"名前":3}',
    '{"email":" Ann@Example.COM "}',
    '{"email":5,"traits":{"email":5}}',
    '{"a":1e999}',
)
"""Valid JSON that something chokes on."""

BROKEN_TEXTS = (
    r'"\ud800"',
    r'"\udc00\ud800"',
    r'"\ud800\u0041"',
    '"\ud800"',  # becomes bytes that are not UTF-8
    r'"\x"',
    r'"\u12"',
    '"a\nb"',
    '"\x00"',
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "tru",
    "",
    "[1,]",
    '{"a":1,}',
    '{"a"}',
    "{1:2}",
    "1 2",
    "[" * 250 + "]" * 250,
    '{"a":' * 250 + "1" + "}" * 250,
    "[" * 250 + '"' + r"\"" * 50,
)
"""No JSON, or nested too deep."""

json_texts = st.one_of(
    st.sampled_from(ODD_TEXTS),
    json_values.map(json.dumps),
    json_values.map(partial(json.dumps, ensure_ascii=False)),
)

ODD_TIMES = (
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.5Z",
    "2026-01-01T00:00:00.123456Z",
    "2026-01-01T00:00:00.123456789Z",
    "2026-01-01T00:00:00.0000000000000000001Z",
    "2026-01-01T00:00:00,5Z",
    "2026-01-01T00:00:00z",
    "2026-01-01t00:00:00z",
    "2026-01-01 00:00:00",
    "2026-01-01T00:00",
    "2026-01-01T00",
    "2026-01-01",
    "20260101",
    "20260101T000000Z",
    "2026-W01-1",
    "2026-01-01T00:00:00+00:00",
    "2026-01-01T00:00:00-00:00",
    "2026-01-01T00:00:00.000+0000",
    "2026-01-01T00:00:00+00:00:30",
    "2026-01-01T05:30:00+05:30",
    "2026-01-01T23:59:60Z",
    "2026-01-01T24:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-01-01T00:00:00+24:00",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00-14:00",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59.9999999Z",
    "9999-12-31T23:59:59-00:01",
    "9999-W53-7",
    "12026-01-01T00:00:00Z",
    "-2026-01-01T00:00:00Z",
    "1767225600",
    "２０２６-01-01",
    "",
    " ",
    "now",
)

odd_times = st.one_of(
    st.sampled_from(ODD_TIMES),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(datetime(2025, 12, 30), datetime(2026, 1, 3)).map(lambda moment: moment.isoformat() + "Z"),
    st.builds(
        lambda moment, minutes: moment.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat(),
        st.datetimes(),
        st.integers(-24 * 60 + 1, 24 * 60 - 1),
    ),
)

ODD_EMAILS = (
    "ann@example.com",
    " Ann@Example.COM\n",
    "ann",
    "@",
    "a@b@c",
    "a b@c",
    "ann@",
    "İ@ẞ.Σ",
    "\u2003a@b\u2003",
    "",
)

_IDS = st.one_of(st.text(max_size=6), st.sampled_from(("u1", "null", "0-0", "NaN", "[object Object]", *ODD_EMAILS)))
_TEXTS = st.text(max_size=6)
_CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "traits": st.none() | st.fixed_dictionaries({}, optional={"email": st.sampled_from(ODD_EMAILS), "x": _TEXTS}),
        "groupId": st.none() | _TEXTS | st.integers(),
        "page": st.none() | st.fixed_dictionaries({}, optional={"url": _TEXTS, "path": st.none() | _TEXTS}),
        "ip": st.none() | _TEXTS,
        "personas": st.none()
        | st.fixed_dictionaries(
            {"computation_class": st.sampled_from(("audience", "trait"))},
            optional={
                "computation_key": st.sampled_from(("k", "l")),
                "computation_id": _TEXTS,
                "space_id": json_values,
            },
        ),
    },
)
_BODIES = st.dictionaries(
    st.sampled_from(("k", "l", "audience_key", "age", "createdAt", "name", "address", "company", "firstName", "名前")),
    st.booleans() | json_values | odd_times | st.just("k"),
    max_size=4,
)
_WELL_TYPED: dict[str, st.SearchStrategy[Any]] = {
    "messageId": _TEXTS,
    "userId": _IDS,
    "anonymousId": _IDS,
    "previousId": _IDS,
    "groupId": _IDS,
    "event": _TEXTS,
    "name": _TEXTS,
    "category": _TEXTS,
    "timestamp": odd_times,
    "originalTimestamp": odd_times,
    "sentAt": odd_times,
    "receivedAt": odd_times,
    "properties": _BODIES,
    "traits": st.builds(lambda body, email: {**body, "email": email}, _BODIES, st.sampled_from(ODD_EMAILS)),
    "context": _CONTEXTS,
    "integrations": json_values,
}
"""Field -> values of the type that the field should have, whether or not they are valid."""

call_types = st.sampled_from([call_type.value for call_type in CallType])


def render(fields: Fields) -> bytes:
    """The object as bytes; a lone surrogate becomes bytes that are not UTF-8."""
    members = ",".join(f"{json.dumps(name)}:{text}" for name, text in fields)
    return f"{{{members}}}".encode("utf-8", "surrogatepass")


@st.composite
def well_typed_calls(draw: st.DrawFn) -> Fields:
    """Calls whose fields have the right types, with odd values, some null, some absent, some twice."""
    fields = [(name, json.dumps(value)) for name, value in sent(draw(call_types)).items()]
    for name in draw(st.lists(st.sampled_from(sorted(_WELL_TYPED)), max_size=5)):
        value = draw(st.none() | _WELL_TYPED[name])
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if draw(st.booleans()):  # else it stands there twice: the last one counts
            fields = [field for field in fields if field[0] != name]
        fields.append((name, text))
    return draw(st.permutations(fields))


@st.composite
def near_valid_payloads(draw: st.DrawFn) -> bytes:
    """Calls of which one or two fields have become something else, or whose bytes were damaged."""
    fields = draw(well_typed_calls())
    names = sorted({"type", *_WELL_TYPED})
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
        text = draw(json_texts | st.sampled_from(BROKEN_TEXTS))
        if name in ("properties", "traits", "context") and draw(st.booleans()):
            inner = draw(
                st.sampled_from(("email", "traits", "groupId", "page", "personas", "age", "createdAt", "address"))
            )
            text = f'{{"{inner}":{text}}}'
        fields = [*[field for field in fields if field[0] != name], (name, text)]
    payload = render(draw(st.permutations(fields)))
    damage = draw(st.sampled_from(("none",) * 9 + ("cut", "byte", "padding")))
    if damage == "cut":
        return payload[: draw(st.integers(0, len(payload)))]
    if damage == "byte":
        at = draw(st.integers(0, len(payload)))
        return payload[:at] + draw(st.binary(min_size=1, max_size=2)) + payload[at:]
    return payload + b" " * 33 * 1024 if damage == "padding" else payload


arbitrary_payloads = st.one_of(
    st.binary(max_size=60),
    json_texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(BROKEN_TEXTS).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


def repeated_calls(span: int) -> st.SearchStrategy[list[SegmentCall]]:
    """Calls of few messageIds in two workspaces that arrived within `span` microseconds of each other."""
    return st.lists(
        st.builds(
            lambda workspace_id, message_id, arrived_at, user_id, event: SegmentCall(
                workspace_id, message_id, "track", NOW, NOW, NOW + arrived_at, user_id=user_id, event=event
            ),
            st.sampled_from(("w1", "w2")),
            st.sampled_from(("m1", "m2")),
            st.integers(0, span),
            st.none() | st.sampled_from(("u1", "u2")),
            st.sampled_from(("e1", "e2")),
        ),
        max_size=12,
    )


UTC_MOMENTS = st.datetimes(timezones=st.just(UTC))
