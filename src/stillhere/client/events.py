"""The stream of events: from bytes to what happened, and where to resume; no network here.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import msgspec

from stillhere.client.answers import EventData, Gap, Transition
from stillhere.client.backoff import delay
from stillhere.client.errors import ApiError, NoAnswer, StrangeAnswer, Unavailable
from stillhere.client.wants import checked_id
from stillhere.wire.codes import Advice

SILENCE = 60.0
"""Seconds without a byte after which a stream is taken for dead; the server says something every 15 s."""

MESSAGE_BYTES = 1024 * 1024
"""The longest message that is taken."""


class Message(msgspec.Struct, frozen=True):
    """A server-sent event; ``id`` is the last one that was sent, which need not be with this message."""

    event: str
    data: str
    id: str


class Parser:
    """Bytes to messages, as the standard says; pieces may end anywhere."""

    def __init__(self) -> None:
        """At the beginning of a stream."""
        self.id = ""
        """Of the last message, or of a comment that came after it."""
        self._rest = b""
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Take some more.

        Raises:
            StrangeAnswer: a message has no end.
        """
        text = self._rest + piece
        if not self._begun and len(text) >= 3:
            self._begun = True
            text = text.removeprefix(b"\xef\xbb\xbf")
        # a CR at the very end may be half of a CRLF: leave it for the next piece
        whole = text[:-1] if text.endswith(b"\r") else text
        lines = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + text[len(whole) :]
        for line in lines:
            self._size += len(line)
            self._bound(self._size)
            message = self._line(line.decode(errors="replace"))
            if message is not None:
                yield message
        self._bound(self._size + len(self._rest))

    def _bound(self, size: int) -> None:
        if size > MESSAGE_BYTES:
            raise StrangeAnswer(f"a message of the stream has more than {MESSAGE_BYTES} bytes")

    def _line(self, line: str) -> Message | None:
        if not line:
            event, data = self._event, self._data
            self._event, self._data, self._size = "", [], 0
            return Message(event or "message", "\n".join(data), self.id) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.id = value
        return None


class Reader:
    """One reader over all its connections: what happened, where it is, and when to come back.

    Attributes:
        cursor: after the last thing that was taken; empty before the first line.
    """

    def __init__(
        self,
        after: str | None,
        users: Iterable[str],
        rooms: Iterable[str],
        types: Iterable[str],
        patience: float,
    ) -> None:
        """Begin after a cursor, or now.

        Args:
            after: the cursor.
            users: only these, if any are given.
            rooms: the same.
            types: the same, of changes.
            patience: how long the server may be away before the reader gives up, in seconds.
        """
        self.cursor = after or ""
        self.params = [
            *(("user", checked_id("the user id", one)) for one in users),
            *(("room", checked_id("the room name", one)) for one in rooms),
            *(("types", str(one)) for one in types),
        ]
        self._patience = patience
        self._parser = Parser()
        self._attempt = 0
        self._away_since: float | None = None

    def headers(self) -> dict[str, str]:
        """Of the next connection."""
        self._parser = Parser()
        found = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        return {**found, "Last-Event-ID": self.cursor} if self.cursor else found

    def feed(self, piece: bytes) -> Iterator[Transition | Gap]:
        """Take some more of the stream; the cursor goes along with what is given.

        Raises:
            StrangeAnswer: it is none of this API.
        """
        self._away_since = None
        for message in self._parser.feed(piece):
            self._attempt = 0
            self.cursor = message.id or self.cursor
            if message.event == "gap":
                yield Gap(self.cursor)
            elif message.event not in ("bye", "message"):
                yield _transition(message)
        self.cursor = self._parser.id or self.cursor

    def away(self, error: ApiError | None, now: float) -> float:
        """The connection has ended: how long to wait before the next, in seconds.

        Args:
            error: why; None where the server ended it in good order.
            now: any clock that only goes forward, in seconds.

        Raises:
            ApiError: the error, where coming back would not help, or has not for too long.
        """
        if error is not None:
            self._away_since = now if self._away_since is None else self._away_since
            late = now - self._away_since >= self._patience
            if late or not isinstance(error, NoAnswer | Unavailable):
                raise error
        wait = delay(Advice.SOON, self._attempt, random.random())
        self._attempt += 1
        asked = getattr(error, "retry_after", None)
        return wait if asked is None else max(wait, min(asked, self._patience))


def _transition(message: Message) -> Transition:
    try:
        data = msgspec.json.decode(message.data, type=EventData)
    except msgspec.DecodeError as error:
        raise StrangeAnswer(f"an event of the stream cannot be read: {error}") from error
    return Transition(message.id, *msgspec.structs.astuple(data))
