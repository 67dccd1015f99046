"""What may be an id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.wire.ids import ID_BYTES, id_fault

GOOD = {
    "one byte": "a",
    "256 bytes of ASCII": "a" * 256,
    "256 bytes in 64 characters": "😀" * 64,
    "a space": "anna maria",
    "letters that are not printable ASCII": "анна",
    "a no-break space": "a\u00a0b",
    "a soft hyphen": "a\u00adb",
    "a joined emoji": "👩\u200d🚀",
    "text from right to left": "שרה\u200f",
    "a private character": "\ue000",
    "a tilde, the last before DEL": "~",
    "a quote and a backslash": 'a"\\b',
}

BAD = {
    "nothing": ("", "is empty; it must have 1 to 256 bytes"),
    "257 bytes of ASCII": ("a" * 257, "has 257 bytes; it must have 1 to 256"),
    "257 bytes in 65 characters": ("😀" * 64 + "a", "has 257 bytes; it must have 1 to 256"),
    "300 bytes": ("ä" * 150, "has 300 bytes"),
    "a lone surrogate": ("a\ud800", "lone surrogate"),
    "NUL": ("\x00", "control character: '\\x00'"),
    "a tab": ("a\tb", "control character"),
    "a line feed": ("a\n", "control character"),
    "the last of C0": ("\x1f", "control character"),
    "DEL": ("a\x7f", "control character"),
    "the first of C1": ("a\x80", "control character"),
    "NEL": ("a\x85b", "control character"),
    "the last of C1": ("\x9fä", "control character"),
    "a line separator": ("a\u2028b", "control character"),
    "a paragraph separator": ("a\u2029b", "control character"),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_an_id_may_be_any_text_of_1_to_256_bytes(text: str) -> None:
    assert id_fault(text) is None


@pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
def test_a_bad_id_is_told_what_is_wrong_with_it(text: str, why: str) -> None:
    fault = id_fault(text)
    assert fault is not None and why in fault
    assert fault.isprintable() and len(fault) < 250


def test_another_bound_holds_in_the_sentences_too() -> None:
    assert id_fault("a" * 128, 128) is None
    assert id_fault("a" * 129, 128) == "has 129 bytes; it must have 1 to 128"
    assert id_fault("", 128) == "is empty; it must have 1 to 128 bytes"


@given(st.text())
def test_an_id_is_good_exactly_if_it_has_the_size_and_no_control_character(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = 0
    control = any(c < " " or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029" for c in text)
    assert (id_fault(text) is None) is (1 <= size <= ID_BYTES and not control)
