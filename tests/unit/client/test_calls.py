"""The HTTP API as data: the same shapes as the server's, and what is sent again and what is not."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.client import answers, calls
from stillhere.client.answers import Gap, Transition
from stillhere.client.api import Api, AsyncApi
from stillhere.client.errors import (
    ApiError,
    BadAddress,
    BadCall,
    BadCredentials,
    BadId,
    BadToken,
    NoAnswer,
    NotAllowed,
    NotFound,
    StrangeAnswer,
    Unavailable,
)
from stillhere.client.events import MESSAGE_BYTES, Message, Parser, Reader
from stillhere.http import answers as served
from stillhere.http import stats as served_stats

OWN = {"Answer", "Transition", "Gap"}
"""Shapes that no answer has as a whole."""

PAIRS = [
    (own, getattr(served, name, None) or getattr(served_stats, name))
    for name, own in vars(answers).items()
    if inspect.isclass(own) and own.__module__ == answers.__name__ and name not in OWN
]


@pytest.mark.parametrize(("own", "server"), PAIRS, ids=lambda kind: kind.__name__)
def test_a_client_reads_what_the_server_writes(own: type[msgspec.Struct], server: type[msgspec.Struct]) -> None:
    here = {field.encode_name for field in msgspec.structs.fields(own)}
    there = {field.encode_name for field in msgspec.structs.fields(server)}
    assert here == there


def test_both_kinds_of_api_have_the_same_calls() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        found = {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
        return {name: list(inspect.signature(value).parameters) for name, value in found.items()}

    assert public(Api) == public(AsyncApi)
    for name in public(Api):
        assert get_type_hints(getattr(Api, name)).keys() == get_type_hints(getattr(AsyncApi, name)).keys()


# -- ids and addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "path"), [("alice", "alice"), ("a/b", "a%2Fb"), ("ä %?#", "%C3%A4%20%25%3F%23"), ("...", "...")]
)
def test_an_id_in_a_path_is_percent_encoded(user: str, path: str) -> None:
    assert calls.user(user).path == f"/v1/users/{path}"


@pytest.mark.parametrize("user", ["", ".", "..", "a\0", "x" * 257])
def test_an_id_that_no_path_can_hold_is_refused_before_anything_is_sent(user: str) -> None:
    with pytest.raises(BadId):
        calls.diagnostics(user)


def test_one_text_is_not_taken_for_many_ids() -> None:
    with pytest.raises(BadId):
        calls.query("alice")


@pytest.mark.parametrize("url", ["", "ws://h", "http://", "http://h?x=1", "http://u:p@h", "http://h:x", "h:80"])
def test_what_is_no_address_of_an_api_is_refused(url: str) -> None:
    with pytest.raises(BadAddress):
        Api(url)


def test_a_token_read_from_a_file_may_end_with_a_line_end_but_hold_none() -> None:
    assert calls.headers("a.b.c\n", None)["Authorization"] == "Bearer a.b.c"
    for bad in ("a\nb", "", " ", "ä"):
        with pytest.raises(BadToken) as told:
            calls.headers(bad, None)
        assert bad.strip() not in str(told.value) or not bad.strip()


# -- refusals and repetition ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, StrangeAnswer),
        (400, BadCall),
        (401, BadCredentials),
        (403, NotAllowed),
        (404, NotFound),
        (405, BadCall),
        (413, BadCall),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_every_refusal_has_its_kind_and_says_what_the_server_said(status: int, kind: type[ApiError]) -> None:
    error = calls.refusal(status, b'{"title":"T","status":1,"detail":"because"}', None)
    assert type(error) is kind and error.status == status and "because" in str(error)
    for body in (b"", b"<html>", b"[1]", b"\xff", b"[" * 100_000):
        assert type(calls.refusal(status, body, None)) is kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"user":1}', b"\xff"])
def test_an_answer_of_another_server_is_called_strange(body: bytes) -> None:
    with pytest.raises(StrangeAnswer):
        calls.read(calls.user("a"), 200, body, None)


def test_only_what_may_be_sent_twice_is() -> None:
    get, kick = calls.user("a"), calls.disconnect("a", "")
    lost = NoAnswer("broken off")
    assert calls.may_repeat(get, lost, unsent=False)
    assert not calls.may_repeat(kick, lost, unsent=False)
    assert calls.may_repeat(kick, lost, unsent=True)
    for status in (502, 503, 504, 429):
        assert calls.may_repeat(get, Unavailable("", status), unsent=False)
        assert not calls.may_repeat(kick, Unavailable("", status), unsent=False)
    assert not calls.may_repeat(get, Unavailable("", 500), unsent=False)
    assert not calls.may_repeat(get, BadCall("", 400), unsent=False)


def test_a_server_that_wants_to_be_left_alone_for_long_is_not_waited_for() -> None:
    get = calls.user("a")
    assert calls.may_repeat(get, Unavailable("", 503, 2.0), unsent=False)
    assert not calls.may_repeat(get, Unavailable("", 503, 3600.0), unsent=False)
    assert calls.wait_before(0, Unavailable("", 503, 2.0)) >= 2.0
    assert all(calls.wait_before(attempt, NoAnswer("")) <= 2.0 for attempt in range(50))


# -- events --------------------------------------------------------------------------------------------------------

STREAM = (
    b"retry: 2000\nid: 1-0\n: listening\n\n"
    b'id: 1-1\nevent: PRESENCE_ONLINE\ndata: {"user":"a","change":"PRESENCE_ONLINE","version":1,"epoch":"1",'
    b'"at":5,"cause":"connection_open"}\n\n'
    b"id: 1-2\n: still here\n\n"
    b'id: 1-9\nevent: gap\ndata: {"cursor":"1-9"}\n\n'
    b'id: 1-9\nevent: bye\ndata: {"reason":"draining"}\n\n'
)


def read_in_pieces(stream: bytes, cuts: list[int]) -> list[Message]:
    parser = Parser()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [message for start, end in pairwise(edges) for message in parser.feed(stream[start:end])]


@given(st.lists(st.integers(0, 10_000), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_says_the_same_wherever_its_pieces_end(cuts: list[int], line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end) + b":\n"
    assert [message.event for message in read_in_pieces(stream, cuts)] == ["PRESENCE_ONLINE", "gap", "bye"]
    assert [message.id for message in read_in_pieces(stream, cuts)] == ["1-1", "1-9", "1-9"]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_bytes_make_the_parser_raise(pieces: list[bytes]) -> None:
    parser = Parser()
    for piece in pieces:
        list(parser.feed(piece))


def test_a_message_without_an_end_is_not_kept_in_memory() -> None:
    line = b"data: " + b"x" * 100_000
    for stream in (line * 11, (line + b"\n") * 11):
        parser = Parser()
        assert list(parser.feed(stream[:MESSAGE_BYTES])) == []
        with pytest.raises(StrangeAnswer):
            list(parser.feed(stream[MESSAGE_BYTES:]))


def reader(**more: Any) -> Reader:
    return Reader(**{"after": None, "users": (), "rooms": (), "types": (), "patience": 60.0, **more})


def test_a_reader_resumes_where_it_was_also_after_comments_alone() -> None:
    one = reader()
    assert "Last-Event-ID" not in one.headers()
    assert list(one.feed(STREAM[:40])) == [] and one.headers()["Last-Event-ID"] == "1-0"
    events = list(one.feed(STREAM))
    assert [type(event) for event in events] == [Transition, Gap]
    assert [event.cursor for event in events] == ["1-1", "1-9"]
    assert one.headers()["Last-Event-ID"] == "1-9"
    assert reader(after="1-5").headers()["Last-Event-ID"] == "1-5"


def test_a_reader_takes_the_cursor_of_what_it_was_given_and_not_of_what_waits() -> None:
    one = reader()
    feed = one.feed(STREAM)
    assert next(feed).cursor == one.cursor == "1-1"


def test_a_reader_gives_up_when_the_server_is_away_for_too_long_or_says_no() -> None:
    one = reader()
    waits = [one.away(NoAnswer("gone"), now) for now in (0.0, 20.0, 59.0)]
    assert all(0 <= wait <= 10 for wait in waits)
    list(one.feed(b":\n"))
    one.away(NoAnswer("gone"), 100.0)
    with pytest.raises(NoAnswer):
        one.away(NoAnswer("gone"), 160.0)
    with pytest.raises(BadCredentials):
        reader().away(BadCredentials("expired", 401), 0.0)
    assert reader().away(Unavailable("busy", 503, 7.0), 0.0) == 7.0


def test_filters_are_checked_before_anything_is_sent() -> None:
    assert reader(users=["a", "b"], types=["ROOM_LEFT"]).params == [
        ("user", "a"),
        ("user", "b"),
        ("types", "ROOM_LEFT"),
    ]
    with pytest.raises(BadId):
        reader(rooms=[""])
