from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.transport.message_layer import (
    BINARY,
    CONTINUATION,
    MAX_EMPTY_FRAGMENTS,
    MAX_FRAGMENTS,
    TEXT,
    MessageLayer,
    Violation,
    is_legal_close_code,
    read_close,
    short_reason,
)

LIMIT = 100


def layer() -> MessageLayer:
    return MessageLayer(LIMIT)


def refused(code: int, *frames: tuple[int, int, bytes], limit: int = LIMIT) -> str:
    """Feed frames of which only the last is a fault; give the reason."""
    subject = MessageLayer(limit)
    for opcode, fin, payload in frames[:-1]:
        subject.data(opcode, fin, payload)
    with pytest.raises(Violation) as caught:
        subject.data(*frames[-1])
    assert caught.value.code == code
    return caught.value.reason


def test_a_text_message_in_one_frame_is_passed_on_as_the_same_object() -> None:
    payload = b'{"type":"ping"}'
    assert layer().data(TEXT, 1, payload) is payload


def test_a_text_message_may_hold_any_utf8() -> None:
    assert layer().data(TEXT, 1, "κόσμε 🦊".encode()) == "κόσμε 🦊".encode()


def test_an_empty_message_is_a_message() -> None:
    assert layer().data(TEXT, 1, b"") == b""
    assert layer().data(BINARY, 1, b"") == bytearray()


def test_a_binary_message_is_a_bytearray_whatever_it_holds() -> None:
    subject = layer()
    whole = subject.data(BINARY, 1, b"\xff\x00")
    assert isinstance(whole, bytearray)
    assert whole == b"\xff\x00"
    assert subject.data(BINARY, 0, b"\xff") is None
    joined = subject.data(CONTINUATION, 1, b"\xfe\xfd")
    assert isinstance(joined, bytearray)
    assert joined == b"\xff\xfe\xfd"


def test_fragments_are_joined_and_the_next_message_starts_afresh() -> None:
    subject = layer()
    for _ in range(2):
        assert subject.data(TEXT, 0, b"a") is None
        assert subject.data(CONTINUATION, 0, b"") is None
        assert subject.data(CONTINUATION, 1, b"b") == b"ab"
    assert subject.data(TEXT, 1, b"c") == b"c"


def test_a_character_may_be_cut_by_a_fragment() -> None:
    subject = layer()
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert subject.data(TEXT, 0, first) is None
    assert subject.data(CONTINUATION, 1, second) == "é".encode()


def test_a_continuation_without_a_start_is_refused_with_1002() -> None:
    assert "continuation" in refused(1002, (CONTINUATION, 1, b"a"))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_inside_a_message_is_refused_with_1002(opcode: int) -> None:
    assert "inside" in refused(1002, (TEXT, 0, b"a"), (opcode, 1, b"b"))


def test_text_that_is_not_utf8_is_refused_with_1007() -> None:
    refused(1007, (TEXT, 1, b"\xc3\x28"))


def test_text_that_is_not_utf8_is_refused_at_the_fragment_that_shows_it() -> None:
    refused(1007, (TEXT, 0, b"abc"), (CONTINUATION, 0, b"\xff"))


def test_text_that_ends_inside_a_character_is_refused_with_1007() -> None:
    refused(1007, (TEXT, 1, b"\xc3"))
    refused(1007, (TEXT, 0, b"\xc3"), (CONTINUATION, 1, b""))


def test_surrogates_are_not_utf8() -> None:
    refused(1007, (TEXT, 1, b"\xed\xa0\x80"))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_size_bound_holds_for_one_frame_and_over_fragments(opcode: int) -> None:
    assert layer().data(opcode, 1, b"x" * LIMIT) is not None
    assert str(LIMIT) in refused(1009, (opcode, 1, b"x" * (LIMIT + 1)))
    refused(1009, (opcode, 0, b"x" * LIMIT), (CONTINUATION, 0, b"x"))


def test_the_number_of_fragments_is_bounded() -> None:
    frames = [(TEXT, 0, b"x")] + [(CONTINUATION, 0, b"x")] * MAX_FRAGMENTS
    assert str(MAX_FRAGMENTS) in refused(1008, *frames, limit=1 << 20)


def test_the_number_of_empty_fragments_is_bounded() -> None:
    frames = [(TEXT, 0, b"x")] + [(CONTINUATION, 0, b"")] * (MAX_EMPTY_FRAGMENTS + 1)
    assert str(MAX_EMPTY_FRAGMENTS) in refused(1008, *frames)


def test_each_message_has_a_fragment_budget_of_its_own() -> None:
    subject = layer()
    for _ in range(3):
        subject.data(TEXT, 0, b"")
        for _ in range(MAX_EMPTY_FRAGMENTS - 2):
            subject.data(CONTINUATION, 0, b"")
        assert subject.data(CONTINUATION, 1, b"") == b""


def cut(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(content)) for c in cuts), len(content)]
    return [content[a:b] for a, b in pairwise(edges)]


@given(text=st.text(max_size=25), cuts=st.lists(st.integers(0, 100), max_size=20))
def test_however_a_text_is_cut_into_fragments_it_arrives_whole(text: str, cuts: list[int]) -> None:
    content = text.encode()
    pieces = cut(content, cuts)
    subject = layer()
    got = [
        subject.data(TEXT if i == 0 else CONTINUATION, i == len(pieces) - 1, piece) for i, piece in enumerate(pieces)
    ]
    assert got[-1] == content
    assert set(got[:-1]) <= {None}


@given(content=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_fragmented_text_is_accepted_exactly_when_python_can_decode_it(content: bytes, cuts: list[int]) -> None:
    try:
        content.decode()
        sound = True
    except UnicodeDecodeError:
        sound = False
    pieces = cut(content, cuts)
    subject = layer()
    code = 0
    try:
        for i, piece in enumerate(pieces):
            subject.data(TEXT if i == 0 else CONTINUATION, i == len(pieces) - 1, piece)
    except Violation as violation:
        code = violation.code
    assert code == (0 if sound else 1007)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x03\xe9bye", (1001, "bye")),
        (b"\x13\x24", (4900, "")),
        (b"\x03\xe8" + "adé".encode(), (1000, "adé")),
    ],
)
def test_a_close_frame_is_read(payload: bytes, expected: tuple[int, str]) -> None:
    assert read_close(payload) == expected


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x00\x00", 1002), (b"\x03\xee", 1002), (b"\x13\x88", 1002), (b"\x03\xe8\xff", 1007)],
    ids=["one byte", "0", "1006", "5000", "bad reason"],
)
def test_a_close_frame_that_breaks_the_rules_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(Violation) as caught:
        read_close(payload)
    assert caught.value.code == code


def test_the_legal_close_codes_are_those_of_the_registry() -> None:
    legal = {code for code in range(70000) if is_legal_close_code(code)}
    assert legal == ({*range(1000, 1015)} - {1004, 1005, 1006}) | {*range(3000, 5000)}


def test_a_long_reason_is_cut_between_characters() -> None:
    assert short_reason("short") == "short"
    assert short_reason("é" * 100) == "é" * 61
    assert len(short_reason("x" * 200).encode()) == 123
