"""Frames, taken apart and put together: RFC 6455, section 5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.transport.frames import Reader, framed, unmasked
from stillhere.transport.message_layer import BINARY, PING, TEXT, Violation
from tests.unit.transport.peers import frame

LIMIT = 70_000


def masked(opcode: int, payload: bytes, key: bytes) -> bytes:
    """A frame under a key."""
    plain = frame(opcode, payload)
    head = plain[: len(plain) - len(payload) - 4]
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def test_the_examples_of_section_5_7_are_read_and_written() -> None:
    hello = bytes((0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58))
    assert list(Reader(LIMIT).frames(hello)) == [(0x81, b"Hello")]
    assert framed(TEXT, b"Hello") == bytes((0x81, 0x05)) + b"Hello"
    assert framed(BINARY, b"x" * 256) == bytes((0x82, 0x7E, 0x01, 0x00)) + b"x" * 256
    assert framed(BINARY, b"x" * 65536) == bytes((0x82, 0x7F)) + (65536).to_bytes(8) + b"x" * 65536


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_a_mask_is_taken_off_byte_by_byte(payload: bytes, key: bytes) -> None:
    assert unmasked(payload, key) == bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


@given(
    st.lists(
        st.tuples(st.integers(0, 300) | st.sampled_from((125, 126, 65535, 65536)), st.binary(min_size=4, max_size=4))
    ),
    st.lists(st.integers(1, 70_000), max_size=20),
)
def test_however_the_bytes_are_cut_the_frames_are_the_same(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    raw = b"".join(masked(TEXT, bytes(size), key) for size, key in sent)
    reader = Reader(LIMIT)
    seen: list[tuple[int, bytes]] = []
    for size in cuts:
        seen += reader.frames(raw[:size])
        raw = raw[size:]
    seen += reader.frames(raw)
    assert seen == [(0x80 | TEXT, bytes(size)) for size, _ in sent]
    assert not reader


def test_a_frame_that_comes_byte_by_byte_is_looked_at_when_it_can_be() -> None:
    reader = Reader(LIMIT)
    raw = frame(TEXT, b"x" * 70_000)
    whole = [found for i in range(len(raw)) for found in reader.frames(raw[i : i + 1])]
    assert whole == [(0x81, b"x" * 70_000)]


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        (1002, b"\x81\xfe\x00\x05"),  # five bytes would have fitted into the first seven bits
        (1002, b"\x81\xff" + (65535).to_bytes(8)),
        (1002, b"\x81\xff" + (1 << 63).to_bytes(8)),
        (1009, b"\x81\xff" + (LIMIT + 1).to_bytes(8)),
    ],
)
def test_a_length_that_may_not_be_is_refused_as_soon_as_the_head_is_there(code: int, raw: bytes) -> None:
    with pytest.raises(Violation) as caught:
        list(Reader(LIMIT).frames(raw + bytes(4)))
    assert caught.value.code == code


def test_a_bound_below_126_bytes_holds_too() -> None:
    with pytest.raises(Violation) as caught:
        list(Reader(10).frames(frame(TEXT, b"x" * 11)))
    assert caught.value.code == 1009
    assert list(Reader(10).frames(frame(PING, b"x" * 10))) == [(0x80 | PING, b"x" * 10)]


def test_frames_before_a_violation_are_heard() -> None:
    reader = Reader(LIMIT).frames(frame(TEXT, b"a") + frame(3))
    assert next(reader) == (0x81, b"a")
    with pytest.raises(Violation, match="opcode 3"):
        next(reader)
