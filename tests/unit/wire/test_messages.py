"""Bytes to messages: what is understood, and what is refused in which words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.core.words import Availability
from stillhere.wire import messages
from stillhere.wire.messages import (
    META_DEPTH,
    SERVER_MESSAGES,
    Auth,
    BadMessage,
    Bye,
    Join,
    Leave,
    Page,
    Ping,
    Probe,
    Query,
    Request,
    State,
    Unwatch,
    Watch,
    decode,
    encode,
)

UNDERSTOOD: dict[str, tuple[str, Request]] = {
    "auth": ('{"type":"auth","token":"t"}', Auth("t")),
    "watch": ('{"type":"watch","id":1,"users":["bob","eve"]}', Watch(["bob", "eve"], 1)),
    "unwatch": ('{"type":"unwatch","id":"two","users":[]}', Unwatch([], "two")),
    "query": ('{"type":"query","users":["bob"]}', Query(["bob"])),
    "join": ('{"type":"join","id":3,"room":"r1","meta":{"seat":4}}', Join("r1", {"seat": 4}, 3)),
    "join without meta": ('{"type":"join","room":"r1"}', Join("r1", {})),
    "leave": ('{"type":"leave","id":4,"room":"r1"}', Leave("r1", 4)),
    "page": ('{"type":"page","id":8,"room":"r1","cursor":"bob","limit":1000}', Page("r1", "bob", 1000, 8)),
    "page without anything": ('{"type":"page","room":"r1"}', Page("r1", "", 100)),
    "state": (
        '{"type":"state","availability":"busy","meta":{"a":null}}',
        State(Availability.BUSY, {"a": None}),
    ),
    "state without anything": ('{"type":"state"}', State()),
    "bye": ('{"type":"bye"}', Bye()),
    "ping": ('{"type":"ping","id":7}', Ping(7)),
    "probe": ('{"type":"probe","n":3}', Probe(3)),
    "a field that is not known": ('{"type":"bye","why":["tired",{}]}', Bye()),
    "the type last": ('{"n":1,"type":"probe"}', Probe(1)),
    "space around": (' \n\t{ "type" : "bye" }\r\n', Bye()),
    "the last of two equal keys": ('{"type":"ping","id":1,"id":2}', Ping(2)),
    "an id of null": ('{"type":"ping","id":null}', Ping(None)),
    "an id above 64 bits": ('{"type":"ping","id":99999999999999999999}', Ping(99999999999999999999)),
    "escapes": (r'{"type":"leave","room":"\u0061\ud83d\ude00"}', Leave("a😀")),
    "every availability": ('{"type":"state","availability":"invisible"}', State(Availability.INVISIBLE)),
}


@pytest.mark.parametrize(("text", "message"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_message_is_understood(text: str, message: Request) -> None:
    assert decode(text.encode()) == message


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON"),
    "one byte": (b"{", "not JSON"),
    "malformed JSON": (b'{"type":"bye"', "not JSON"),
    "a trailing comma": (b'{"type":"bye",}', "not JSON"),
    "two messages": (b'{"type":"bye"}{"type":"bye"}', "not JSON"),
    "a BOM": (b'\xef\xbb\xbf{"type":"bye"}', "not JSON"),
    "single quotes": (b"{'type':'bye'}", "not JSON"),
    "a bare word": (b"hello", "not JSON"),
    "NaN": (b'{"type":"join","room":"r","meta":{"x":NaN}}', "not JSON"),
    "a lone surrogate": (rb'{"type":"ping","id":"\ud800"}', "not JSON"),
    "a lone surrogate where nobody looks": (rb'{"type":"ping","other":"\udfff"}', "not JSON"),
    "invalid UTF-8": (b'{"type":"ping","id":"\xff"}', "not UTF-8"),
    "a surrogate in UTF-8": (b'{"type":"leave","room":"\xed\xa0\x80"}', "not UTF-8"),
    "an overlong form in UTF-8": (b'{"type":"leave","room":"\xc0\xaf"}', "not UTF-8"),
    "UTF-16": ('{"type":"bye"}'.encode("utf-16"), "not JSON"),
    "an array": (b"[]", "not a valid message"),
    "a string": (b'"bye"', "not a valid message"),
    "a number": (b"1", "not a valid message"),
    "null": (b"null", "not a valid message"),
    "no type": (b"{}", "required field `type`"),
    "a type that is not known": (b'{"type":"shout"}', "Invalid value 'shout'"),
    "a type that is a number": (b'{"type":1}', "not a valid message"),
    "a type in capitals": (b'{"type":"BYE"}', "Invalid value 'BYE'"),
    "a type of the server": (b'{"type":"welcome"}', "Invalid value 'welcome'"),
    "a type of 30,000 characters": (b'{"type":"' + b"x" * 30_000 + b'"}', "Invalid value 'xxx"),
    "two types": (b'{"type":"ping","type":"bye"}', "Invalid value 'bye'"),
    "auth without a token": (b'{"type":"auth"}', "required field `token`"),
    "watch without users": (b'{"type":"watch","id":1}', "required field `users`"),
    "users that are a string": (b'{"type":"watch","users":"bob"}', "$.users"),
    "a user that is a number": (b'{"type":"query","users":["bob",7]}', "$.users[1]"),
    "a user that is null": (b'{"type":"unwatch","users":[null]}', "$.users[0]"),
    "join without a room": (b'{"type":"join"}', "required field `room`"),
    "a room that is a list": (b'{"type":"leave","room":[]}', "$.room"),
    "a page of nobody": (b'{"type":"page","room":"r","limit":0}', "$.limit"),
    "a page of more than 1,000": (b'{"type":"page","room":"r","limit":1001}', "$.limit"),
    "meta that is a list": (b'{"type":"join","room":"r","meta":[]}', "$.meta"),
    "meta that is null in a join": (b'{"type":"join","room":"r","meta":null}', "$.meta"),
    "an availability that is not known": (b'{"type":"state","availability":"online"}', "Invalid enum value 'online'"),
    "an id that is a fraction": (b'{"type":"ping","id":1.5}', "$.id"),
    "an id that is true": (b'{"type":"ping","id":true}', "$.id"),
    "an id that is an object": (b'{"type":"ping","id":{}}', "$.id"),
    "an id of 5,000 digits": (b'{"type":"ping","id":' + b"9" * 5000 + b"}", "out of range"),
    "a probe without a number": (b'{"type":"probe"}', "required field `n`"),
    "a probe whose number is a string": (b'{"type":"probe","n":"3"}', "$.n"),
    "a number that is no float": (b'{"type":"join","room":"r","meta":{"x":1e400}}', "out of range"),
    "an integer above 64 bits in meta": (b'{"type":"join","room":"r","meta":{"x":[18446744073709551616]}}', "64 bits"),
    "an integer below 64 bits in meta": (b'{"type":"state","meta":{"x":-9223372036854775809}}', "64 bits"),
    "arrays 100,000 deep": (b"[" * 100_000, "not a valid message"),
    "meta 100,000 deep": (b'{"type":"state","meta":{"x":' + b"[" * 100_000, "nested too deeply"),
    "meta 900 deep": (b'{"type":"state","meta":{"x":' + b"[" * 900 + b"]" * 900 + b"}}", "nested"),
    "an unknown field 100,000 deep": (b'{"type":"bye","x":' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize(("message", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_message_is_refused_with_a_reason(message: bytes, why: str) -> None:
    with pytest.raises(BadMessage) as refused:
        decode(message)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 200


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_bad_message(junk: bytes) -> None:
    for message in (junk, b'{"type":"leave","room":"' + junk + b'"}', b'{"type":"state","meta":' + junk + b"}"):
        try:
            decode(message)
        except BadMessage:
            pass


def _nested(depth: int, inner: str) -> bytes:
    """A ``state`` whose meta, itself the first level, is so many levels deep."""
    opened = '{"x":' * ((depth - 1) // 2), "[" * (depth - 1 - (depth - 1) // 2)
    closed = "]" * len(opened[1]), "}" * ((depth - 1) // 2)
    return f'{{"type":"state","meta":{{"x":{opened[0]}{opened[1]}{inner}{closed[0]}{closed[1]}}}}}'.encode()


@pytest.mark.parametrize("inner", ["", "1"])
def test_meta_may_be_nested_to_a_bound_and_no_further(inner: str) -> None:
    assert isinstance(decode(_nested(META_DEPTH, inner)), State)
    with pytest.raises(BadMessage, match=f"nested more than {META_DEPTH} levels"):
        decode(_nested(META_DEPTH + 1, inner))


def test_integers_in_meta_may_have_64_bits() -> None:
    request = decode(b'{"type":"state","meta":{"a":18446744073709551615,"b":[-9223372036854775808,true,1.5e300]}}')
    assert isinstance(request, State)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request.meta)) == request.meta


_ids = st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=64)


@given(_ids, st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_any_json_library_writes_is_read(id: int | str | None, users: list[str]) -> None:
    for ascii_only in (True, False):
        text = json.dumps({"type": "watch", "users": users, "id": id}, ensure_ascii=ascii_only)
        assert decode(text.encode()) == Watch(users, id)


EXAMPLES: list[tuple[msgspec.Struct, dict[str, Any]]] = [
    (
        messages.WelcomeMessage("c_1", "s_1", "ann", "77", "n1", 20000, 1, 2),
        {
            "type": "welcome",
            "connectionId": "c_1",
            "sessionId": "s_1",
            "user": "ann",
            "epoch": "77",
            "node": "n1",
            "heartbeatMs": 20000,
            "serverAt": 1,
            "expiresAt": 2,
        },
    ),
    (messages.Snapshot([], True, 4), {"type": "snapshot", "users": [], "complete": True, "id": 4}),
    (messages.Snapshot([], False), {"type": "snapshot", "users": [], "complete": False}),
    (messages.Presence([]), {"type": "presence", "changes": []}),
    (messages.Room("r", members=[]), {"type": "room", "room": "r", "members": []}),
    (
        messages.Room("r", leaves=[messages.Member("a", "offline", "7", 3)]),
        {"type": "room", "room": "r", "leaves": [{"user": "a", "status": "offline", "epoch": "7", "version": 3}]},
    ),
    (
        messages.Room("r", count=2, statuses={"online": 2}, page=[], cursor="a"),
        {"type": "room", "room": "r", "count": 2, "statuses": {"online": 2}, "page": [], "cursor": "a"},
    ),
    (messages.Ok(1), {"type": "ok", "id": 1}),
    (messages.Ok(), {"type": "ok"}),
    (messages.Pong("x"), {"type": "pong", "id": "x"}),
    (messages.ServerProbe(2), {"type": "probe", "n": 2}),
    (
        messages.Error("bad_request", "no", 0),
        {"type": "error", "code": "bad_request", "message": "no", "id": 0},
    ),
    (messages.Moving(1500), {"type": "moving", "reconnectInMs": 1500}),
]


@pytest.mark.parametrize(("message", "wire"), EXAMPLES, ids=[type(m).__name__ for m, _ in EXAMPLES])
def test_a_server_message_has_the_fields_of_the_protocol(message: msgspec.Struct, wire: dict[str, Any]) -> None:
    assert json.loads(encode(message)) == wire


def test_there_is_an_example_of_every_server_message() -> None:
    assert {type(message) for message, _ in EXAMPLES} == set(SERVER_MESSAGES)
