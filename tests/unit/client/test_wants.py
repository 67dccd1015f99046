"""What the server is told: each wish once, nothing twice, and everything again on the next connection."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.client.errors import BadId, BadMeta
from stillhere.client.protocol import encode
from stillhere.client.wants import AT_ONCE, Wants
from stillhere.core.words import Availability
from stillhere.wire.messages import Error, decode


class Told:
    """A server that remembers what it was told, to be compared with what is wanted."""

    def __init__(self) -> None:
        self.wants = Wants(Availability.ACTIVE)
        self.ids: Iterator[int] = count(1)
        self.users: set[str] = set()
        self.rooms: dict[str, Any] = {}
        self.sent: list[dict[str, Any]] = []

    def flush(self, *, answer: bool = True) -> None:
        more = True
        while more:
            messages, more = self.wants.untold(lambda: next(self.ids))
            for message in messages:
                decode(encode(message))  # the server can read it
                told = msgspec.json.decode(encode(message))
                self.sent.append(told)
                self._take(told)
                if answer:
                    self.wants.answered(told["id"])

    def _take(self, told: dict[str, Any]) -> None:
        match told["type"]:
            case "watch":
                self.users |= set(told["users"])
            case "unwatch":
                self.users -= set(told["users"])
            case "join":
                self.rooms[told["room"]] = told["meta"]
            case "leave":
                del self.rooms[told["room"]]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["watch", "unwatch"]), st.lists(st.sampled_from("abcd"), max_size=3)),
        st.tuples(st.just("join"), st.sampled_from("rs"), st.one_of(st.none(), st.integers(0, 2))),
        st.tuples(st.just("leave"), st.sampled_from("rs")),
        st.tuples(st.sampled_from(["flush", "begin", "resync"])),
    )
)


@given(STEPS)
def test_the_server_ends_up_knowing_exactly_what_is_wanted(steps: list[tuple[Any, ...]]) -> None:
    told = Told()
    wants = told.wants
    for name, *args in steps:
        match name, args:
            case "watch", [users]:
                wants.watch(users)
            case "unwatch", [users]:
                wants.unwatch(users)
            case "join", [room, seat]:
                wants.join(room, None if seat is None else {"seat": seat})
            case "leave", [room]:
                wants.leave(room)
            case "flush", []:
                told.flush()
            case "begin", []:
                wants.begin()
                told.users.clear()
                told.rooms.clear()
            case _:
                wants.resync()
    told.flush()
    assert told.users == set(wants.users)
    assert set(told.rooms) == set(wants.rooms)
    before = len(told.sent)
    told.flush()
    assert len(told.sent) == before


def test_a_pause_in_one_breath_sends_nothing() -> None:
    told = Told()
    told.wants.begin()
    told.wants.watch(["a"])
    told.wants.unwatch(["a"])
    told.wants.join("r", None)
    told.wants.leave("r")
    told.flush()
    assert told.sent == []


def test_meta_is_sent_by_key_and_one_and_true_are_not_the_same() -> None:
    told = Told()
    told.wants.begin()
    told.wants.set_meta({"a": 1, "b": {"c": [None]}})
    told.flush()
    told.wants.set_meta({"a": True})
    told.flush()
    told.wants.set_meta({"a": None})
    told.flush()
    assert [message["meta"] for message in told.sent] == [{"a": 1, "b": {"c": [None]}}, {"a": True}, {"a": None}]
    assert told.wants.meta == {"b": {"c": [None]}}


def test_what_was_given_is_not_changed_by_what_the_caller_does_with_it_later() -> None:
    told = Told()
    told.wants.begin()
    meta = {"seat": [1]}
    told.wants.set_meta(meta)
    told.wants.join("r", meta)
    meta["seat"].append(2)
    told.flush()
    assert [message["meta"] for message in told.sent] == [{"seat": [1]}, {"seat": [1]}]


def test_a_refusal_for_the_moment_is_sent_again_and_a_real_one_is_told_once() -> None:
    told = Told()
    told.wants.begin()
    told.wants.join("r", None)
    told.flush(answer=False)
    assert told.wants.refused(Error("unavailable", "the store is away", id=1)) is None
    told.flush(answer=False)
    assert [message["type"] for message in told.sent] == ["join", "join"]
    refused = told.wants.refused(Error("forbidden", "not yours", id=2))
    assert refused is not None and (refused.code, refused.request, refused.room) == ("forbidden", "join", "r")
    told.flush()
    assert len(told.sent) == 2


def test_more_than_the_server_takes_at_once_waits() -> None:
    wants = Wants(Availability.ACTIVE)
    wants.begin()
    for n in range(40):
        wants.join(f"r{n}", None)
    ids = count(1)
    messages, more = wants.untold(lambda: next(ids))
    assert (len(messages), more) == (AT_ONCE, True)
    messages, more = wants.untold(lambda: next(ids))
    assert (len(messages), more) == (40 - AT_ONCE, False)


@pytest.mark.parametrize("id", ["", "x" * 257, "a\nb", "\ud800", 7, None])
def test_what_is_no_id_is_refused_and_nothing_is_noted(id: Any) -> None:
    wants = Wants(Availability.ACTIVE)
    with pytest.raises(BadId):
        wants.watch(["fine", id])
    with pytest.raises(BadId):
        wants.join(id, None)
    assert wants.users == {} and wants.rooms == {}


@pytest.mark.parametrize("meta", [{1: 2}, {"a": object()}, [1], "text", {"a": "\ud800"}])
def test_what_is_no_json_object_is_refused_and_nothing_is_noted(meta: Any) -> None:
    wants = Wants(Availability.ACTIVE)
    with pytest.raises(BadMeta):
        wants.set_meta(meta)
    with pytest.raises(BadMeta):
        wants.join("r", meta)
    assert wants.rooms == {} and wants.meta == {}
