"""Clients: a WebSocket as the node sees it, and a tab that behaves as the SDK does.

A tab keeps its id across reloads, comes back with back-off and full jitter where the close code asks for it, believes
what a draining node says of when to come back, and joins its rooms anew after each welcome.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Union, cast

import msgspec

from stillhere.server.peer import Peer
from stillhere.server.socket import Refusal, UpgradeRequest, Verdict, Welcome
from stillhere.simulation.loops import Clock
from stillhere.wire.codes import Advice, advice
from stillhere.wire.messages import (
    SERVER_MESSAGES,
    Moving,
    Presence,
    Room,
    ServerMessage,
    ServerProbe,
    Snapshot,
    WelcomeMessage,
)

if TYPE_CHECKING:
    from stillhere.simulation.server import Server
    from stillhere.simulation.view import View
    from stillhere.simulation.world import World

_reader: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(Union[SERVER_MESSAGES])  # noqa: UP007 - of a tuple
_writer = msgspec.json.Encoder()

WELCOME_TIMEOUT = 10.0
"""Seconds that the SDK waits for a welcome."""

_FIRST = {Advice.SOON: (1.0, 10.0), Advice.BACK_OFF: (4.0, 60.0)}
"""Of the SDK: the first and the longest step of its back-off, in seconds."""


class Wire:
    """One WebSocket between a tab and a node; for the node it is a :class:`~stillhere.server.socket.Socket`."""

    def __init__(self, tab: Tab, server: Server, endpoint: Peer, latency: float) -> None:
        """The upgrade was granted."""
        self.tab = tab
        self.server = server
        self.loop = server.loop
        self.endpoint = endpoint
        self.latency = latency
        self.clock: Clock = tab.world.clock
        self.opened_at = self.clock.now
        self.welcomed_at = 0.0
        self.given_up = False
        """The client has ended it."""
        self.vanished = False
        """The client is gone without a sign: a dead battery, a broken path."""
        self.lost = False
        """The node knows that TCP has ended."""
        self.closed_by_node = False
        self.capacity: int | None = None
        """Bytes above which it is congested; None: it takes everything."""
        self._unsent = 0
        self._full = False

    @property
    def alive(self) -> bool:
        """Whether both sides have it open."""
        return not (self.given_up or self.lost or self.vanished or self.closed_by_node or self.loop.dead)

    @property
    def counted(self) -> bool:
        """Whether the node counts it as active."""
        connection = self.endpoint.connection
        return connection is not None and connection.ready.active

    # -- what the node does: see the protocol -----------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        if self.given_up or self.vanished or self.lost or self.closed_by_node:
            return
        self.tab.receive(self, frame)
        if self.capacity is not None:
            self._unsent += len(frame)
            if self._unsent > self.capacity and not self._full:
                self._full = True
                self.endpoint.on_full()

    def send_binary(self, message: bytes) -> None:
        raise AssertionError("the native protocol has no binary messages")

    def ping(self) -> bool:
        if not (self.vanished or self.given_up):
            self.clock.after(2 * self.latency, self.loop.deliver, self._tell, self.endpoint.on_heard)
        return True

    def close(self, code: int, reason: str = "") -> None:
        if self.closed_by_node or self.lost:
            return
        self.closed_by_node = True
        self.tab.world.closed(self)  # it counted until now; that TCP has ended is heard of later
        if not self.vanished and not self.given_up:
            self.clock.after(self.latency, self.tab.ended, self, int(code))
            self.clock.after(2 * self.latency, self.loop.deliver, self._lose, None)

    def abort(self) -> None:
        if not self.lost:
            self.loop.call_soon(self._lose, None)
            if not self.vanished and not self.given_up and not self.closed_by_node:
                self.clock.after(self.latency, self.tab.ended, self, 1006)
            self.closed_by_node = True

    def unsent(self) -> int:
        return self._unsent

    # -- what the client does ---------------------------------------------------------------------------------------

    def say(self, type: str, **fields: object) -> None:
        """Send a message."""
        if not (self.given_up or self.vanished):
            message = _writer.encode({"type": type, **fields})
            self.clock.after(self.latency, self.loop.deliver, self._tell, self.endpoint.on_text, message)

    def leave(self, code: int) -> None:
        """Close as a browser does: a close frame, then the end of TCP."""
        self.given_up = True
        self.clock.after(self.latency, self.loop.deliver, self._tell, self.endpoint.on_close_frame, code, "")
        self.clock.after(3 * self.latency, self.loop.deliver, self._lose, None)

    def drop(self, error: BaseException | None = None) -> None:
        """End TCP without a word."""
        self.given_up = True
        self.clock.after(self.latency, self.loop.deliver, self._lose, error)

    def drain(self) -> None:
        """A congested client reads again."""
        if not (self.lost or self.vanished):
            self._unsent = 0
            if self._full:
                self._full = False
                self._tell(self.endpoint.on_writable)

    def _tell(self, work: object, *args: object) -> None:
        if not self.lost and callable(work):
            work(*args)

    def _lose(self, error: BaseException | None) -> None:
        if not self.lost:
            self.lost = True
            self.tab.world.closed(self)
            self.endpoint.on_lost(error)


class Tab:
    """One browser tab, or a device: an SDK with its session storage."""

    def __init__(self, world: World, user: str, id: str, session: int = 0, *, home: int | None = None) -> None:
        """A tab that does not want to be connected yet.

        Args:
            world: everything.
            user: whose.
            id: the tab's id.
            session: which of the user's log-ins.
            home: the node to which it always goes; None: a load balancer decides.
        """
        self.world = world
        self.user = user
        self.id = id
        self.session = f"{user}-s{session}"
        self.home = home
        self.rng = random.Random(f"{world.plan.seed} {id}")
        self.token = world.token(user, self.session)
        self.wanted = False
        self.rooms: set[str] = set()
        self.availability: str | None = None
        self.wire: Wire | None = None
        self.live = False
        """Welcomed."""
        self.capacity: int | None = None
        self.view: View | None = None
        self._attempt = 0
        self._turn = 0
        self._moving_at = 0.0

    # -- what the user does -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """The page is loaded."""
        if not self.wanted:
            self.wanted = True
            self._attempt = 0
            self._connect()

    def reload(self, code: int | None, seconds: float) -> None:
        """The page goes and comes back; code None: without a close frame."""
        self._end(code)
        self._later(seconds)

    def shut(self, code: int | None) -> None:
        """The page goes for good."""
        self.wanted = False
        self._end(code)

    def bye(self) -> None:
        """Log out."""
        self.wanted = False
        wire = self.wire
        if wire is not None and self.live:
            self.world.note(self.user, "%s says bye", self.id)
            self._turn += 1
            self.wire, self.live = None, False
            wire.say("bye")
            self.world.clock.after(2.0, self._impolite, wire)
        else:
            self._end(1000)

    def drop(self) -> None:
        """The path breaks, and the SDK notices at once."""
        wire = self.wire
        if wire is not None and not wire.given_up:
            wire.drop(ConnectionResetError("reset"))
            self.ended(wire, 1006)

    def vanish(self, seconds: float | None) -> None:
        """The device goes out without a sign; it comes back in so many seconds, or not at all."""
        if self.wire is not None:
            self.world.note(self.user, "%s vanishes", self.id)
            self.wire.vanished = True
        self.wire, self.live = None, False
        self._turn += 1
        if seconds is None:
            self.wanted = False
        else:
            self._later(seconds)

    def state(self, availability: str) -> None:
        """Set the availability."""
        if self.wire is not None and self.live:
            self.world.note(self.user, "%s becomes %s", self.id, availability)
            self.availability = availability
            self.wire.say("state", availability=availability)

    def join(self, room: str) -> None:
        """Enter a room."""
        self.rooms.add(room)
        if self.wire is not None and self.live:
            self.world.note(self.user, "%s joins %s", self.id, room)
            self.wire.say("join", room=room)

    def leave(self, room: str) -> None:
        """Leave a room."""
        self.rooms.discard(room)
        if self.wire is not None and self.live:
            self.world.note(self.user, "%s leaves %s", self.id, room)
            self.wire.say("leave", room=room)

    # -- what the network tells -------------------------------------------------------------------------------------

    def receive(self, wire: Wire, frame: bytes) -> None:
        """A frame of the server; what the SDK does about it takes the way back at least."""
        view = self.view
        if view is None and frame.startswith((b'{"type":"presence"', b'{"type":"ok"')):
            return
        message = _reader.decode(frame)
        if view is not None and isinstance(message, Presence | Snapshot | Room):
            view.take(wire, message)
        elif isinstance(message, WelcomeMessage | Moving | ServerProbe):
            self.world.clock.after(wire.latency, self._heed, wire, message)

    def ended(self, wire: Wire, code: int) -> None:
        """The connection is over, from the client's side."""
        if wire is not self.wire:
            return
        self.world.note(self.user, "%s was closed with %d", self.id, code)
        wire.given_up = True
        self._turn += 1
        self.wire, self.live = None, False
        what = advice(code)
        if what is Advice.STOP:
            self.wanted = False
            self.world.dismissed(self)
            return
        first, longest = _FIRST[what]
        step = min(longest, first * 2.0**self._attempt)
        delay = self.rng.random() * step if what is Advice.SOON else step / 2 + self.rng.random() * step / 2
        if self._moving_at:
            delay, self._moving_at = max(0.0, self._moving_at - self.world.clock.now), 0.0
        self._attempt += 1
        self._later(delay)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _later(self, seconds: float) -> None:
        self._turn += 1
        self.world.clock.after(seconds, self._again, self._turn)

    def _again(self, turn: int) -> None:
        if turn == self._turn and self.wanted and self.wire is None:
            self._connect()

    def _connect(self) -> None:
        world = self.world
        self._turn += 1
        turn = self._turn
        latency = self.rng.choice((0.002, 0.02, 0.08))
        server = world.choose(self)
        world.clock.after(WELCOME_TIMEOUT, self._impatient, turn)
        if not server.up:
            world.clock.after(latency, self._refused, turn)
            return
        headers = {"host": world.host, "sec-websocket-protocol": f"stillhere.v1, bearer.{self.token}"}
        request = UpgradeRequest("/ws", {"tab": self.id}, headers, "")
        world.clock.after(latency, server.loop.deliver, self._greet, server, request, latency, turn)

    def _greet(self, server: Server, request: UpgradeRequest, latency: float, turn: int) -> None:
        """On the node's loop: the request has arrived."""
        if turn != self._turn or server.node is None:
            return  # the client has gone meanwhile, and the transport noticed it first
        verdict = server.node.greet(request)
        if inspect.isawaitable(verdict):
            server.loop.create_task(self._wait(verdict, server, latency, turn))
        else:
            self._judged(verdict, server, latency, turn)

    async def _wait(self, verdict: Awaitable[Verdict], server: Server, latency: float, turn: int) -> None:
        self._judged(await verdict, server, latency, turn)

    def _judged(self, verdict: Verdict, server: Server, latency: float, turn: int) -> None:
        if isinstance(verdict, Refusal):
            self.world.clock.after(latency, self._refused, turn)
            return
        assert isinstance(verdict, Welcome)
        wire = Wire(self, server, cast(Peer, verdict.endpoint), latency)
        wire.capacity = self.capacity
        self.world.opened(wire)
        if turn == self._turn and self.wire is None:
            self.wire = wire
        else:
            wire.given_up = True
            self.world.clock.after(latency, server.loop.deliver, wire._lose, None)
        wire.endpoint.on_open(wire)

    def _refused(self, turn: int) -> None:
        if turn == self._turn and self.wire is None and self.wanted:
            step = min(10.0, 1.0 * 2.0**self._attempt)
            self._attempt += 1
            self._later(self.rng.random() * step)

    def _impatient(self, turn: int) -> None:
        if turn != self._turn or self.live or not self.wanted:
            return
        wire, self.wire = self.wire, None
        if wire is not None and not wire.given_up:
            wire.drop()
        self._refused(turn)

    def _heed(self, wire: Wire, message: ServerMessage) -> None:
        if wire is not self.wire:
            return
        if isinstance(message, WelcomeMessage):
            self.live = True
            self._attempt = 0
            wire.welcomed_at = self.world.clock.now
            self.world.note(self.user, "%s is welcome on %s", self.id, wire.server.name)
            for room in sorted(self.rooms):
                wire.say("join", room=room)
            if self.view is not None:
                self.view.follow(wire)
        elif isinstance(message, Moving):
            self._moving_at = self.world.clock.now + message.reconnect_in_ms / 1000
        elif isinstance(message, ServerProbe):
            wire.say("probe", n=message.n)

    def _end(self, code: int | None) -> None:
        wire, self.wire, self.live = self.wire, None, False
        self._turn += 1
        if wire is not None and not wire.given_up:
            self.world.note(self.user, "%s ends with %s", self.id, code or "nothing")
            if code is None:
                wire.drop()
            else:
                wire.leave(code)

    def _impolite(self, wire: Wire) -> None:
        if not (wire.given_up or wire.closed_by_node or wire.lost):
            wire.leave(1000)
