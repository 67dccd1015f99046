"""Where the log of a server goes: one event a line on the standard output, as JSON or, on a terminal, as key=value.

Plain formatters, measured: with structlog's a line costs twice as much, and opening and closing a connection writes
five. Each line is written at once, by one call: nothing is lost at the end, whatever ends the process.

User input is harmless in both forms: control characters, escape sequences and characters that reorder text come out as
``\\u…``, and a line stays one line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import msgspec

from stillhere.cli.output import escaped, json_line

PRESENCE = "stillhere.presence"

_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
_PLAIN = re.compile(r"[^\s\"'=\\{}\[\]]+")
_DIM, _BOLD, _YELLOW, _RED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


class LineHandler(logging.Handler):
    """Writes each record as one line to a descriptor."""

    def __init__(self, fd: int, lines: JsonLines | PrettyLines) -> None:
        """Write to this descriptor, which stays the caller's."""
        super().__init__()
        self._fd = fd
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Never raises: a log that cannot be written must not stop a server."""
        try:
            self._write(self._lines.line(record))
        except OSError:  # whoever read the log is gone, or the disk is full
            pass
        except Exception:
            self.handleError(record)

    def event(self, name: str, fields: dict[str, Any]) -> None:
        """The same for an event that is no record: see :data:`stillhere.server.eventlog.Sink`."""
        try:
            with self.lock:  # type: ignore[union-attr]  # every handler has one
                self._write(self._lines.event(name, fields, time.time()))
        except OSError:
            pass
        except Exception:
            self.handleError(logging.LogRecord(PRESENCE, logging.INFO, "", 0, name, (), None))

    def _write(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        while written < len(line):
            written += os.write(self._fd, line[written:])


class JsonLines:
    """``{"event":…,"at":…,"level":…, …}``; ``at`` is UTC."""

    def __init__(self) -> None:
        """Prepare the encoder."""
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._second = 0
        self._date = ""

    def line(self, record: logging.LogRecord) -> bytes:
        """One line with its end."""
        return self._line(event_of(record), record.created, level_of(record), fields_of(record))

    def event(self, name: str, fields: Mapping[str, Any], at: float) -> bytes:
        """The same of an event at level ``info``."""
        return self._line(name, at, "info", fields)

    def _line(self, event: str, created: float, level: str, fields: Mapping[str, Any]) -> bytes:
        second = int(created)
        if second != self._second:  # formatting a date costs more than all the rest
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        entry = {
            "event": event,
            "at": f"{self._date}.{int((created - second) * 1000):03d}Z",
            "level": level,
            **fields,
        }
        try:
            line = self._encode(entry)
        except (
            UnicodeEncodeError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ):  # a lone surrogate, an odd key
            line = self._encode({key: _harmless(value) for key, value in entry.items()})
        text = line.decode()
        # Everything in it that is not printable stands inside a string of JSON.
        return (line if text.isprintable() else escaped(text).encode()) + b"\n"


class PrettyLines:
    """``12:03:05.120 PRESENCE_ONLINE user=alice …``; the time is the local one."""

    def __init__(self, *, colour: bool) -> None:
        """Say whether the terminal shows colours."""
        self._colour = colour

    def line(self, record: logging.LogRecord) -> bytes:
        """One line with its end; an exception is one value of it."""
        return self._line(event_of(record), record.created, record.levelno, level_of(record), fields_of(record))

    def event(self, name: str, fields: Mapping[str, Any], at: float) -> bytes:
        """The same of an event at level ``info``."""
        return self._line(name, at, logging.INFO, "info", fields)

    def _line(self, event: str, created: float, number: int, level: str, given: Mapping[str, Any]) -> bytes:
        at = f"{time.strftime('%H:%M:%S', time.localtime(created))}.{int(created % 1 * 1000):03d}"
        event = escaped(event)
        fields = " ".join(f"{key}={_value(value)}" for key, value in given.items() if value is not None)
        shown = "" if number == logging.INFO else f"{level.upper()} "
        if self._colour:
            paint = _RED if number >= logging.ERROR else _YELLOW if number >= logging.WARNING else _BOLD
            at, event, fields = f"{_DIM}{at}{_RESET}", f"{paint}{event}{_RESET}", f"{_DIM}{fields}{_RESET}"
        return f"{at} {shown}{event} {fields}\n".encode(errors="backslashreplace")


def event_of(record: logging.LogRecord) -> str:
    """The name of an event, or the message of any other record."""
    if not record.args and type(record.msg) is str:
        return record.msg
    return record.getMessage()


def level_of(record: logging.LogRecord) -> str:
    """``info`` and so on."""
    return _LEVELS.get(record.levelno) or record.levelname.lower()


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """What an event bears; of any other record, where it comes from and its exception."""
    fields: dict[str, Any] | None = getattr(record, "fields", None)
    if fields is not None and not record.exc_info:
        return fields
    fields = {"logger": record.name, **(fields or {})}
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return fields


def configure(
    form: Literal["auto", "json", "pretty"] = "auto", level: str = "info", stream: TextIO | None = None
) -> logging.Handler:
    """Send the log of this process to the standard output.

    Args:
        form: auto is pretty on a terminal.
        level: of this project's own loggers. Other packages are heard from ``warning`` on: at ``debug`` some of them
            write headers, and headers hold tokens.
        stream: in place of the standard output.

    Returns:
        The handler that was installed.
    """
    stream = stream or sys.stdout
    stream.flush()
    terminal = stream.isatty()
    pretty = form == "pretty" or (form == "auto" and terminal)
    lines = PrettyLines(colour=terminal and not os.environ.get("NO_COLOR")) if pretty else JsonLines()
    handler = LineHandler(stream.fileno(), lines)
    # Nobody reads these, and finding them out is a third of what a record costs.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined,unused-ignore]  # since 3.12
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    presence = logging.getLogger(PRESENCE)
    presence.handlers[:] = [handler]  # directly: five lines a connection need not climb the tree of loggers
    presence.propagate = False
    logging.getLogger("stillhere").setLevel(level.upper())
    return handler


def _value(value: Any) -> str:
    if isinstance(value, str):
        text = str.__str__(value)
        return text if _PLAIN.fullmatch(text) and text.isprintable() else json_line(_harmless(text))
    if isinstance(value, bool | int | float):
        return json_line(value)
    return json_line(_harmless(value))


def _harmless(value: Any) -> Any:
    """Something that can be encoded for certain."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if not isinstance(value, str):
        try:
            value = msgspec.json.encode(value, enc_hook=str).decode()
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError):
            value = repr(value)
    return value.encode(errors="backslashreplace").decode()
