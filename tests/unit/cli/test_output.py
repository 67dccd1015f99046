"""What is printed cannot take over a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.cli.output import ago, clock, escaped, json_line, safe, table

NASTY = [
    ("\x1b[2Jgone", r"\x1b[2Jgone"),
    ("a\nb", r"a\nb"),
    ("a\rb", r"a\rb"),
    ("\x9b31m", r"\x9b31m"),
    ("ad\u202enim", r"ad\u202enim"),
    ("a\u2028b", r"a\u2028b"),
    ("tag\U000e0041", r"tag\U000e0041"),
    ("\ud800", r"\ud800"),
    ("\x7f", r"\x7f"),
]


@pytest.mark.parametrize(("text", "shown"), NASTY)
def test_what_acts_on_a_terminal_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize("name", ["alice", "Zoë", "李小龙", "علي", "a b", "😀", "back\\slash"])
def test_a_name_in_any_script_is_shown_as_it_is(name: str) -> None:
    assert safe(name) == name
    assert json.loads(json_line(name)) == name


@given(st.text())
def test_no_text_gets_a_control_character_onto_the_screen(text: str) -> None:
    for shown in (safe(text), escaped(text)):
        assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in shown)
        shown.encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_of_json_means_what_was_put_in(text: str) -> None:
    line = json_line({"user": text})
    assert json.loads(line) == {"user": text}
    assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in line)


def test_a_table_is_aligned_and_its_cells_are_escaped() -> None:
    assert table(("USER", "STATUS"), [("al\x1bice", "online"), ("b", "")]) == [
        "USER       STATUS",
        r"al\x1bice  online",
        "b",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d"), (-5, "0 s")],
)
def test_how_long_ago_is_told_in_one_unit(seconds: int, shown: str) -> None:
    assert ago(1_000_000 - seconds * 1000, 1000.0) == shown


def test_an_unknown_time_is_not_told() -> None:
    assert ago(None, 1000.0) == ""


def test_a_time_of_day_has_milliseconds() -> None:
    assert clock(1_790_000_000_007).endswith(".007")
