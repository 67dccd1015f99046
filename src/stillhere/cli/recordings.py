"""What the commands of the flight recorder share: recordings in files, users of a server, items as lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from stillhere.cli.api import Api, segment
from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.output import safe
from stillhere.core.events import Entry
from stillhere.core.phrases import instant
from stillhere.core.words import UserId
from stillhere.wire.recording import BrokenRecording, Recording, read_recording

PAGE = 1000
"""Users or items per question, as the API allows."""

STANDARD = "-"
"""The name of the standard input and output."""

_FIRST = ("at", "type")
_INSTANTS = ("endedAt", "deadline")


def load(path: Path) -> Recording:
    """Read a recording.

    Raises:
        Failure: the file cannot be read, or a line is wrong; it says which and why.
    """
    try:
        if str(path) == STANDARD:
            return read_recording(sys.stdin.buffer)
        with path.open("rb") as file:
            return read_recording(file)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", status=REFUSED) from None
    except BrokenRecording as error:
        raise Failure(f"{path}, {error}", status=REFUSED) from None


def timeline_in(recording: Recording, path: Path, user: str) -> Sequence[Entry]:
    """The entries of a user in a recording.

    Raises:
        Failure: nothing is recorded of them.
    """
    entries = recording.timelines.get(UserId(user))
    if entries is None:
        some = ", ".join(list(recording.timelines)[:5]) or "nobody"
        raise Failure(f"{path} has nothing of {user}; it has {some}", status=REFUSED)
    return entries


def known_users(api: Api) -> Iterator[str]:
    """The ids of all users that a server knows."""
    cursor: str | None = None
    while True:
        query = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
        answer = expect(api.get(f"/v1/users?{urlencode(query)}"), api, "users")
        yield from (str(user["user"]) for user in answer["users"])
        cursor = answer.get("cursor")
        if not cursor:
            return


def past_of(api: Api, user: str, after: str = "", before: str = "") -> Iterator[dict[str, Any]]:
    """The items of a user's timeline, page by page."""
    cursor = ""
    given = {"after": after, "before": before}
    while True:
        query = {name: text for name, text in given.items() if text} | {"limit": PAGE}
        if cursor:
            query["cursor"] = cursor
        answer = expect(api.get(f"/v1/users/{segment(user)}/timeline?{urlencode(query)}"), api, "items")
        yield from answer["items"]
        cursor = answer.get("cursor") or ""
        if not answer.get("more"):
            return


def expect(answer: Any, api: Api, field: str) -> dict[str, Any]:
    """An answer that has a field.

    Raises:
        Failure: it has not, so that something else answers there.
    """
    if not isinstance(answer, dict) or field not in answer:
        raise Failure(f"what answers at {api.url} is no Stillhere server: its answer has no {field}", status=REFUSED)
    return answer


def item_line(item: dict[str, Any], beside: float) -> str:
    """An item of a timeline as a line: time (UTC), what, and all else as ``name=value``.

    Args:
        item: as the API has it.
        beside: Unix time in seconds; times of the same day are told without a date.
    """
    return safe(instant(item["at"] / 1000, beside)) + "  " + item_text(item, lambda at: instant(at / 1000, beside))


def item_text(item: dict[str, Any], say: Callable[[int], str]) -> str:
    """The same without its time.

    Args:
        item: as the API has it.
        say: tells an instant, in milliseconds since the epoch.
    """
    parts = [str(item["type"])]
    for name, value in item.items():
        if name not in _FIRST:
            told = say(value) if name in _INSTANTS else value
            told = ",".join(map(str, told)) if isinstance(told, list) else told
            told = {True: "yes", False: "no"}[told] if isinstance(told, bool) else told
            parts.append(f"{name}={told}")
    return "  ".join(safe(part) for part in parts)
