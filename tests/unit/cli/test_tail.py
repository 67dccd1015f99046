"""``stillhere tail`` reads server-sent events as the HTML standard has them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stillhere.cli.failure import Failure
from stillhere.cli.main import main
from stillhere.cli.tail import Sent, checked_since, line, parse, past_line

STREAM = """retry: 2000
id: 7-1
: listening

id: 7-2
event: PRESENCE_ONLINE
data: {"user":"alice",
data: "at":1790000000123,"change":"PRESENCE_ONLINE","cause":"connection_open","version":5,
data: "presence":{"status":"online"}}

event: gap
data:{"cursor":"7-9"}
id

"""


def test_events_are_read_with_their_ids_and_data_of_several_lines() -> None:
    hello, online, gap = parse(STREAM.split("\n"))
    assert hello == Sent("7-1", "message", "")
    assert (online.id, online.event) == ("7-2", "PRESENCE_ONLINE")
    assert json.loads(online.data)["user"] == "alice"
    assert gap == Sent("", "gap", '{"cursor":"7-9"}')


def test_an_event_that_was_cut_off_is_not_told() -> None:
    assert list(parse(["id: 1", "data: {}"])) == []


def test_a_change_is_a_line_of_time_user_change_cause_and_version() -> None:
    online = list(parse(STREAM.split("\n")))[1]
    words = line(online, as_json=False).split("  ")
    assert words[0].endswith(".123")
    assert words[1:] == ["alice", "PRESENCE_ONLINE", "status=online", "cause=connection_open", "version=5"]


def test_a_change_as_json_has_the_cursor_to_begin_after() -> None:
    online = list(parse(STREAM.split("\n")))[1]
    told = json.loads(line(online, as_json=True))
    assert (told["id"], told["event"], told["user"], told["version"]) == ("7-2", "PRESENCE_ONLINE", "alice", 5)


def test_a_user_cannot_write_over_the_lines_of_others() -> None:
    nasty = Sent("1", "PRESENCE_ONLINE", json.dumps({"user": "\x1b[1Aroot\nbob", "at": 0, "change": "PRESENCE_ONLINE"}))
    assert r"\x1b[1Aroot\nbob" in line(nasty, as_json=False)
    assert "\x1b" not in line(nasty, as_json=True)


def test_what_is_no_json_is_shown_and_ends_nothing() -> None:
    assert line(Sent("1", "odd", "\x07no json"), as_json=True) == r"odd  \x07no json"


# -- the past ---------------------------------------------------------------------------------------------------------

NOW = 1_790_000_000.0


def tail(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tail", *arguments])


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", ""),
        ("10m", "-10m"),
        (" 1.5h ", "-1.5h"),
        ("-10m", "-10m"),
        ("250ms", "-250ms"),
        ("12:03:05.120", "12:03:05.120"),
        ("2026-09-21T14:00Z", "2026-09-21T14:00Z"),
        ("1790000000000", "1790000000000"),
    ],
)
def test_the_past_begins_so_long_ago_or_at_an_instant(given: str, asked: str) -> None:
    assert checked_since(given, NOW) == asked


@pytest.mark.parametrize("wrong", ["yesterday", "10 minutes", "10x", "25:00:00"])
def test_a_beginning_that_is_none_is_refused_with_what_would_be_right(wrong: str) -> None:
    with pytest.raises(Failure, match=f"--since: '{wrong}' is no instant; it must be "):
        checked_since(wrong, NOW)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "10m"), "name one"),
        (("--last", "5"), "name one"),
        (("alice", "--since", "10m", "--after", "1-1"), "give one"),
        (("alice", "--last", "0"), "--last"),
        (("alice", "--last", "many"), "--last"),
        (("alice", "--since", "soon"), "is no instant"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_server_is_asked(arguments: tuple[str, ...], said: str) -> None:
    told = tail(*arguments)
    assert told.exit_code == 2 and said in told.output


def test_an_entry_of_the_past_is_a_line_like_the_others() -> None:
    item: dict[str, Any] = {"at": 1_790_000_000_123, "type": "closed", "cause": "going_away", "deadline": 0}
    item["tabs"] = ["a"]
    words = past_line("\x1b[1Abob", item, as_json=False).split("  ")
    assert words[0].endswith(".123") and words[1:4] == [r"\x1b[1Abob", "closed", "cause=going_away"]
    assert words[4].startswith("deadline=") and words[5] == "tabs=a"
    told = json.loads(past_line("bob", item, as_json=True))
    assert told == {"event": "timeline", "user": "bob", **item}
