"""A world without time or chance, in which a machine is driven: the tests say what clock, dice and server do."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stillhere.client.machine import Machine
from stillhere.client.outputs import (
    Close,
    NeedToken,
    Open,
    Output,
    Problem,
    RoomChanged,
    Send,
    StatusChanged,
    UsersChanged,
)

JUST_AFTER = 1e-6
"""Times in seconds are not exact: what is due at a millisecond has happened before an input of the same one."""

Json = dict[str, Any]


class World:
    """A machine, its clock in seconds, and all that it did, each with its time in milliseconds."""

    def __init__(
        self,
        *,
        url: str = "ws://example.com/ws",
        dice: float = 0.5,
        token: str | None = "header.payload.signature",
        renewable: bool = True,
    ) -> None:
        self.now = 0.0
        self.token: str | Exception | None = token
        self.machine = Machine(url, tab="t-1", renewable=renewable, random=lambda: dice)
        self.outputs: list[Json] = []
        self.attempt = 0
        self.linked = False

    # -- what happens ---------------------------------------------------------------------------------------------

    def advance(self, to: float) -> None:
        """Let the clock run until then, in seconds, with all that becomes due."""
        while (deadline := self.machine.next_deadline()) is not None and deadline <= to + JUST_AFTER:
            self.now = max(self.now, deadline)
            self.machine.handle_timer(self.now)
            self.settle()
        self.now = to

    def hear(self, to: float) -> None:
        """As :meth:`advance`, while the server gives signs of life."""
        while self.now < to:
            self.advance(min(to, self.now + 20))
            self.receive({"type": "pong"})

    def connect(self) -> None:
        self.machine.connect(self.now)
        self.settle()

    def watch(self, *users: str) -> None:
        self.machine.talk.wants.watch(users)
        self.flush()

    def open(self, subprotocol: str | None = "stillhere.v1") -> None:
        self.machine.opened(self.attempt, subprotocol, self.now)
        self.settle()

    def receive(self, message: Json | bytes) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        if self.linked:
            self.machine.received(self.attempt, data, self.now)
        self.settle()

    def end(self, code: int, reason: str = "") -> None:
        self.linked = False
        self.machine.closed(self.attempt, code, reason, self.now)
        self.settle()

    def refuse(self, status: int, detail: str = "", retry_after: float | None = None) -> None:
        self.linked = False
        self.machine.upgrade_refused(self.attempt, status, detail, retry_after, self.now)
        self.settle()

    def online(self, **more: Any) -> None:
        """Connect and be welcomed."""
        self.connect()
        self.open()
        self.receive(welcome(self.now, **more))

    def flush(self) -> None:
        """Wishes were noted."""
        self.machine.flush(self.now)
        self.settle()

    def settle(self) -> None:
        """Do what the machine wants done, and note it."""
        while outputs := self.machine.take():
            for output in outputs:
                self._do(output)

    # -- what was done --------------------------------------------------------------------------------------------

    def noted(self, kind: str) -> list[Any]:
        """Everything of one kind that was noted."""
        return [output[kind] for output in self.outputs if kind in output]

    def sent(self, type: str) -> list[Json]:
        """The messages of one type."""
        return [message for message in self.noted("send") if message["type"] == type]

    def note(self, **output: Any) -> None:
        self.outputs.append({"at": round(self.now * 1000), **output})

    def _do(self, output: Output) -> None:
        match output:
            case NeedToken(attempt, renew):
                self.note(getToken={"renew": renew})
                if isinstance(self.token, Exception):
                    self.machine.token_failed(attempt, self.token, self.now)
                else:
                    self.machine.token(attempt, self.token, self.now)
            case Open(attempt, url, token):
                assert not self.linked, "two sockets of one tab"
                self.attempt, self.linked = attempt, True
                query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
                self.note(open={"query": query, "protocols": ["stillhere.v1", f"bearer.{token}"]})
            case Send(message):
                assert self.linked, "sent without a socket"
                self.note(send=json.loads(message))
            case Close(code, reason):
                assert self.linked, "closed twice"
                self.linked = False
                self.note(close={"code": code, "reason": reason})
            case StatusChanged(status, error):
                self.note(status=str(status), **({"error": error.code} if error else {}))
            case UsersChanged(changes):
                self.note(shown=[[change.user, str(change.now.status)] for change in changes])
            case RoomChanged(room, room_changes):
                told = [[change.kind, change.user, str(change.member.status)] for change in room_changes]
                self.note(room=room, changes=told)
            case Problem(error):
                self.note(problem=error.code)


def welcome(now: float = 0.0, user: str = "alice", life: float = 3600.0, **more: Any) -> Json:
    ids = {"connectionId": "c_1", "sessionId": "s_1", "user": user, "epoch": "1", "node": "n1"}
    at = round(now * 1000)
    times = {"heartbeatMs": 20_000, "serverAt": at, "expiresAt": at + round(life * 1000)}
    return {"type": "welcome", **ids, **times, **more}


def presence(user: str, status: str, version: int, epoch: str = "1") -> Json:
    shown = {"user": user, "status": status, "epoch": epoch, "version": version, "changedAt": version}
    return {**shown, "lastSeenAt": version} if status == "offline" else shown
