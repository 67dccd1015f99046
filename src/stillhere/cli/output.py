"""What the commands print: text that cannot take over a terminal, times, tables."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

UNPRINTABLE = re.compile(
    r"[^\x20-\x7e\xa0-\U0010ffff]"
    r"|[\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, escape sequences among them, and whatever reorders or hides text."""


def safe(text: str) -> str:
    """The text with everything that could act on a terminal or break a line as ``\\x1b`` or ``\\u202e``.

    Users choose their ids, and an operator reads them: an id must not move the cursor or pass for another line.
    """
    if text.isprintable():
        return text
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def ago(ms: int | None, now: float) -> str:
    """How long ago a time on the wire was: ``3 s``, ``12 min``, ``5 h``, ``9 d``; an empty string for None.

    Args:
        ms: milliseconds since the epoch.
        now: seconds since the epoch.
    """
    if ms is None:
        return ""
    seconds = max(0, int(now - ms / 1000))
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < size * most:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def clock(ms: int) -> str:
    """A time on the wire as the local time of day, with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(ms / 1000))}.{ms % 1000:03d}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out text in columns.

    Args:
        head: the names of the columns.
        rows: cells, as many a row; they are escaped here.

    Returns:
        Lines without trailing blanks, the head first.
    """
    cells = [list(head), *([safe(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def json_line(value: Any) -> str:
    """A value as one line of JSON that is also safe to look at."""
    return escaped(msgspec.json.encode(value).decode())


def escaped(text: str) -> str:
    """The text with ``\\u…``, as in JSON, for whatever :func:`safe` escapes."""
    if text.isprintable():
        return text
    return UNPRINTABLE.sub(lambda found: "".join(f"\\u{unit:04x}" for unit in _utf16(found[0])), text)


def _utf16(text: str) -> memoryview:
    return memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
