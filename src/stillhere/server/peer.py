"""One connection, from the node's side: the endpoint that a transport talks to.

A peer owns its socket's life (time-outs, heartbeat, closing), its place in the roster, and what it follows. What the
client's messages mean is in :mod:`stillhere.server.requests`.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING

from stillhere.core.connection import Connection, cause_of_close
from stillhere.core.words import Availability, Cause, ReadyState, RoomName, UserId
from stillhere.server import requests
from stillhere.server.auth import Identity
from stillhere.server.socket import Socket
from stillhere.server.throttle import TokenBucket
from stillhere.server.topics import RoomTopic, Topic, UserTopic
from stillhere.store.contract import Cursor
from stillhere.wire.codes import CAUSE_OF, CloseCode, ErrorCode
from stillhere.wire.frames import ms
from stillhere.wire.messages import (
    Error,
    Moving,
    RequestId,
    ServerMessage,
    ServerProbe,
    WelcomeMessage,
    encode,
)

if TYPE_CHECKING:
    from stillhere.server.node import Node

EARLY_MESSAGES = 32
"""How many requests may arrive before the welcome."""

OVERFLOW = 16
"""So many times ``limits.outbox_bytes`` may wait for a client that asks and does not read the answers."""

REJECTS = 100
"""So many messages over the rate, or not understood, in a row end a connection."""


class Stage(IntEnum):
    """How far the conversation has come."""

    AUTH = 0
    """The first message must authenticate."""
    OPENING = 1
    """Authenticated, or about to be; the store has not acknowledged yet."""
    LIVE = 2
    ENDED = 3
    """Closed or closing: nothing that arrives counts any more."""


class Peer:
    """See the module. One per connection; everything that is rarely needed starts as None."""

    __slots__ = (
        "__weakref__",
        "_abort_at",
        "_auth_until",
        "_bucket",
        "_early",
        "_full_since",
        "_missed",
        "_ping_sent",
        "_pinged",
        "_probe",
        "_probe_at",
        "_rejects",
        "asking",
        "claim",
        "congested",
        "connection",
        "heard",
        "hello",
        "identity",
        "known_from",
        "known_since",
        "node",
        "pending",
        "rooms",
        "slot",
        "socket",
        "stage",
        "users",
    )

    def __init__(self, node: Node, claim: str, identity: Identity | None, *, probe: bool = False) -> None:
        """Wait for the socket.

        Args:
            node: the node.
            claim: the id under which the caps count this connection; it becomes the connection's id.
            identity: None: the first message authenticates.
            probe: the client promised to answer probes.
        """
        self.node = node
        self.claim = claim
        self.identity = identity
        self.connection: Connection | None = None
        self.hello: tuple[str, str, Availability | None] = ("", "", None)
        """What the upgrade said: tab, software, availability."""
        self.socket: Socket | None = None
        self.known_from: Cursor | None = None
        """A place of the log at which the store had the connection; None until it has acknowledged it."""
        self.known_since: float | None = None
        """The same on the store clock, with what it ran before a loss."""
        self.stage = Stage.AUTH
        self.slot = -1
        self.heard = 0.0
        self.congested = False
        self.users: dict[UserId, UserTopic] | None = None
        self.rooms: dict[RoomName, RoomTopic] | None = None
        self.pending = 0
        """Requests that wait for a look-up."""
        self.asking: list[bytes] | None = None
        """Messages that wait while the application is asked whom this client may see."""
        self._bucket = TokenBucket(node.settings.limits.messages_per_second, node.settings.limits.burst)
        self._early: list[bytes] | None = None
        self._missed: set[Topic] | None = None
        self._full_since = 0.0
        self._rejects = 0
        self._pinged = 0.0
        """Wheel time of the ping that is not answered yet, 0 for none."""
        self._ping_sent = 0.0
        self._abort_at = 0.0
        self._auth_until = 0.0
        self._probe = 0 if probe else -1
        """Unanswered probes; -1 for a client that answers none."""
        self._probe_at = 0.0
        """When the next one is sent, wheel time; 0 before the welcome and for a client that answers none."""

    # -- what the transport tells ---------------------------------------------------------------------------------

    def on_open(self, socket: Socket) -> None:
        """The 101 is written."""
        self.socket = socket
        wheel = self.node.wheel
        self.heard = wheel.now
        self._abort_at = 0.0  # a connection that ended before its socket was there has its time to close from now on
        self.node.peers.add(self)
        if self.connection is not None:
            self.node.open(self)
        else:
            self._auth_until = wheel.now + self.node.settings.limits.auth_timeout
        wheel.put(self, self._next())

    def on_text(self, message: bytes) -> None:
        """A message of the client."""
        self.heard = self.node.wheel.now
        self._pinged = 0.0
        if self.stage is Stage.ENDED:
            return
        if not self._bucket.take(self.heard):
            self.reject(None, ErrorCode.RATE_LIMITED, self.node.rate_sentence)
            return
        if self.stage is Stage.OPENING:
            self._early = self._early or []
            if len(self._early) >= EARLY_MESSAGES:
                self.close(CloseCode.PROTOCOL_ERROR, "too many messages before the welcome")
            else:
                self._early.append(message)
            return
        requests.handle(self, message)

    def on_binary(self, message: bytes) -> None:
        """The protocol has no binary messages."""
        self.on_heard()
        if self.stage is Stage.AUTH:
            self.close(CloseCode.UNAUTHORIZED, "the first message must be auth")
        elif self.stage is not Stage.ENDED:
            self.reject(None, ErrorCode.BAD_REQUEST, f"a binary message of {len(message)} bytes; send JSON as text")

    def on_heard(self) -> None:
        """The path is alive."""
        now = self.node.wheel.now
        self.heard = now
        if self._pinged:
            self._pinged = 0.0
            self.node.metrics.ping_rtt.observe(self.node.monotonic() - self._ping_sent)

    def on_close_frame(self, code: int, reason: str) -> None:
        """The client closes."""
        self.heard = self.node.wheel.now
        connection = self.connection
        if connection is not None and connection.ready is ReadyState.OPEN:
            self.node.closing(self, cause_of_close(code), code, by_client=True, reason=reason)
        self._ending()

    def on_violation(self, code: int, reason: str) -> None:
        """The client broke the protocol; the transport has sent the code."""
        connection = self.connection
        if connection is not None and connection.ready is ReadyState.OPEN:
            self.node.closing(self, Cause.PROTOCOL_ERROR, code, by_client=False, reason=reason)
        self._ending()

    def on_lost(self, error: BaseException | None) -> None:
        """TCP has ended."""
        self.stage = Stage.ENDED
        self.node.wheel.drop(self)
        self.node.peers.discard(self)
        self._unfollow_all()
        self.node.gone(self, error)
        self.socket = None

    def on_full(self) -> None:
        """The outbox is full: state is folded from now on."""
        if not self.congested:
            self.congested = True
            self._full_since = self.node.wheel.now
            self.node.wheel.put(self, self._next())

    def on_writable(self) -> None:
        """There is room again: say what was missed, the newest state of each."""
        self.congested = False
        missed, self._missed = self._missed, None
        while missed and not self.congested:  # what is sent may fill it again
            topic = missed.pop()
            if self in topic.followers:
                topic.catch_up(self)
        self._missed = missed or None

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send one frame. A client for whom too much waits already gets nothing more and is closed in the next turn."""
        socket = self.socket
        if socket is None or self.stage is Stage.ENDED:
            return
        if self.congested and socket.unsent() > OVERFLOW * self.node.settings.limits.outbox_bytes:
            asyncio.get_running_loop().call_soon(self._too_slow)  # later: somebody may be going through followers
        else:
            socket.send(frame)

    def say(self, message: ServerMessage) -> None:
        """Send one message."""
        self.send(encode(message))

    def miss(self, topic: Topic) -> None:
        """Note that something changed while there was no room."""
        if self._missed is None:
            self._missed = set()
        self._missed.add(topic)
        self.node.metrics.folded.inc()

    def reject(self, id: RequestId, code: ErrorCode, message: str) -> None:
        """Refuse a request; too many in a row end the connection."""
        self.node.metrics.errors.labels(code.value).inc()
        self._rejects += 1
        if self._rejects >= REJECTS:
            if code is ErrorCode.RATE_LIMITED:
                self.close(CloseCode.RATE_LIMITED, "too many messages")
            else:
                self.close(CloseCode.PROTOCOL_ERROR, "too many messages that cannot be understood")
            return
        self.say(Error(code.value, message, id))

    def accepted(self) -> None:
        """A request was in order."""
        self._rejects = 0

    @property
    def ended(self) -> bool:
        """Whether nothing that arrives counts any more."""
        return self.stage is Stage.ENDED

    # -- the life of the connection -------------------------------------------------------------------------------

    def welcome(self) -> None:
        """The store has acknowledged the connection."""
        connection, identity = self.connection, self.identity
        if self.stage is not Stage.OPENING or connection is None or identity is None:
            return
        self.stage = Stage.LIVE
        node = self.node
        place = node.store.partition_of(connection.user)
        self.known_from, self.known_since = node.keeper.acknowledged_at.get(place), sum(node.store.clock(place))
        self.say(
            WelcomeMessage(
                connection.id,
                connection.session,
                connection.user,
                node.hub.epoch,
                node.name,
                node.settings.heartbeat.interval_ms,
                ms(node.now()),
                ms(identity.expires_at),
            )
        )
        if self._probe >= 0:
            self._probe_at = node.wheel.now + node.settings.heartbeat.probe_interval
        node.wheel.put(self, self._next())
        early, self._early = self._early, None
        for message in early or ():
            if self.stage is Stage.LIVE:
                requests.handle(self, message)

    def hold_back(self) -> None:
        """The token of a log-in cannot be verified at once: what follows it waits, as it does for the store."""
        if self.stage is Stage.AUTH:
            self.stage = Stage.OPENING

    def renew(self, identity: Identity) -> None:
        """A newer token: the connection lives as long as that one."""
        self.identity = identity
        self.node.wheel.put(self, self._next())

    def close(self, code: CloseCode, reason: str = "", cause: Cause | None = None) -> None:
        """Close from our side.

        Args:
            code: for the client.
            reason: at most 123 bytes.
            cause: why, where the code alone does not say.
        """
        cause = cause or CAUSE_OF[code]
        if self.connection is not None:
            self.node.closing(self, cause, code, by_client=False, reason=reason)
        if self.socket is not None:
            self.socket.close(code, reason)  # does nothing where the conversation is over already
        self._ending()

    def abort(self) -> None:
        """Drop the transport."""
        if self.socket is not None:
            self.socket.abort()

    def announce_move(self, delay: float) -> None:
        """The node is draining: say when to reconnect, in seconds from now."""
        if self.stage is Stage.LIVE:  # nothing comes before the welcome
            self.say(Moving(ms(delay)))

    def move(self) -> None:
        """The node is draining: close."""
        self.close(CloseCode.SERVICE_RESTART, "this node is draining")

    def _ending(self) -> None:
        if self.stage is Stage.ENDED and self._abort_at:
            return
        self.stage = Stage.ENDED
        self._early = None
        wheel = self.node.wheel
        self._abort_at = wheel.now + self.node.settings.limits.close_timeout
        if self.socket is not None:
            wheel.put(self, self._abort_at)
        self._unfollow_all()

    def _unfollow_all(self) -> None:
        hub = self.node.hub
        for topics in (self.users, self.rooms):
            for topic in (topics or {}).values():
                hub.unfollow(topic, self)
        self.users = self.rooms = self._missed = None

    # -- time -----------------------------------------------------------------------------------------------------

    def _next(self) -> float:
        """The next thing to look after, in wheel time."""
        heartbeat = self.node.settings.heartbeat
        if self._abort_at:
            return self._abort_at
        if self.connection is None:
            return self._auth_until
        if self._pinged:
            at = self._pinged + heartbeat.timeout
        else:
            at = self.heard + heartbeat.interval * self.node.jitter()
        if self._probe_at:
            at = min(at, self._probe_at)
        if self.congested:
            at = min(at, self._full_since + self.node.settings.limits.lag_timeout)
        if self.identity is not None:
            at = min(at, self.node.wheel.now + max(0.0, self.identity.expires_at - self.node.now()))
        return at

    def due(self, now: float) -> float | None:
        """Called by the wheel, perhaps early."""
        settings = self.node.settings
        if self._abort_at:
            if now < self._abort_at:
                return self._abort_at
            self.abort()
            return now + settings.limits.close_timeout
        if self.connection is None:
            if now >= self._auth_until:
                self.close(CloseCode.UNAUTHORIZED, "no auth message in time")
                return self._abort_at
            return self._auth_until
        if self.identity is not None and self.node.now() >= self.identity.expires_at:
            self.close(CloseCode.UNAUTHORIZED, "the token has expired", Cause.EXPIRED)
            return self._abort_at
        if self.congested and now - self._full_since >= settings.limits.lag_timeout:
            self._too_slow()
            return None
        heartbeat = settings.heartbeat
        if self._pinged:
            if now - self._pinged >= heartbeat.timeout:
                self._drop(CloseCode.HEARTBEAT_LOST, "no answer to a ping")
                return None
        elif now - self.heard >= heartbeat.interval * 0.9 and self.socket is not None:
            if self.socket.ping():
                self._pinged, self._ping_sent = now, self.node.monotonic()
            else:  # the transport watches the path itself, and it has not told of a loss
                self.heard = now
        if self._probe_at and now >= self._probe_at:
            self._ask(now)
        return max(self._next(), now + 0.1)

    def _too_slow(self) -> None:
        if self.stage is not Stage.ENDED:
            self.node.metrics.slow.inc()
            self._drop(CloseCode.SLOW_CONSUMER, "too slow: the outbox did not drain")

    def _drop(self, code: CloseCode, reason: str) -> None:
        """Close a path that is dead or jammed: nobody will answer, so TCP goes at once."""
        self.close(code, reason)
        self.abort()

    def _ask(self, now: float) -> None:
        """Probe the page, as opposed to the path."""
        self._probe_at = now + self.node.settings.heartbeat.probe_interval
        if self._probe == 2 and self.connection is not None:
            self.node.page_asleep(self.connection)
        self._probe = min(self._probe + 1, 3)
        self.say(ServerProbe(self._probe))

    def probed(self) -> None:
        """The page answered a probe."""
        if self._probe >= 2 and self.connection is not None:
            self.node.page_awake(self.connection)
        if self._probe > 0:
            self._probe = 0


def stated(text: str | None) -> Availability | None:
    """The ``availability`` query parameter of an upgrade: so that nobody who is invisible flashes up at first.

    Raises:
        ValueError: naming the value and what would be right.
    """
    if not text:
        return None
    try:
        return Availability(text)
    except ValueError:
        raise ValueError(f"availability is {text[:40]!r}; it must be one of {', '.join(Availability)}") from None
