"""What the load generator says to each kind of server, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import base64
from typing import cast

import jwt
import pytest

from bench.client import Client, Tally, masked
from bench.dialects import SOCKET_IO, STILLHERE, XMPP, XMPP_JWT, Dialect

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
SECRET = "a secret of at least thirty-two bytes"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def client(dialect: Dialect) -> tuple[Client, Tally, Wire]:
    tally, wire = Tally(), Wire()
    made = Client("alice", b"", tally, dialect)
    made.connection_made(wire)
    made.data_received(ACCEPTED)
    return made, tally, wire


def frame(text: str) -> bytes:
    payload = text.encode()
    head = bytes((0x81, len(payload))) if len(payload) < 126 else b"\x81\x7e" + len(payload).to_bytes(2, "big")
    return head + payload


def occupant(nick: str, more: str = "", attributes: str = "") -> str:
    return (
        f"<presence xmlns='jabber:client' from='hall@rooms.localhost/{nick}' to='tab@localhost/1'{attributes}>"
        f"<x xmlns='http://jabber.org/protocol/muc#user'>{more}</x></presence>"
    )


def test_a_socket_io_ping_is_answered_and_is_no_delivery() -> None:
    made, tally, wire = client(SOCKET_IO)
    wire.written = b""
    made.data_received(frame('42["room",{"type":"room","room":"hall","updates":[]}]') + frame("2"))
    assert wire.written == masked(b"3")
    assert tally.frames == 1


async def test_a_socket_io_acknowledgement_answers_the_request_of_its_number() -> None:
    made, _, wire = client(SOCKET_IO)
    joining = asyncio.ensure_future(made.join("hall"))
    await asyncio.sleep(0)
    assert wire.written.endswith(masked(b'421["join","hall"]'))
    made.data_received(frame('4311[{"type":"ok"}]'))
    await asyncio.sleep(0)
    assert not joining.done()
    made.data_received(frame('431[{"type":"room","room":"hall","members":[]}]'))
    await joining


async def test_a_socket_io_refusal_is_told_to_whoever_waits() -> None:
    made, _, _ = client(SOCKET_IO)
    joining = asyncio.ensure_future(made.join("hall"))
    await asyncio.sleep(0)
    made.data_received(frame('44{"message":"unauthorized"}'))
    with pytest.raises(ConnectionError, match="unauthorized"):
        await joining


def test_who_is_in_a_socket_io_room_follows_from_acknowledgements_and_events() -> None:
    frames = [
        b'431[{"type":"room","room":"r","members":[{"user":"a"},{"user":"b"}]}]',
        b'432[{"type":"ok"}]',
        b'42["presence",{"type":"presence","changes":[]}]',
        b'42["room",{"type":"room","room":"r","leaves":[{"user":"b"}],"joins":[{"user":"c"}]}]',
    ]
    assert SOCKET_IO.users_in(frames) == {"a", "c"}


def test_the_socket_io_token_goes_in_the_connect_packet() -> None:
    assert SOCKET_IO.greeting("alice", "t.o.k")[1] == ('40{"token":"t.o.k"}', b"40{")
    assert b"t.o.k" not in SOCKET_IO.head(80, "alice", "t.o.k")


async def test_ones_own_presence_answers_a_join_and_that_of_others_does_not() -> None:
    made, tally, wire = client(XMPP)
    joining = asyncio.ensure_future(made.join("room of alice"))
    await asyncio.sleep(0)
    assert b'to="room-of-alice@rooms.localhost/alice"' in wire.written
    made.data_received(frame(occupant("user-00110")))
    await asyncio.sleep(0)
    assert not joining.done()
    made.data_received(frame(occupant("alice", "<status code='110'/>")))
    await joining
    assert tally.frames == 2


async def test_an_error_in_a_room_is_told_to_whoever_waits() -> None:
    made, _, _ = client(XMPP)
    joining = asyncio.ensure_future(made.join("hall"))
    await asyncio.sleep(0)
    made.data_received(frame(occupant("alice", attributes=" type='error'")))
    with pytest.raises(ConnectionError, match="error"):
        await joining


def test_a_change_is_said_in_the_room_that_was_joined_last() -> None:
    made, _, _ = client(XMPP)
    made.joining("hall")
    assert b'to="hall@rooms.localhost/alice"><show>dnd</show>' in made.changing("busy")
    assert b"show" not in made.changing("active")


def test_who_is_in_a_room_of_xmpp_follows_from_presence() -> None:
    frames = [
        occupant("a"),
        occupant("b"),
        occupant("b", attributes=" type='unavailable'"),
        "<message xmlns='jabber:client' from='hall@rooms.localhost' type='groupchat'><subject/></message>",
        "<presence xmlns='jabber:client' from='hall@rooms.localhost' to='tab@localhost/1'/>",
        "<presence xmlns='jabber:client' from='c@localhost/tab' to='tab@localhost/1'/>",
    ]
    assert XMPP.users_in([text.encode() for text in frames]) == {"a"}


def test_a_token_is_the_password_where_the_server_verifies_it() -> None:
    token = XMPP_JWT.token(SECRET, "alice", 4e9)
    login = XMPP_JWT.greeting("alice", token)[1][0]
    decoded = base64.b64decode(login.partition(">")[2].partition("<")[0]).decode().split("\0")
    assert decoded == ["", "alice", token]
    claims = cast(dict[str, object], jwt.decode(token, SECRET, algorithms=["HS256"]))
    assert claims["sub"] == "alice@localhost"


def test_nobody_watches_a_user_over_xmpp() -> None:
    with pytest.raises(ValueError, match="rosters"):
        XMPP.watch(1, "alice", "bob")


def test_texts_are_not_looked_into_while_nobody_waits() -> None:
    made, tally, _ = client(STILLHERE)
    made.data_received(frame("no JSON at all") * 3)
    assert tally.frames == 3
    assert made.known() == set()
