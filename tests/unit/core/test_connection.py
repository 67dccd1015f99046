"""The machine of one connection."""

from __future__ import annotations

from itertools import product

import pytest

from stillhere.core.connection import TRANSITIONS, Connection, Input, cause_of_close, redacted_key
from stillhere.core.errors import LocalMisuse
from stillhere.core.words import FINAL_CAUSES, Cause, ConnectionId, ReadyState, SessionId, TabId, UserId

CONNECTING, OPEN, CLOSING, CLOSED = ReadyState


def connection(ready: ReadyState = CONNECTING) -> Connection:
    c = Connection(ConnectionId("c1"), UserId("alice"), SessionId("s"), TabId("t"), 1.0)
    c.ready = ready
    return c


def test_a_connection_starts_in_connecting_and_has_nothing_to_say() -> None:
    c = connection()
    assert (c.ready, c.cause, c.code, c.availability, c.meta, c.rooms) == (CONNECTING, None, 0, None, None, None)


@pytest.mark.parametrize(("ready", "what"), list(product(ReadyState, Input)))
def test_a_step_follows_the_table_or_raises_and_changes_nothing(ready: ReadyState, what: Input) -> None:
    c = connection(ready)
    after = TRANSITIONS.get((ready, what))
    if after is None:
        with pytest.raises(LocalMisuse, match=f"connection c1 is {ready}: {what} cannot happen to it"):
            c.step(what, Cause.ABNORMAL)
        assert (c.ready, c.cause) == (ready, None)
    else:
        assert c.step(what) is (after is not ready)
        assert c.ready is after


def test_only_open_and_closing_are_active() -> None:
    assert [state for state in ReadyState if state.active] == [OPEN, CLOSING]


def test_no_way_leads_back() -> None:
    order = list(ReadyState)
    assert all(order.index(after) >= order.index(before) for (before, _), after in TRANSITIONS.items())


def test_whatever_happens_to_a_closed_connection_leaves_it_as_it_is() -> None:
    c = connection()
    c.step(Input.OPENED)
    c.step(Input.DEPARTED, Cause.BYE)
    for what in (Input.CLOSE_RECEIVED, Input.CLOSE_SENT, Input.LOST, Input.DEPARTED, Input.REFUSED, Input.TIMED_OUT):
        assert not c.step(what, Cause.KICKED, 4004)
    assert (c.ready, c.cause, c.code) == (CLOSED, Cause.BYE, 0)


def test_the_first_reason_for_an_end_is_its_cause() -> None:
    c = connection(OPEN)
    assert c.step(Input.CLOSE_SENT, Cause.EXPIRED, 4001)
    assert not c.step(Input.CLOSE_RECEIVED, Cause.CLIENT_CLOSE, 1000)
    assert c.step(Input.LOST, Cause.ABNORMAL)
    assert (c.cause, c.code) == (Cause.EXPIRED, 4001)


@pytest.mark.parametrize("cause", sorted(FINAL_CAUSES))
def test_a_departure_overrules_a_close_that_is_under_way(cause: Cause) -> None:
    c = connection(OPEN)
    c.step(Input.CLOSE_RECEIVED, Cause.GOING_AWAY, 1001)
    assert c.step(Input.DEPARTED, cause)
    assert (c.ready, c.cause, c.code) == (CLOSED, cause, 0)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (1000, Cause.CLIENT_CLOSE),
        (1005, Cause.CLIENT_CLOSE),
        (1001, Cause.GOING_AWAY),
        (4900, Cause.PAGE_HIDDEN),
        *((code, Cause.PROTOCOL_ERROR) for code in (1002, 1003, 1007, 1009, 1010)),
        *((code, Cause.CLIENT_CLOSE) for code in (1004, 1006, 1008, 1011, 1012, 3000, 4000, 4899, 4901, 4999)),
    ],
)
def test_every_close_code_stands_for_a_cause(code: int, cause: Cause) -> None:
    assert cause_of_close(code) is cause


def test_a_shown_key_tells_connections_apart_and_gives_nothing_away() -> None:
    key = redacted_key("alice", "session-of-alice", 1790000000.1234, "c_7d1234567890")
    assert key == "ali…:ses…:1790000000123:c_7d1234…"
