"""The log of what happens to connections and users."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from stillhere.core.connection import Connection
from stillhere.core.words import ConnectionId, SessionId, TabId, UserId
from stillhere.server.eventlog import LOGGER, EventLog
from tests.unit.server.world import World, lived

PROTOCOL = {
    "connection_established",
    "active_socket_closing",
    "active_socket_closed",
    "connection_cleanup",
    "ws_closed",
    "user_reconnected",
    "user_disconnected",
    "PRESENCE_ONLINE",
    "PRESENCE_OFFLINE",
    "grace_started",
    "grace_cancelled",
    "grace_expired",
    "lease_lost",
    "node_drained",
}


def lines(world: World) -> list[tuple[str, int, str | None]]:
    """Event, ``activeConnectionsForUser`` and cause of all that concerns a user."""
    return [(event, f["activeConnectionsForUser"], f.get("cause")) for event, f in world.log if "user" in f]


@lived()
async def test_a_reload_reads_as_the_protocol_says(world: World) -> None:
    ann = await world.connect("ann", tab="t")
    ann.leave(1001)
    await world.pass_time(0.3)
    await world.connect("ann", tab="t")
    await world.pass_time(20)
    assert lines(world) == [
        ("connection_established", 1, None),
        ("PRESENCE_ONLINE", 1, "connection_open"),
        ("active_socket_closing", 1, "going_away"),
        ("active_socket_closed", 0, "going_away"),
        ("user_disconnected", 0, "going_away"),
        ("ws_closed", 0, "going_away"),
        ("connection_cleanup", 0, "going_away"),
        ("grace_started", 0, "going_away"),
        ("connection_established", 1, None),
        ("user_reconnected", 1, "going_away"),
        ("grace_cancelled", 1, "going_away"),
    ]
    back = world.fields("user_reconnected")
    assert (back["gapMs"], back["falseOffline"]) == (300, False)
    assert world.fields("grace_cancelled")["by"] == "connection_open"


@lived()
async def test_a_departure_reads_as_the_protocol_says(world: World) -> None:
    ann = await world.connect("ann", tab="t")
    ann.leave(1001)
    await world.pass_time(20)
    assert lines(world)[-3:] == [
        ("grace_started", 0, "going_away"),
        ("grace_expired", 0, "going_away"),
        ("PRESENCE_OFFLINE", 0, "going_away"),
    ]
    assert world.fields("grace_expired")["ghostMs"] == pytest.approx(8000, abs=50)
    assert world.fields("PRESENCE_OFFLINE")["version"] == 2


@lived()
async def test_a_reload_before_the_close_reads_as_the_protocol_says(world: World) -> None:
    ann = await world.connect("ann", tab="t")
    await world.connect("ann", tab="t")
    assert ann.code() == 4005
    assert lines(world)[2:] == [
        ("connection_established", 1, None),
        ("active_socket_closed", 1, "superseded"),
        ("ws_closed", 1, "superseded"),
        ("connection_cleanup", 1, "superseded"),
    ]


@lived()
async def test_a_bye_reads_as_the_protocol_says(world: World) -> None:
    ann = await world.connect("ann")
    await ann.ask("bye")
    assert lines(world)[2:] == [
        ("active_socket_closed", 0, "bye"),
        ("user_disconnected", 0, "bye"),
        ("ws_closed", 0, "bye"),
        ("connection_cleanup", 0, "bye"),
        ("PRESENCE_OFFLINE", 0, "bye"),
    ]
    assert world.fields("active_socket_closed")["code"] == 1000


@lived()
async def test_every_line_about_a_connection_bears_what_the_protocol_asks_for(world: World) -> None:
    ann = await world.connect("ann", tab="t")
    ann.close_frame(1001, "bye\nnow")
    ann.drop()
    await world.settle()
    about = [(event, fields) for event, fields in world.log if "connKey" in fields]
    assert {event for event, _ in about} == {
        "connection_established",
        "active_socket_closing",
        "active_socket_closed",
        "user_disconnected",
        "ws_closed",
        "connection_cleanup",
    }
    assert len({fields["connKey"] for _, fields in about}) == 1
    for event, fields in about:
        assert fields["node"] == "n1" and fields["user"] == "ann"
        if event != "connection_established":
            assert (fields["cause"], fields["code"]) == ("going_away", 1001)
    closing = world.fields("active_socket_closing")
    assert (closing["by"], closing["reason"]) == ("client", "bye\nnow")


@lived()
async def test_the_log_knows_no_other_names_than_the_protocol_and_bears_no_whole_id(world: World) -> None:
    ann = await world.connect("annabel", tab="a-tab-that-nobody-should-see", sid="session-of-annabel")
    await world.connect("annabel", tab="a-tab-that-nobody-should-see", sid="session-of-annabel")
    await ann.ask("bye")
    ann.token = world.token("annabel")
    world.node.disconnect(UserId("annabel"), "spam")
    await world.pass_time(5)
    await world.node.drain(0)
    assert set(world.events()) <= PROTOCOL
    text = str(world.log)
    for secret in (ann.id, ann.token, "session-of-annabel", "a-tab-that-nobody"):
        assert secret not in text
    key = next(fields["connKey"] for _, fields in world.log if "connKey" in fields)
    assert re.fullmatch(r"ann…:ses…:\d{13}:c_[-\w]{6}…", key)


@lived()
async def test_refusals_are_logged_with_their_reason(world: World) -> None:
    await world.refused("ann", headers={"origin": "http://evil.test"})
    assert world.fields("upgrade_refused")["status"] == 403
    assert "evil.test" in world.fields("upgrade_refused")["reason"]
    nobody = await world.connect(None)
    nobody.say("auth", token="nonsense")
    assert "token" in world.fields("auth_refused")["reason"]


def test_an_event_goes_to_the_handlers_of_the_library_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stillhere.presence"):
        EventLog("n7").emit("node_drained", connections=3)
    (record,) = caplog.records
    assert record.getMessage() == "node_drained"
    assert vars(record)["fields"] == {"node": "n7", "connections": 3}


def test_nothing_is_made_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a record was made")

    logger = logging.Logger("quiet", logging.WARNING)  # noqa: LOG001 - this test's own
    monkeypatch.setattr(logger, "makeRecord", made)
    log = EventLog("n7", logger)
    log.emit("node_drained")
    log.connection("ws_closed", Connection(ConnectionId("c"), UserId("u"), SessionId("s"), TabId("t"), 1.0), 0)
    assert LOGGER.handlers, "without one, Python would print to stderr"


class _Plain(logging.Handler):
    """Takes events as they are, and keeps records for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.records: list[logging.LogRecord] = []

    def event(self, name: str, fields: dict[str, Any]) -> None:
        self.events.append((name, fields))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def _heard(*handlers: logging.Handler) -> logging.Logger:
    logger = logging.Logger("heard", logging.INFO)  # noqa: LOG001 - this test's own
    logger.handlers[:] = handlers
    logger.propagate = False
    return logger


def test_a_handler_that_wants_no_record_gets_the_event_as_it_is() -> None:
    handler = _Plain()
    EventLog("n7", _heard(handler)).emit("node_drained", connections=3)
    assert handler.events == [("node_drained", {"node": "n7", "connections": 3})]
    assert handler.records == []


@pytest.mark.parametrize(
    "who", ["another handler", "a parent", "a filter", "its filter", "its level", "no such handler"]
)
def test_whoever_else_could_miss_a_record_gets_one(who: str) -> None:
    handler, other = _Plain(), logging.NullHandler()
    logger = _heard(handler)
    if who == "another handler":
        logger.addHandler(other)
    elif who == "a parent":
        logger.propagate = True
    elif who == "a filter":
        logger.addFilter(lambda record: True)
    elif who == "its filter":
        handler.addFilter(lambda record: True)
    elif who == "its level":
        handler.setLevel(logging.WARNING)
    else:
        logger.handlers[:] = [other]
    EventLog("n7", logger).emit("node_drained")
    assert handler.events == []
    assert len(handler.records) == (who not in ("its level", "no such handler"))
