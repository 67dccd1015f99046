"""The log: names first, whatever users send stays inside its line, and no line is lost or dear."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.cli import logs
from stillhere.cli.logs import JsonLines, PrettyLines
from stillhere.core.words import Cause
from stillhere.server.eventlog import EventLog
from stillhere.server.secrets import Secret
from stillhere.wire.codes import CloseCode

FILTER = re.compile(
    r"active_socket_closed|PRESENCE_(ONLINE|OFFLINE)|connection_established|ws_closed|user_reconnected|user_disconnected"
)
"""The filter of ``docs/protocol.md``, which operators run over the log."""

WATCHED = (
    "active_socket_closed",
    "PRESENCE_ONLINE",
    "PRESENCE_OFFLINE",
    "connection_established",
    "ws_closed",
    "user_reconnected",
    "user_disconnected",
)
Form = Literal["json", "pretty"]
FORMS: tuple[Form, ...] = ("json", "pretty")


@contextlib.contextmanager
def logging_to(stream: TextIO, form: Form, level: str = "info") -> Iterator[None]:
    """Configure, and put back afterwards what pytest had configured."""
    root, presence, own = logging.getLogger(), logging.getLogger(logs.PRESENCE), logging.getLogger("stillhere")
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in (root, presence, own)]
    flags = {
        name: getattr(logging, name, True) for name in vars(logging) if name.startswith("log") and name[3:4].isupper()
    }
    try:
        logs.configure(form, level, stream)
        yield
    finally:
        for logger, handlers, was, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(was)
            logger.propagate = propagate
        for name, value in flags.items():
            setattr(logging, name, value)
        logging.captureWarnings(False)


@pytest.fixture(params=FORMS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Form, Callable[[], list[str]]]]:
    """Everything that is logged goes to a file; a function reads its lines."""
    path = tmp_path / "log"
    with path.open("w") as stream, logging_to(stream, request.param):
        yield request.param, lambda: path.read_text("utf-8").split("\n")[:-1]


def record(msg: str, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("stillhere.presence", level, "", 0, msg, (), None)
    made.fields = fields
    return made


def test_every_event_that_operators_filter_for_is_found(written: tuple[Form, Callable[[], list[str]]]) -> None:
    _, lines = written
    log = EventLog("n1")
    for event in (*WATCHED, "grace_started", "connection_cleanup"):
        log.emit(event, user="alice", cause=Cause.GOING_AWAY, code=CloseCode.KICKED)
    found = [FILTER.search(line) for line in lines()]
    assert [match[0] for match in found if match] == list(WATCHED)
    assert len(found) == len(WATCHED) + 2


def test_causes_and_codes_are_written_as_plain_values() -> None:
    event = record("ws_closed", cause=Cause.GOING_AWAY, code=CloseCode.KICKED, falseOffline=True, gap=None)
    assert json.loads(JsonLines().line(event))["cause"] == "going_away"
    assert json.loads(JsonLines().line(event))["code"] == 4004
    assert b"ws_closed cause=going_away code=4004 falseOffline=true\n" in PrettyLines(colour=False).line(event)


def test_an_event_comes_first_then_its_time_and_level() -> None:
    event = record("PRESENCE_ONLINE", user="alice")
    event.created = 1_790_000_000.0075
    assert JsonLines().line(event) == (
        b'{"event":"PRESENCE_ONLINE","at":"2026-09-21T14:13:20.007Z","level":"info","user":"alice"}\n'
    )


@pytest.mark.parametrize(
    "text", ["a\nPRESENCE_OFFLINE user=bob", "\x1b]0;owned\x07", "\u2028", "\x9b2J", "\u202e", "\ud800"]
)
@pytest.mark.parametrize("form", FORMS)
def test_what_users_send_neither_ends_a_line_nor_acts_on_a_terminal(form: Form, text: str) -> None:
    lines = JsonLines() if form == "json" else PrettyLines(colour=False)
    for event in (record("x", user=text), record(text), record("x", meta={text: [text]}, error=ValueError(text))):
        line = lines.line(event).decode()
        assert line.endswith("\n") and len(line.splitlines()) == 1
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", line)
        if form == "json":
            json.loads(line)


@given(user=st.text(), reason=st.text())
def test_any_text_comes_out_of_a_json_line_as_it_went_in(user: str, reason: str) -> None:
    line = JsonLines().line(record("x", user=user, reason=reason))
    assert line.count(b"\n") == 1
    told = json.loads(line)
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate has no UTF-8, and is told by its escape
        (user + reason).encode()
        assert (told["user"], told["reason"]) == (user, reason)


def test_an_odd_value_does_not_lose_the_line() -> None:
    loop: list[Any] = []
    loop.append(loop)
    odd: dict[str, Any] = {
        "secret": Secret("s3cret"),
        "loop": loop,
        "big": 1 << 80,
        "path": Path("x"),
        "bytes": b"\xff",
        "set": {1},
    }
    for lines in (JsonLines(), PrettyLines(colour=False)):
        for name, value in odd.items():
            line = lines.line(record("odd", **{name: value}))
            assert name.encode() in line and b"s3cret" not in line


def test_an_exception_is_one_line_and_names_its_logger(written: tuple[Form, Callable[[], list[str]]]) -> None:
    form, lines = written
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("stillhere.node").exception("a task %s", "failed")
    (line,) = lines()
    assert "a task failed" in line and "stillhere.node" in line and "ValueError: bad" in line
    if form == "json":
        told = json.loads(line)
        assert told["level"] == "error" and told["exception"].startswith("Traceback")


def test_other_packages_are_not_heard_below_warning_even_at_debug(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream, logging_to(stream, "json", "debug"):
        logging.getLogger("websockets.server").debug("< Authorization: Bearer x.y.z")
        logging.getLogger("asyncio").info("chatter")
        logging.getLogger("stillhere.node").debug("ours")
        logging.getLogger("uvicorn.error").warning("theirs")
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events == ["ours", "theirs"]


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "log").open("w") as stream, logging_to(stream, "json"):
        logging.getLogger(logs.PRESENCE).handlers[0]._fd = 10_000  # type: ignore[attr-defined]
        EventLog("n1").emit("PRESENCE_ONLINE", user="alice")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", FORMS)
def test_an_event_reads_the_same_whether_or_not_a_record_was_made_of_it(form: Form) -> None:
    lines = JsonLines() if form == "json" else PrettyLines(colour=True)
    made = record("ws_closed", user="ann\n", code=1001, cause=Cause.GOING_AWAY)
    assert lines.event("ws_closed", {"user": "ann\n", "code": 1001, "cause": Cause.GOING_AWAY}, made.created) == (
        lines.line(made)
    )


def test_an_event_that_cannot_be_written_is_told_on_the_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    with (tmp_path / "log").open("w") as stream, logging_to(stream, "json"):
        monkeypatch.setattr(JsonLines, "event", broken)
        EventLog("n1").emit("ws_closed", user="ann")
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_terminal_gets_colours_around_the_name_and_not_inside_it() -> None:
    line = PrettyLines(colour=True).line(record("PRESENCE_OFFLINE", user="alice")).decode()
    assert "\x1b[1mPRESENCE_OFFLINE\x1b[0m" in line and "user=alice" in line


@pytest.mark.parametrize("value", ["a b", "a=b", '"', "", "{}", "[1]", "a\\b"])
def test_a_value_that_could_be_misread_is_quoted(value: str) -> None:
    line = PrettyLines(colour=False).line(record("x", user=value)).decode()
    assert line.endswith(f"user={json.dumps(value)}\n")


def test_a_line_costs_the_server_little(tmp_path: Path) -> None:
    """Five are written for each connection. The bound is wide: this says that nothing foolish happens, no more."""
    event = record(
        "connection_established", user="alice", connKey="ali…:s_9…:1:c_7dQxW1…", code=1001, cause="going_away"
    )
    lines = JsonLines()
    lines.line(event)
    begin = time.process_time()
    for _ in range(2000):
        lines.line(event)
    assert (time.process_time() - begin) / 2000 < 50e-6


def test_the_standard_output_is_where_it_goes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(1, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with logging_to(stream, "json"):
            EventLog("n1").emit("PRESENCE_ONLINE", user="alice")
    assert json.loads(capfd.readouterr().out)["user"] == "alice"
