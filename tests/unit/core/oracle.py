"""A second opinion: what a plain reading of the design says that watchers are shown.

Written from the design alone, with lists and loops, and without any thought of speed. Nodes keep a diary; when a node
tells the store, the diary is read out, entry by entry, and the book of the installation is brought up to date.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

WINDOWS = {
    "client_close": 3.0,
    "going_away": 8.0,
    "page_hidden": 8.0,
    "abnormal": 15.0,
    "heartbeat_lost": 10.0,
    "expired": 15.0,
    "protocol_error": 5.0,
}
"""The steady column of the design's table; what is not here has no window."""

CODES = {1000: "client_close", 1001: "going_away", 1002: "protocol_error", 1005: "client_close", 4900: "page_hidden"}
HANDSHAKE = CLOSE = 5.0
RANK = ["away", "busy", "active"]
SHOWN = {"away": "away", "busy": "busy", "active": "online"}


@dataclass
class Socket:
    """A connection, as its node knows it."""

    name: str
    user: str
    node: str
    tab: str
    session: str
    began: float
    state: str = "connecting"
    stated: str | None = None
    rooms: set[str] = field(default_factory=set)
    cause: str = ""
    until: float = 0.0


@dataclass
class Entry:
    """A line of a node's diary."""

    what: str
    socket: Socket
    at: float
    detail: Any = None


@dataclass
class Present:
    """A connection that counts, as the installation knows it."""

    tab: str
    session: str
    began: float
    availability: str | None = None
    rooms: set[str] = field(default_factory=set)


@dataclass
class Window:
    """A tab that may come back."""

    tab: str
    session: str
    ended_at: float
    deadline: float
    last: Present


@dataclass
class User:
    """The book of the installation."""

    present: dict[str, Present] = field(default_factory=dict)
    in_flight: set[str] = field(default_factory=set)
    windows: dict[str, Window] = field(default_factory=dict)
    past: dict[str, Window] = field(default_factory=dict)
    """Windows of the diary that is being read: news that comes late may tell of a window and of its end at once."""
    phase: str = "OFFLINE"
    deadline: float | None = None
    ended_at: float | None = None
    hidden_at: float | None = None
    status: str = "offline"
    shown_ended_at: float | None = None
    rooms: set[str] = field(default_factory=set)


class Oracle:
    """Predicts."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.sockets: dict[str, Socket] = {}
        self.diaries: dict[str, list[Entry]] = {}

    def user(self, name: str) -> User:
        return self.users.setdefault(name, User())

    # -- on a node ----------------------------------------------------------------------------------------------

    def note(self, what: str, socket: Socket, at: float, detail: Any = None) -> None:
        self.diaries.setdefault(socket.node, []).append(Entry(what, socket, at, detail))

    def begin(self, name: str, user: str, node: str, tab: str, session: str, now: float) -> None:
        socket = Socket(name, user, node, tab, session, now, until=now + HANDSHAKE)
        self.sockets[name] = socket
        self.note("in flight", socket, now)

    def open(self, name: str, now: float) -> None:
        new = self.sockets[name]
        new.state = "open"
        self.note("open", new, now)
        for other in self.sockets.values():
            same = (other.user, other.node, other.tab) == (new.user, new.node, new.tab)
            if same and other is not new and other.state in ("open", "closing"):
                self._end(other if other.began <= new.began else new, "superseded", now)

    def refuse(self, name: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state == "connecting":
            socket.state = "closed"
            self.note("refused", socket, now)

    def closing(self, name: str, cause: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state == "open":
            socket.state, socket.cause, socket.until = "closing", cause, now + CLOSE

    def lost(self, name: str, cause: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state == "connecting":
            self.refuse(name, now)
        elif socket.state != "closed":
            self._end(socket, socket.cause or cause, now)

    def bye(self, name: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state == "connecting":
            self.refuse(name, now)
        elif socket.state != "closed":
            self._end(socket, "bye", now)

    def kick(self, user: str, node: str, now: float) -> None:
        for socket in [s for s in self.sockets.values() if (s.user, s.node) == (user, node)]:
            if socket.state == "connecting":
                self.refuse(socket.name, now)
            elif socket.state != "closed":
                self._end(socket, "kicked", now)
        self.note("kicked", Socket("", user, node, "", "", now), now)

    def state(self, name: str, availability: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state != "closed":
            self.note("states", socket, now, availability)

    def join(self, name: str, room: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state != "closed":
            self.note("joins", socket, now, room)

    def leave(self, name: str, room: str, now: float) -> None:
        socket = self.sockets[name]
        if socket.state != "closed":
            self.note("leaves", socket, now, room)

    def timers(self, now: float) -> None:
        for socket in self.sockets.values():
            if socket.until <= now:
                if socket.state == "connecting":
                    self.refuse(socket.name, now)
                elif socket.state == "closing":
                    self._end(socket, socket.cause, now)

    def _end(self, socket: Socket, cause: str, now: float) -> None:
        socket.state = "closed"
        self.note("ended", socket, now, cause)

    # -- at the store -------------------------------------------------------------------------------------------

    def tell(self, node: str, now: float) -> None:
        """The node's diary is read out."""
        diary = self.diaries.pop(node, [])
        for name in dict.fromkeys(entry.socket.user for entry in diary):
            for entry in diary:
                if entry.socket.user == name:
                    self._read(self.user(name), entry, now)
            self._settle(self.user(name), now)
            self.user(name).past.clear()

    def sweep(self, now: float) -> None:
        """Windows that ran out."""
        for user in self.users.values():
            if any(w.deadline <= now for w in user.windows.values()):
                self._settle(user, now)

    def _read(self, user: User, entry: Entry, now: float) -> None:
        socket, name = entry.socket, entry.socket.name
        if entry.what == "in flight":
            user.in_flight.add(name)
        elif entry.what == "refused":
            user.in_flight.discard(name)
        elif entry.what == "open":
            user.in_flight.discard(name)
            user.present[name] = self._arrive(user, socket)
        elif entry.what == "states":
            if name in user.present:
                user.present[name].availability = entry.detail
        elif entry.what == "joins":
            user.present[name].rooms.add(entry.detail)
        elif entry.what == "leaves":
            user.present[name].rooms.discard(entry.detail)
            if socket.tab in user.windows:
                user.windows[socket.tab].last.rooms.discard(entry.detail)
        elif entry.what == "ended":
            self._leave(user, socket, entry.detail, entry.at, now)
        elif entry.what == "kicked":
            self._depart(user, "", "", entry.at, everything=True)

    def _arrive(self, user: User, socket: Socket) -> Present:
        """A tab's availability survives its reconnects."""
        known = [p for p in user.present.values() if p.tab == socket.tab]
        for windows in (user.past, user.windows):
            known += [w.last for w in windows.values() if w.tab == socket.tab and w.deadline > socket.began]
        known.sort(key=lambda p: p.began)
        return Present(socket.tab, socket.session, socket.began, known[-1].availability if known else None)

    def _depart(self, user: User, tab: str, session: str, at: float, *, everything: bool) -> None:
        """A departure ends the windows that were open by then; what ended since is none of its business."""
        for windows in (user.past, user.windows):
            for w in list(windows.values()):
                if w.ended_at <= at and (everything or w.tab == tab or w.session == session):
                    del windows[w.tab]

    def _leave(self, user: User, socket: Socket, cause: str, at: float, now: float) -> None:
        gone = user.present.pop(socket.name)
        if cause != "superseded":
            user.ended_at = max(user.ended_at or 0.0, at)
        if cause in ("bye", "kicked"):
            self._depart(user, socket.tab, socket.session, at, everything=cause == "kicked")
        if cause not in WINDOWS:
            return
        deadline = at + WINDOWS[cause]
        user.past[socket.tab] = Window(socket.tab, socket.session, at, deadline, gone)
        if deadline <= now:
            return  # the news came too late for it
        before = user.windows.get(socket.tab)
        if before is not None:
            deadline = max(deadline, before.deadline)
            gone = replace(gone, rooms=gone.rooms | before.last.rooms)
        user.windows[socket.tab] = Window(socket.tab, socket.session, at, deadline, gone)

    def _settle(self, user: User, now: float) -> None:
        before = user.phase
        user.windows = {t: w for t, w in user.windows.items() if w.deadline > now}
        if user.present:
            user.phase = "ONLINE"
        elif before == "OFFLINE":
            user.windows = {}  # who came and went before anybody was told is not shown
        elif user.windows or user.in_flight:
            user.phase = "HELD"
        else:
            user.phase = "OFFLINE"
        if user.phase != "HELD":
            user.deadline = None
        elif user.windows:
            user.deadline = max(w.deadline for w in user.windows.values())
        self._show(user, now)

    def _show(self, user: User, now: float) -> None:
        counting = self._counting(user)
        if user.phase == "HELD" and not counting:
            return  # only an upgrade in flight is left: all stays as it is
        stated = [p.availability or "active" for p in counting]
        before = user.status
        if user.phase == "OFFLINE":
            user.status = "offline"
            if before != "offline":
                user.shown_ended_at = user.ended_at
        elif "invisible" in stated:
            user.status = "offline"
            if before != "offline":
                user.shown_ended_at = now
        else:
            user.status = SHOWN[max(stated, key=RANK.index)]
            user.shown_ended_at = None
        inside = [*user.present.values(), *(w.last for w in user.windows.values())]
        user.rooms = set() if user.status == "offline" else {room for p in inside for room in p.rooms}

    def _counting(self, user: User) -> list[Present]:
        there = {p.tab for p in user.present.values()}
        held = [w.last for w in user.windows.values() if w.tab not in there]
        return [*user.present.values(), *held]
