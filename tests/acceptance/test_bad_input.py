"""What anybody may send, and what comes of it: the answer that docs/protocol.md names, and nothing for anybody else.

Every row is sent while a bystander is connected and watched. After it the bystander is still answered promptly, and
nobody was shown a change of it. How tokens are forged is in ``test_forged_tokens.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.acceptance.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    HandshakeRefused,
    Raw,
    close_payload,
    dial,
    encode_frame,
    text_frame,
    upgrade_head,
)
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import enter, watch

AUTH_TIMEOUT, HANDSHAKE_TIMEOUT = 1.0, 1.2
PROMPT = 2.0
"""Seconds within which a bystander is answered even on a busy machine."""

LIMITS: dict[str, object] = {
    "limits.auth_timeout_ms": round(AUTH_TIMEOUT * 1000),
    "limits.handshake_timeout_ms": round(HANDSHAKE_TIMEOUT * 1000),
    "limits.connections_per_user": 3,
    "limits.watch": 100,
    "limits.queries": 100,
    "limits.rooms": 3,
    "limits.messages_burst": 200,
}
MEBIBYTE = 1 << 20


class House:
    """The server, a bystander in it, and somebody who watches the bystander."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.bystander = enter(server, "bystander", "t")
        self.watcher = watch(server, "bystander", rooms=["lobby"])
        self.bystander.ask({"type": "join", "id": "j", "room": "lobby"}, "room")
        self.users = 0

    def guest(self, **options: Any) -> Raw:
        """A connection of a user of its own."""
        self.users += 1
        return Raw.open(self.server.ws_url, self.server.token(f"guest-{self.users}"), **options)

    @property
    def name(self) -> str:
        """Of the last guest."""
        return f"guest-{self.users}"

    def undisturbed(self) -> None:
        """Nobody else noticed anything."""
        assert self.bystander.round_trip() < PROMPT
        self.watcher.settle()
        assert self.watcher.alive
        assert self.watcher.changes("bystander") == []
        assert not any("leaves" in seen.message for seen in self.watcher.room_frames("lobby"))

    def close(self) -> None:
        """End both."""
        self.watcher.stop()
        self.bystander.tcp.close()


@pytest.fixture(scope="module", params=TRANSPORTS)
def whole(request: pytest.FixtureRequest) -> Iterator[House]:
    """One server for the table; in the end it has no traceback to tell of."""
    transport: Transport = request.param
    with ServerProcess(LIMITS, websocket=transport) as server:
        house = House(server)
        yield house
        house.close()
        assert server.terminate() == 0
        assert [line for line in server.log() if line["level"] in ("error", "critical")] == []
        assert server.stderr == ""


@pytest.fixture
def house(whole: House) -> Iterator[House]:
    """The same, and it is looked after the bystander in the end."""
    yield whole
    whole.undisturbed()


# -- messages that are refused: the connection stays ---------------------------------------------------------------


def deep(levels: int) -> str:
    """A meta that is nested so deeply."""
    return '{"type":"join","id":1,"room":"r","meta":{"a":' + "[" * levels + "]" * levels + "}}"


def users(*names: str) -> dict[str, Any]:
    """A watch."""
    return {"type": "watch", "id": 1, "users": names}


MANY = [f"u{n}" for n in range(101)]

REFUSED: dict[str, tuple[object, str]] = {
    "no JSON": ("hello", "bad_request"),
    "JSON that breaks off": ('{"type":"ping"', "bad_request"),
    "JSON with something behind it": ('{"type":"ping"}}', "bad_request"),
    "nothing": ("", "bad_request"),
    "null": ("null", "bad_request"),
    "a list": ([{"type": "ping"}], "bad_request"),
    "a number": ("7", "bad_request"),
    "no type": ({"id": 1}, "bad_request"),
    "an unknown type": ({"type": "presence", "id": 1}, "bad_request"),
    "a type that is no text": ({"type": 7}, "bad_request"),
    "a missing field": ({"type": "watch", "id": 1}, "bad_request"),
    "users that are no list": ({"type": "watch", "id": 1, "users": "bob"}, "bad_request"),
    "a user that is no text": ({"type": "watch", "id": 1, "users": [7]}, "bad_request"),
    "a room that is no text": ({"type": "join", "id": 1, "room": ["r"]}, "bad_request"),
    "a meta that is no object": ({"type": "join", "id": 1, "room": "r", "meta": [1]}, "bad_request"),
    "an availability that there is not": ({"type": "state", "id": 1, "availability": "asleep"}, "bad_request"),
    "a state that says nothing": ({"type": "state", "id": 1}, "bad_request"),
    "an id that is an object": ({"type": "ping", "id": {"a": 1}}, "bad_request"),
    "an id that is too long": ({"type": "ping", "id": "x" * 65}, "bad_request"),
    "an id that is a fraction": ({"type": "ping", "id": 1.5}, "bad_request"),
    "an id of 5,000 digits": ('{"type":"ping","id":' + "9" * 5000 + "}", "bad_request"),
    "deep nesting": (deep(10_000), "bad_request"),
    "nesting and nothing else": ("[" * 30_000, "bad_request"),
    "a number that is none": ('{"type":"join","id":1,"room":"r","meta":{"a":NaN}}', "bad_request"),
    "a binary message": (encode_frame(BINARY, b'{"type":"ping"}'), "bad_request"),
    "half a pair of surrogates": ('{"type":"watch","id":1,"users":["\\ud800"]}', "bad_request"),
    "an empty user id": (users(""), "bad_request"),
    "a user id with a null": (users("a\0b"), "bad_request"),
    "a user id with a line break": (users("a\nb"), "bad_request"),
    "a user id with an escape": (users("\x1b[31mred"), "bad_request"),
    "a user id with a C1 control": (users("a\x85b"), "bad_request"),
    "a user id of 300 bytes": (users("x" * 300), "bad_request"),
    "a user id of 90 letters and 270 bytes": (users("語" * 90), "bad_request"),
    "a good user id and a bad one": (users("bob", "\n"), "bad_request"),
    "a room name with a control": ({"type": "join", "id": 1, "room": "r\r\n"}, "bad_request"),
    "a room name of 300 bytes": ({"type": "join", "id": 1, "room": "r" * 300}, "bad_request"),
    "an empty room name": ({"type": "leave", "id": 1, "room": ""}, "bad_request"),
    "too many users to watch": ({"type": "watch", "id": 1, "users": MANY}, "too_many"),
    "too many users to ask for": ({"type": "query", "id": 1, "users": MANY}, "too_many"),
    "too much meta in a room": ({"type": "join", "id": 1, "room": "r", "meta": {"a": "x" * 2048}}, "too_large"),
    "too much meta": ({"type": "state", "id": 1, "meta": {"a": "x" * 2048}}, "too_large"),
    "a token that is none": ({"type": "auth", "id": 1, "token": "x"}, "unauthorized"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_message_that_cannot_be_obeyed_is_answered_by_an_error_and_the_connection_stays(
    house: House, row: str
) -> None:
    message, code = REFUSED[row]
    with house.guest() as guest:
        guest.raw(message) if isinstance(message, bytes) else guest.send(message)
        told = guest.receive()
        assert (told["type"], told["code"]) == ("error", code)
        assert 0 < len(told["message"]) < 400
        assert told["message"].isprintable()
        guest.round_trip()
        assert house.server.log("active_socket_closed", user=house.name) == []


def test_limits_hold_over_several_messages(house: House) -> None:
    with house.guest() as guest:
        for start in range(0, 100, 50):
            guest.ask({"type": "watch", "id": start, "users": MANY[start : start + 50]}, "snapshot")
        assert guest.ask({"type": "watch", "id": "w", "users": ["one more"]}, "error")["code"] == "too_many"
        guest.ask({"type": "watch", "id": "again", "users": MANY[:100]}, "snapshot")  # the same ones are no more
        for room in ("r1", "r2", "r3"):
            guest.ask({"type": "join", "id": room, "room": room}, "room")
        assert guest.ask({"type": "join", "id": "r4", "room": "r4"}, "error")["code"] == "too_many"
        guest.ask({"type": "state", "id": "m1", "meta": {"a": "x" * 1500}}, "ok")
        assert guest.ask({"type": "state", "id": "m2", "meta": {"b": "x" * 1500}}, "error")["code"] == "too_large"
        # a hundred look-ups at once are more than may wait
        guest.raw(b"".join(text_frame({"type": "query", "id": n, "users": [f"new-{n}"]}) for n in range(100)))
        answers = {told["id"]: told for told in (guest.receive() for _ in range(100))}
        assert {a["code"] for a in answers.values() if a["type"] == "error"} <= {"too_many"}
        assert sum(a["type"] == "snapshot" for a in answers.values()) >= 64
        other = house.server.token("somebody else")
        assert guest.ask({"type": "auth", "id": "a", "token": other}, "error")["code"] == "forbidden"
        guest.round_trip()


# -- frames that break the rules: the connection ends --------------------------------------------------------------


def fragments(*contents: bytes, opcode: int = TEXT) -> bytes:
    """One message in several frames."""
    last = len(contents) - 1
    return b"".join(
        encode_frame(opcode if n == 0 else CONTINUATION, content, fin=n == last) for n, content in enumerate(contents)
    )


BIG = b'{"type":"ping","id":"' + b"x" * (10 * MEBIBYTE) + b'"}'

BROKEN: dict[str, tuple[bytes, set[int]]] = {
    "a message one byte too long": (encode_frame(TEXT, b" " * 32_769), {1009}),
    "10 MB in one frame": (encode_frame(TEXT, BIG), {1009}),
    "10 MB in frames of 16 KiB": (fragments(*(BIG[n : n + 16384] for n in range(0, len(BIG), 16384))), {1009}),
    "10 MB in a binary message": (encode_frame(BINARY, BIG), {1009}),
    "a frame that says it is 2^62 bytes long": (encode_frame(TEXT, b"x", length=1 << 62), {1002, 1009}),
    "invalid UTF-8": (encode_frame(TEXT, b'{"type":"ping","id":"\xff"}'), {1007}),
    "UTF-8 that breaks off": (encode_frame(TEXT, b'"\xe2\x82'), {1007}),
    "a surrogate in UTF-8": (encode_frame(TEXT, b'"\xed\xa0\x80"'), {1007}),
    "invalid UTF-8 in a later fragment": (fragments(b'{"type":', b'"\xc0\xaf"', b"}"), {1007}),
    "invalid UTF-8 in the reason of a close": (encode_frame(CLOSE, close_payload(1000) + b"\xff"), {1007}),
    "66 empty fragments": (fragments(*[b""] * 67), {1008}),
    "a flood of empty fragments": (fragments(*[b""] * 20_000), {1008}),
    "5,000 fragments of one byte": (fragments(*[b" "] * 5000), {1008}),
    "a continuation of nothing": (encode_frame(CONTINUATION, b"x"), {1002}),
    "a message inside a message": (encode_frame(TEXT, b"{", fin=False) + encode_frame(TEXT, b"}"), {1002}),
    "a frame that is not masked": (encode_frame(TEXT, b'{"type":"ping"}', masked=False), {1002}),
    "a reserved bit": (encode_frame(TEXT, b'{"type":"ping"}', rsv=4), {1002}),
    "a reserved opcode": (encode_frame(0x3, b"x"), {1002}),
    "a reserved control opcode": (encode_frame(0xB, b"x"), {1002}),
    "a ping that is too long": (encode_frame(PING, b"x" * 126), {1002}),
    "a ping in fragments": (encode_frame(PING, b"x", fin=False), {1002}),
    "a close with half a code": (encode_frame(CLOSE, b"\x03"), {1002}),
    "a close with a code that no frame may carry": (encode_frame(CLOSE, close_payload(1005)), {1002}),
}


@pytest.mark.parametrize("row", BROKEN)
def test_who_breaks_the_rules_of_websockets_is_closed_with_the_code_for_it(house: House, row: str) -> None:
    content, codes = BROKEN[row]
    with house.guest() as guest:
        try:
            guest.raw(content)
        except ConnectionError:
            pass  # the server did not wait for all of it
        end = guest.closed()
        guest.answer_close(end)
        (closed,) = house.server.wait_log("active_socket_closed", user=house.name)
        assert closed["code"] in codes and closed["cause"] == "protocol_error"
        assert closed["activeConnectionsForUser"] == 0
        # the code arrives, except where a reset overtakes it because more had been sent than was read
        assert end.code in codes or (end.reset and len(content) > MEBIBYTE)


def test_however_a_message_is_cut_it_is_understood(house: House) -> None:
    with house.guest() as guest:
        guest.dribble(text_frame({"type": "ping", "id": "one byte a segment"}))
        guest.expect("pong", id="one byte a segment")
        whole = json.dumps({"type": "ping", "id": "ein Byte je Rahmen: äöü€"}, ensure_ascii=False).encode()
        guest.raw(fragments(*(whole[n : n + 1] for n in range(len(whole)))))
        guest.expect("pong", id="ein Byte je Rahmen: äöü€")
        guest.raw(fragments(b"", b"", b'{"type":"ping",', b"", b'"id":1}', b""))
        guest.expect("pong", id=1)
        first, ping, rest = (
            encode_frame(TEXT, b'{"type":"ping",', fin=False),
            encode_frame(PING, b"in between"),
            encode_frame(CONTINUATION, b'"id":2}'),
        )
        guest.raw(first + ping + rest)
        guest.expect("pong", id=2)


# -- floods --------------------------------------------------------------------------------------------------------


def test_a_flood_of_messages_is_refused_and_then_closed_with_4101(house: House) -> None:
    with house.guest() as guest:
        guest.raw(b"".join(text_frame({"type": "ping", "id": n}) for n in range(1000)))
        end = guest.closed()
        guest.answer_close(end)
        assert end.code == 4101
        answers = guest.seen[1:]
        assert [a["type"] for a in answers[:200]] == ["pong"] * 200
        assert {a["code"] for a in answers if a["type"] == "error"} == {"rate_limited"}
        assert sum(a["type"] == "error" for a in answers) == 99  # in a row: the hundredth is the close
        house.server.wait_log("active_socket_closed", user=house.name, code=4101)


@pytest.mark.parametrize("kind", ["malformed", "binary"])
def test_the_hundredth_message_in_a_row_that_cannot_be_understood_closes_with_4000(house: House, kind: str) -> None:
    bad = encode_frame(BINARY, b"?") if kind == "binary" else text_frame("?")
    with house.guest() as guest:
        guest.raw(bad * 90)
        guest.round_trip()  # one that can be understood begins the count anew
        guest.raw(bad * 100)
        end = guest.closed()
        guest.answer_close(end)
        assert end.code == 4000
        assert sum(told["type"] == "error" for told in guest.seen) == 90 + 99
        house.server.wait_log("active_socket_closed", user=house.name, code=4000, cause="protocol_error")


def test_thirty_two_messages_may_come_before_the_welcome_and_one_more_closes_with_4000(house: House) -> None:
    def hasty(user: str, count: int) -> Raw:
        client = Raw.open(house.server.ws_url)
        auth = text_frame({"type": "auth", "token": house.server.token(user)})
        client.raw(auth + b"".join(text_frame({"type": "ping", "id": n}) for n in range(count)))
        return client

    with hasty("hasty", 32) as client:
        assert client.receive()["type"] == "welcome"
        assert [client.receive() for _ in range(32)] == [{"type": "pong", "id": n} for n in range(32)]
    with hasty("too-hasty", 33) as client:
        assert client.closed().code == 4000
        assert client.seen == []


# -- before the welcome --------------------------------------------------------------------------------------------


class Upgrade(NamedTuple):
    """An upgrade that is refused with a plain answer."""

    status: int
    query: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - never written to
    protocols: tuple[str, ...] = ("stillhere.v1",)


UPGRADES: dict[str, Upgrade] = {
    "a foreign origin": Upgrade(403, headers={"Origin": "https://evil.example"}),
    "an origin that only ends like ours": Upgrade(403, headers={"Origin": "http://127.0.0.1.evil.example"}),
    "the origin null": Upgrade(403, headers={"Origin": "null"}),
    "a subprotocol that nobody speaks": Upgrade(400, protocols=("chat",)),
    "a tab with a control character": Upgrade(400, "tab=a%00b"),
    "a tab of 129 bytes": Upgrade(400, "tab=" + "t" * 129),
    "an availability that there is not": Upgrade(400, "availability=asleep"),
    "a query that is not UTF-8": Upgrade(400, "tab=%ff"),
    "a query of 33 fields": Upgrade(400, "&".join(f"a{n}=1" for n in range(33))),
    "too many headers": Upgrade(431, headers={f"X-{n}": "1" for n in range(70)}),
    "an endless header": Upgrade(431, headers={"X-Long": "x" * 9000}),
    "another version of WebSocket": Upgrade(426, headers={"Sec-WebSocket-Version": "8"}),
    "a key that is none": Upgrade(400, headers={"Sec-WebSocket-Key": "short"}),
}


@pytest.mark.parametrize("row", UPGRADES)
def test_an_upgrade_that_cannot_be_granted_is_refused_before_the_101(house: House, row: str) -> None:
    wanted = UPGRADES[row]
    before = len(house.server.log("upgrade_refused", status=403))
    with pytest.raises(HandshakeRefused) as refused:
        house.guest(query=wanted.query, headers=wanted.headers, protocols=wanted.protocols)
    assert refused.value.status == wanted.status
    if b"{" in refused.value.body:  # what the ASGI server refuses itself has a text
        assert refused.value.headers["content-type"] == "application/problem+json"
        assert refused.value.problem["status"] == wanted.status
    if wanted.status == 403:
        house.server.wait_log("upgrade_refused", count=before + 1, status=403)


def test_the_cap_of_connections_per_user_answers_429_and_when_to_come_back(house: House) -> None:
    server = house.server
    tabs = [enter(server, "many-tabs", f"t{n}") for n in range(3)]
    with pytest.raises(HandshakeRefused) as refused:
        enter(server, "many-tabs", "t3")
    assert refused.value.status == 429 and int(refused.value.headers["retry-after"]) > 0
    server.wait_log("upgrade_refused", status=429)
    with enter(server, "many-tabs", "t0"):  # a reload takes nobody's place
        assert tabs[0].closed().code == 4005
    for tab in tabs:
        tab.tcp.close()


FIRST: dict[str, bytes] = {
    "a request": text_frame({"type": "watch", "id": 1, "users": ["bystander"]}),
    "no JSON": text_frame("?"),
    "an unknown type": text_frame({"type": "login"}),
    "a binary message": encode_frame(BINARY, b"x"),
}


@pytest.mark.parametrize("row", FIRST)
def test_a_first_message_that_is_not_auth_closes_with_4001(house: House, row: str) -> None:
    with Raw.open(house.server.ws_url) as client:
        client.raw(FIRST[row])
        assert client.closed().code == 4001
        assert [told["code"] for told in client.seen] in ([], ["unauthorized"])


def test_no_auth_in_time_closes_with_4001(house: House) -> None:
    with Raw.open(house.server.ws_url) as client:
        began = time.monotonic()
        assert client.closed().code == 4001
        assert AUTH_TIMEOUT - 0.3 <= time.monotonic() - began <= AUTH_TIMEOUT + 2


SLOW: dict[str, Callable[[Raw, bytes], None]] = {
    "nothing at all": lambda client, head: None,
    "half a head": lambda client, head: client.raw(head[:60]),
    "a byte now and then": lambda client, head: client.dribble(head[:20], pause=0.05),
}


@pytest.mark.parametrize("row", SLOW)
def test_a_slow_handshake_is_ended(house: House, row: str) -> None:
    url = house.server.ws_url
    with Raw(dial(url)) as client:
        began = time.monotonic()
        SLOW[row](client, upgrade_head(url, token=house.server.token("slow")))
        status, _, _ = client.response()
        assert status == (0 if row == "nothing at all" else 408)
        assert HANDSHAKE_TIMEOUT - 0.2 <= time.monotonic() - began <= HANDSHAKE_TIMEOUT + 2
        assert client.eof()


def test_many_slow_handshakes_keep_nobody_out(house: House) -> None:
    url = house.server.ws_url
    clients = [Raw(dial(url)) for _ in range(200)]
    for client in clients:
        client.raw(b"GET /ws HTTP/1.1\r\nHost:")
    began = time.monotonic()
    with house.guest():
        assert time.monotonic() - began < PROMPT
    assert [client.response()[0] for client in clients] == [408] * 200
    for client in clients:
        client.tcp.close()
