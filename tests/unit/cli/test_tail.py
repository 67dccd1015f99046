"""``stillhere tail`` reads server-sent events as the HTML standard has them."""

from __future__ import annotations

import json

from stillhere.cli.tail import Sent, line, parse

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
