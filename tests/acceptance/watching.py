"""A watcher that records all that it is shown, with times; and what such a recording must obey."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from tests.acceptance.raw import PATIENCE, Closed, Message, Raw
from tests.acceptance.server import ServerProcess

T = TypeVar("T")

STATUSES = frozenset({"online", "away", "busy", "offline", "unknown"})


class Seen(NamedTuple):
    """A message and when it came, Unix seconds."""

    at: float
    message: Message


class Shown(NamedTuple):
    """What a watcher was told of one user."""

    at: float
    kind: str
    """``snapshot`` or ``presence``."""
    told: Message
    """The ``UserPresence``."""

    @property
    def status(self) -> str:
        """As shown."""
        return str(self.told["status"])

    @property
    def version(self) -> int:
        """As shown."""
        return int(self.told["version"])


def wait_until(condition: Callable[[], T | None], timeout: float = PATIENCE, what: str = "") -> T:
    """Poll until the condition gives something true.

    Raises:
        AssertionError: it does not in time.
    """
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {timeout:g} s: {what or condition}"
        time.sleep(0.01)


class Watcher:
    """Watches users and rooms over one connection after the other, and records everything in a thread."""

    def __init__(self, connect: Callable[[], Raw], users: Sequence[str] = (), rooms: Sequence[str] = ()) -> None:
        """Connect, watch, join, and begin to record.

        Args:
            connect: opens a connection with a token that may watch them; called again by :meth:`reconnect`.
            users: whom to watch.
            rooms: what to join.
        """
        self.frames: list[Seen] = []
        self.end: Closed | None = None
        """How the present connection ended, if it did."""
        self.ended_at = 0.0
        """And when, Unix seconds."""
        self._connect = connect
        self._users = list(users)
        self._rooms = list(rooms)
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reconnect(self) -> None:
        """Connect anew and watch the same; the recording goes on."""
        self.stop()
        self._begin()

    def stop(self) -> None:
        """End the connection; what was recorded stays."""
        self._stopping = True
        self._thread.join(PATIENCE)
        self._client.tcp.close()

    def leave(self, code: int = 1001) -> None:
        """Close as a browser does, and wait for the end."""
        self._client.close_frame(code)
        self._thread.join(PATIENCE)
        self._client.tcp.close()

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self.end is None

    def settle(self) -> None:
        """Return when all that the server has sent so far is recorded."""
        token = f"settle {time.monotonic()}"
        self._client.send({"type": "ping", "id": token})
        self._answered(token)

    # -- what was recorded ------------------------------------------------------------------------------------------

    def history(self, user: str) -> list[Shown]:
        """All that was said of a user, snapshots included."""
        found = []
        for at, message in list(self.frames):
            if message["type"] in ("snapshot", "presence"):
                entries = message["users"] if message["type"] == "snapshot" else message["changes"]
                found += [Shown(at, message["type"], told) for told in entries if told["user"] == user]
        return found

    def changes(self, user: str) -> list[Shown]:
        """Every change of a user that was shown; empty if nothing was."""
        return [shown for shown in self.history(user) if shown.kind == "presence"]

    def statuses(self, user: str) -> list[str]:
        """The statuses of :meth:`changes`."""
        return [shown.status for shown in self.changes(user)]

    def wait_for(self, user: str, status: str, timeout: float = PATIENCE) -> Shown:
        """Wait until the newest that was shown of a user is this status."""

        def newest() -> Shown | None:
            history = self.history(user)
            return history[-1] if history and history[-1].status == status else None

        return wait_until(newest, timeout, f"{user} shown {status}; was shown {self.history(user)[-3:]}")

    def room_frames(self, room: str) -> list[Seen]:
        """All that was said of a room."""
        return [seen for seen in list(self.frames) if seen.message["type"] == "room" and seen.message["room"] == room]

    # -- inside -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.end = None
        self._stopping = False
        self._client = self._connect()
        self._client.tcp.settimeout(0.2)
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()
        stamp = time.monotonic()
        if self._users:
            self._client.send({"type": "watch", "id": f"watch {stamp}", "users": self._users})
            self._answered(f"watch {stamp}")
        for room in self._rooms:
            self._client.send({"type": "join", "id": f"join {room} {stamp}", "room": room})
            self._answered(f"join {room} {stamp}")

    def _answered(self, id: str) -> None:
        def answer() -> bool:
            assert self.end is None, f"the watcher's connection ended: {self.end!r}"
            return any(seen.message.get("id") == id for seen in reversed(self.frames[-200:]))

        wait_until(answer, what=f"an answer to {id!r}")

    def _record(self) -> None:
        while not self._stopping:
            try:
                message = self._client.receive()
            except TimeoutError:
                continue
            except (Closed, OSError) as end:
                self.ended_at = time.time()
                self.end = end if isinstance(end, Closed) else Closed(1006, str(end))
                self._client.answer_close(self.end)
                return
            self.frames.append(Seen(time.time(), message))


# -- what a recording must obey -----------------------------------------------------------------------------------


def faults(history: Iterable[Shown], *, folded: bool = False) -> list[str]:
    """What is wrong with what one watcher was told of one user.

    Versions grow within an epoch; ONLINE and OFFLINE alternate; the same version is the same state; nothing is
    ``unknown`` while the store is there; ``lastSeenAt`` is not after ``changedAt``.

    Args:
        history: in the order of receipt.
        folded: the server was busy, so that a state in between may have been left out: then two OFFLINE in a row must
            be of two different absences.
    """
    found: list[str] = []
    before: Shown | None = None
    for shown in history:
        told = shown.told
        if told["status"] not in STATUSES or told["status"] == "unknown":
            found.append(f"status {told['status']!r}: {told}")
        if told.get("lastSeenAt", 0) > told["changedAt"]:
            found.append(f"last seen after the change: {told}")
        if before is not None and before.told["epoch"] == told["epoch"]:
            found += _between(before, shown, folded)
        before = shown
    return found


def _between(before: Shown, after: Shown, folded: bool) -> list[str]:
    found = []
    if after.version < before.version or (after.kind == "presence" and after.version == before.version):
        found.append(f"a version that does not grow: {before.told} then {after.told}")
    elif after.version == before.version and after.told != before.told:
        found.append(f"one version, two states: {before.told} and {after.told}")
    elif after.version > before.version and before.status == after.status == "offline":
        same = before.told.get("lastSeenAt") == after.told.get("lastSeenAt")
        if same or not folded:
            found.append(f"offline twice: {before.told} then {after.told}")
    if after.told["changedAt"] < before.told["changedAt"]:
        found.append(f"a change before the last one: {before.told} then {after.told}")
    return found


class RoomView:
    """A room as a client holds it: the state, then every change applied to it."""

    def __init__(self) -> None:
        """Know nothing."""
        self.members: dict[str, Message] = {}
        self.faults: list[str] = []

    def apply(self, message: Message) -> None:
        """Take a ``room`` message, by the rules of the protocol: leaves, then joins, then updates."""
        if message.get("members") is not None:
            new = {member["user"]: member for member in message["members"]}
            for user, member in new.items():
                if user in self.members and member["version"] < self.members[user]["version"]:
                    self.faults.append(f"the state of the room went back: {self.members[user]} then {member}")
            self.members = new
        for member in message.get("leaves") or ():
            self._newer(member, "leave")
            if self.members.pop(member["user"], None) is None:
                self.faults.append(f"left without having been there: {member}")
        for member in message.get("joins") or ():
            if member["user"] in self.members:
                self.faults.append(f"joined twice: {member}")
            self.members[member["user"]] = member
        for member in message.get("updates") or ():
            self._newer(member, "update")
            self.members[member["user"]] = member

    def _newer(self, member: Message, what: str) -> None:
        held = self.members.get(member["user"])
        if held is not None and held["version"] >= member["version"]:
            self.faults.append(f"an old {what}: {held} then {member}")


def flips(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """From a server's log: PRESENCE_ONLINE and PRESENCE_OFFLINE of each user, in order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["event"] in ("PRESENCE_ONLINE", "PRESENCE_OFFLINE"):
            found.setdefault(line["user"], []).append(line)
    return found


def log_faults(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with a server's log: ONLINE and OFFLINE alternate per user, versions grow."""
    found = []
    for user, entries in flips(lines).items():
        for before, after in zip([None, *entries], entries, strict=False):
            if before is not None and before["event"] == after["event"]:
                found.append(f"{user}: twice in a row {before} {after}")
            if before is not None and after["version"] <= before["version"]:
                found.append(f"{user}: a version that does not grow {before} {after}")
            if after["event"] == "PRESENCE_OFFLINE" and after["activeConnectionsForUser"] > 0:
                found.append(f"{user}: offline with an active connection {after}")
    return found


# -- who takes part ------------------------------------------------------------------------------------------------


def enter(
    server: ServerProcess, user: str, tab: str | None = None, *, answers_pings: bool = True, **claims: object
) -> Raw:
    """A connection of a user, welcomed.

    Args:
        server: where.
        user: who.
        tab: which tab; None for one of its own.
        answers_pings: False for a client that is dead to the server.
        claims: of the token, as for ``ServerProcess.token``.
    """
    client = Raw.open(server.ws_url, server.token(user, **claims), tab=tab)
    client.answers_pings = answers_pings
    return client


def watch(server: ServerProcess, *users: str, rooms: Sequence[str] = (), name: str = "watcher") -> Watcher:
    """A watcher of these users."""
    return Watcher(lambda: enter(server, name), users, rooms)
