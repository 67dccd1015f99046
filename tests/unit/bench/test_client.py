"""The load generator's client, fed by hand."""

from __future__ import annotations

import asyncio
from typing import cast

import jwt
import pytest

from bench.client import Client, Tally, masked, mint, users_in

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def client() -> tuple[Client, Tally, Wire]:
    tally, wire = Tally(), Wire()
    made = Client("alice", b"GET /ws", tally)
    made.connection_made(wire)
    made.kept = []
    return made, tally, wire


def frame(payload: bytes, opcode: int = 1) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


@pytest.mark.parametrize("step", [1, 2, 7, 1000, 1 << 20])
def test_every_frame_is_counted_once_however_the_bytes_arrive(step: int) -> None:
    texts = [b"{}", b"x" * 125, b"y" * 126, b"z" * 65535, b"w" * 65536]
    stream = ACCEPTED + b"".join(map(frame, texts))
    made, tally, _ = client()
    for at in range(0, len(stream), step):
        made.data_received(stream[at : at + step])
    assert made.kept == texts
    assert tally.frames == len(texts)
    assert tally.octets == len(stream) - len(ACCEPTED)


def test_a_ping_is_answered_and_is_no_frame_of_text() -> None:
    made, tally, wire = client()
    made.data_received(ACCEPTED + frame(b"now", 9))
    assert wire.written == b"GET /ws" + masked(b"now", 10)
    assert tally.frames == 0


async def test_an_answer_is_recognised_by_its_id() -> None:
    made, _, wire = client()
    asking = asyncio.ensure_future(made.ask("join", '"room":"hall"'))
    await asyncio.sleep(0)
    assert wire.written.endswith(masked(b'{"type":"join","id":1,"room":"hall"}'))
    made.data_received(ACCEPTED + frame(b'{"type":"room","room":"hall","joins":[]}'))
    await asyncio.sleep(0)
    assert not asking.done()
    made.data_received(frame(b'{"type":"room","id":1,"room":"hall","members":[]}'))
    await asking


async def test_a_refused_upgrade_says_what_the_server_said() -> None:
    made, _, _ = client()
    asking = asyncio.ensure_future(made.ask("join", '"room":"hall"'))
    await asyncio.sleep(0)
    made.data_received(b"HTTP/1.1 401 Unauthorized\r\n\r\nno")
    with pytest.raises(ConnectionError, match="401 Unauthorized"):
        await asking


def test_a_mask_of_zeros_leaves_the_text_as_it_is() -> None:
    assert masked(b"{}") == b"\x81\x82\0\0\0\0{}"
    assert masked(b"x" * 126)[:4] == b"\x81\xfe\x00\x7e"
    assert masked(b"x" * 65536)[:10] == b"\x81\xff" + (65536).to_bytes(8, "big")


def test_a_token_of_the_bench_is_one_that_others_accept() -> None:
    secret = "a secret of at least thirty-two bytes"
    claims = cast(dict[str, object], jwt.decode(mint(secret, "alice", 4e9), secret, algorithms=["HS256"]))
    assert claims == {"sub": "alice", "exp": 4_000_000_000, "watch": "*", "rooms": "*"}


def test_who_is_in_a_room_follows_from_what_a_member_was_told() -> None:
    frames = [
        b'{"type":"room","room":"r","id":1,"members":[{"user":"a"},{"user":"b"}]}',
        b'{"type":"ok","id":2}',
        b'{"type":"room","room":"r","leaves":[{"user":"b"}],"joins":[{"user":"c"}]}',
    ]
    assert users_in(frames) == {"a", "c"}
