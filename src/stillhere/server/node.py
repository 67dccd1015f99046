"""A node: one server process (or one embedded in an application).

The node ties the pure machines to the world: sockets come in through :meth:`Node.greet`, the roster keeps their
connections, what changed is put into the store together, and the hub tells the followers what the store's
log says. All state changes are synchronous; four tasks per node (not per connection) do the waiting: the keeper
(sweeps and beats), the hub's reader, and one put at a time.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from stillhere.core.connection import Connection
from stillhere.core.errors import LocalMisuse
from stillhere.core.roster import Order, Roster
from stillhere.core.words import (
    FINAL_CAUSES,
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)
from stillhere.server import neighbours
from stillhere.server.after_gap import AfterGap
from stillhere.server.auth import Authenticator, Identity
from stillhere.server.drain import move_away
from stillhere.server.eventlog import EventLog
from stillhere.server.figures import figures_of
from stillhere.server.fresh import FreshIds
from stillhere.server.gate import GateKeeper
from stillhere.server.hub import Hub
from stillhere.server.isolation import Ask, Isolation
from stillhere.server.keeper import Keeper
from stillhere.server.metrics import Metrics
from stillhere.server.peer import Peer, Stage
from stillhere.server.reach import own_address
from stillhere.server.settings import Settings
from stillhere.server.socket import UpgradeRequest, Verdict
from stillhere.server.statistics import NodeStatistics
from stillhere.server.tasks import Tasks
from stillhere.server.webhooks.office import Webhooks
from stillhere.server.wheel import Wheel
from stillhere.store.contract import Store
from stillhere.wire.codes import CloseCode

_LOG = logging.getLogger("stillhere.node")

Admit = Callable[[Identity, UpgradeRequest], bool | Awaitable[bool]]
"""A last word about an authenticated upgrade; while an awaitable is pending the upgrade is *in flight*."""


class Node:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        authenticator: Authenticator,
        admit: Admit | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        log: EventLog | None = None,
        ask: Ask | None = None,
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            settings: checked settings.
            store: not started yet; the node starts and stops it.
            authenticator: verifies tokens.
            admit: asked after authentication; False refuses with 403.
            now: Unix seconds.
            monotonic: seconds that never go back.
            log: where events go.
            ask: whether another node is ready; None: clients are never moved because this node alone has no store.
        """
        self.settings = settings
        self.store = store
        self.name = settings.server.node
        self.incarnation = Incarnation(f"{self.name}-{secrets.token_hex(8)}")
        self.now = now
        self.monotonic = monotonic
        self.authenticator = authenticator
        self.metrics = Metrics()
        self.log = log or EventLog(self.name)
        self.roster = Roster(
            settings.grace.policy,
            handshake_timeout=settings.limits.handshake_timeout,
            close_timeout=settings.limits.close_timeout,
        )
        self.hub = Hub(store, self.metrics, settings.rooms.count_only_above)
        self.after_gap = AfterGap(self)
        self.hub.on_gap = self.after_gap.begin
        self.tasks = Tasks()
        self.keeper = Keeper(
            store, self.roster, self.tasks, self.metrics, self.log, beat=settings.cluster.beat, monotonic=monotonic
        )
        self.wheel = Wheel(monotonic=monotonic, on_tick=self._tick)
        self.gate = GateKeeper(self, admit)
        self.isolation = Isolation(self, ask)
        self.webhooks = Webhooks(self)
        self.listener: tuple[str, int] | None = None  # where who listens knows better than the settings, before start
        self.address = ""
        """Base URL at which the other nodes reach this one, if there is one."""
        self.peers: set[Peer] = set()
        self.draining = False
        self.started_at = 0.0
        self.rate_sentence = (
            f"more than {settings.limits.messages_per_second:g} messages a second; limits.messages_per_second"
        )
        self._peer_of: dict[ConnectionId, Peer] = {}
        self._asleep: dict[ConnectionId, Availability | None] = {}
        self._sessions = FreshIds(9)
        self._random = random.Random(secrets.randbits(64))
        self.metrics.watch(self.statistics)
        store.about = lambda: neighbours.about(self)
        self.hub.on_notice = lambda notice: neighbours.heed(self, notice)

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store and begin.

        Raises:
            StoreRefused: with a sentence for the operator.
        """
        self.address = await own_address(self.settings, self.listener)
        await self.store.start(self.incarnation, self.settings.cluster.lease)
        await self.hub.start()
        self.started_at = self.now()
        self.wheel.start()
        for work in (self.hub.run(), self.keeper.run(), self.isolation.run(), self.webhooks.run()):
            self.tasks.spawn(work)

    async def stop(self) -> None:
        """End what is left, without haste for nobody: :meth:`drain` comes before where that matters."""
        self.draining = True
        for peer in list(self.peers):
            peer.close(CloseCode.SERVICE_RESTART, "this node stops")
            peer.abort()
        for connection in list(self.roster.connections.values()):
            active = connection.ready.active
            self.roster.lost(connection, self.monotonic(), Cause.NODE_DRAIN)
            if active:
                self._closed(connection)
        await self.keeper.settle()
        self.wheel.stop()
        await self.tasks.cancel()
        await self.store.stop()

    async def drain(self, seconds: float | None = None) -> None:
        """Move everybody away: announce, then close at a steady pace, each connection at the time it was told.

        Args:
            seconds: over which the closes are spread; ``server.drain_s`` if None.
        """
        self.draining = True
        begin = self.monotonic()
        peers = [peer for peer in self.peers if peer.stage is not Stage.ENDED]
        span = self.settings.server.drain_s if seconds is None else seconds
        await move_away(peers, span, self.settings.limits.close_timeout, self.monotonic, self._random)
        await self.keeper.settle()
        self.log.emit("node_drained", connections=len(peers), seconds=round(self.monotonic() - begin, 3))

    def greet(self, request: UpgradeRequest) -> Verdict | Awaitable[Verdict]:
        """Decide about an upgrade; see :class:`stillhere.server.socket.Gate`."""
        return self.gate.greet(request)

    def jitter(self) -> float:
        """A factor of 0.9 to 1.1."""
        return self._random.uniform(0.9, 1.1)

    @property
    def ready(self) -> str | None:
        """None if the node can take connections, else why not."""
        if self.draining:
            return "draining"
        if self.keeper.error is not None:
            return f"the store is not reachable: {self.keeper.error}"
        if not self.hub.reachable:
            return "the store cannot be read"
        if not self.started_at:
            return "not started"
        # others take it as proof that the store is in reach (see isolation.py), so it must not be old
        return None if self.store.applies_at_once or self.keeper.fresh else "the store has not answered for a while"

    @property
    def cut_off(self) -> bool:
        """Whether the store has been out of reach for a beat; never one in this process, which applies at once."""
        return not self.store.applies_at_once and self.keeper.unreachable_for >= self.settings.cluster.beat

    # -- connections ----------------------------------------------------------------------------------------------

    def begin(
        self,
        peer: Peer,
        identity: Identity,
        *,
        tab: str,
        client: str,
        availability: Availability | None,
        in_flight: bool,
    ) -> None:
        """An authenticated upgrade begins: CONNECTING."""
        session = identity.session or SessionId(f"s_{self._sessions.take()}")
        connection = Connection(
            ConnectionId(peer.claim),
            identity.user,
            session,
            TabId(tab or f"t_{peer.claim}"),
            self.now(),
            info=identity.info,
            client=client,
            availability=availability,
        )
        if availability is None:
            for old in self.roster.of(identity.user):
                if old.tab == connection.tab and old.id in self._asleep:  # what we presumed is not to be inherited
                    connection.availability = self._asleep[old.id] or Availability.ACTIVE
        peer.identity, peer.connection = identity, connection
        self._peer_of[connection.id] = peer
        self.roster.begin(connection, self.monotonic(), in_flight=in_flight)
        if in_flight:
            self.keeper.changed()

    def open(self, peer: Peer) -> None:
        """The upgrade is granted and the socket is there: OPEN; the welcome follows the store's acknowledgement."""
        connection = peer.connection
        assert connection is not None
        try:
            self.roster.open(connection, self.monotonic())
        except LocalMisuse:  # its time ran out, or it was kicked, between the verdict and the socket
            if connection.cause in FINAL_CAUSES:
                peer.close(CloseCode.KICKED, "kicked")
            else:
                peer.close(CloseCode.TRY_AGAIN_LATER, "the upgrade took too long")
            return
        peer.stage = Stage.OPENING
        self.metrics.connects.inc()
        self.log.connection("connection_established", connection, self.roster.active_count(connection.user))
        self._obey()
        self.keeper.when_acknowledged(connection.user, peer.welcome)
        self.keeper.changed()
        if self.draining:  # the upgrade was granted before the drain began
            peer.move()
        elif self.isolation.isolated:
            self.isolation.turn_away(peer)

    def closing(self, peer: Peer, cause: Cause, code: int, *, by_client: bool, reason: str = "") -> None:
        """A close began, on either side; a departure counts at once."""
        connection = peer.connection
        if connection is None or connection.ready is ReadyState.CLOSED:
            return
        was: ReadyState = connection.ready
        now = self.monotonic()
        if cause in FINAL_CAUSES:
            self.roster.depart(connection, cause, now, code, reason)
        elif was is ReadyState.CONNECTING:
            self.roster.refuse(connection, now)
        elif by_client:
            self.roster.close_received(connection, code, now, reason)
        else:
            self.roster.close_sent(connection, cause, code, now, reason)
        self._obey()
        after: ReadyState = connection.ready
        if after is ReadyState.CLOSING and was is ReadyState.OPEN:
            active = self.roster.active_count(connection.user)
            by = "client" if by_client else "server"
            self.log.connection("active_socket_closing", connection, active, by=by, reason=reason)
        elif after is ReadyState.CLOSED and was.active:
            self._closed(connection)
        self.keeper.changed()

    def gone(self, peer: Peer, error: BaseException | None) -> None:
        """TCP has ended."""
        connection = peer.connection
        self.gate.leave(peer.claim)
        if connection is None:
            return
        was_active = connection.ready.active
        # a time-out is the path's own word that nobody answers: a transport's ping (ASGI), or TCP's
        silent = isinstance(error, TimeoutError)
        self.roster.lost(connection, self.monotonic(), Cause.HEARTBEAT_LOST if silent else Cause.ABNORMAL)
        if was_active:
            self._closed(connection)
        self._asleep.pop(connection.id, None)
        if self._peer_of.get(connection.id) is peer:
            del self._peer_of[connection.id]
        active = self.roster.active_count(connection.user)
        self.log.connection("ws_closed", connection, active, error=type(error).__name__ if error else None)
        self.log.connection("connection_cleanup", connection, active)
        self.keeper.changed()

    def refuse(self, peer: Peer) -> None:
        """An upgrade in flight failed."""
        self.gate.leave(peer.claim)
        connection = peer.connection
        if connection is not None:
            self._peer_of.pop(connection.id, None)
            self.roster.refuse(connection, self.monotonic())
            self.keeper.changed()

    def _closed(self, connection: Connection) -> None:
        """The connection counts no longer."""
        self.gate.caps.release(connection.id)
        active = self.roster.active_count(connection.user)
        self.metrics.tell(self.metrics.disconnects, connection.cause or Cause.ABNORMAL, str(connection.code or 1006))
        self.log.connection("active_socket_closed", connection, active)
        if active == 0:
            self.log.connection("user_disconnected", connection, active)

    def disconnect(self, user: UserId, reason: str = "", cause: Cause = Cause.KICKED) -> int:
        """Kick a user: every connection is closed with 4004, and windows end. Returns how many there were."""
        active = {c.id for c in self.roster.of(user) if c.ready.active}
        expelled = self.roster.dismiss(user, cause, self.monotonic(), CloseCode.KICKED, reason[:100])
        for connection in expelled:
            self._expelled(connection, cause, reason, was_active=connection.id in active)
        self.keeper.changed()
        return len(expelled)

    def expel(self, connection: Connection, cause: Cause, *, ago: float, reason: str = "") -> None:
        """Close one connection with 4004; what it ends, ended so many seconds ago."""
        was_active = connection.ready.active
        self.roster.depart(connection, cause, self.monotonic() - ago, CloseCode.KICKED, reason[:100])
        self._expelled(connection, cause, reason, was_active=was_active)
        self.keeper.changed()

    def _expelled(self, connection: Connection, cause: Cause, reason: str, *, was_active: bool) -> None:
        if was_active:
            connection.code = connection.code or CloseCode.KICKED
            self._closed(connection)
        peer = self._peer_of.get(connection.id)
        if peer is not None:
            peer.close(CloseCode.KICKED, reason[:100] or "kicked", cause)
            if peer.socket is None:
                self.refuse(peer)

    async def dismiss(
        self, user: UserId, reason: str, acknowledged: Callable[[], None], cause: Cause = Cause.KICKED
    ) -> int:
        """Kick a user on every node; see :func:`stillhere.server.neighbours.dismiss`."""
        return await neighbours.dismiss(self, user, reason, cause, acknowledged)

    def drop(self, connection: ConnectionId) -> bool:
        """Abort the TCP connection of a peer, as a network would; for demos and tests."""
        peer = self._peer_of.get(connection)
        if peer is not None:
            peer.abort()
        return peer is not None

    def peer(self, connection: ConnectionId) -> Peer | None:
        """The peer that carries a connection."""
        return self._peer_of.get(connection)

    def _obey(self) -> None:
        """Do what the roster wants done to sockets."""
        for order, connection in self.roster.take_orders():
            peer = self._peer_of.get(connection.id)
            if order is Order.SUPERSEDE:
                connection.code = CloseCode.SUPERSEDED
                self._closed(connection)
            if peer is None:
                continue
            if order is Order.SUPERSEDE:
                peer.close(CloseCode.SUPERSEDED, "a newer connection of this tab is open")
            elif order is Order.ABORT:
                self._closed(connection)
                peer.abort()
            else:
                peer.close(CloseCode.TRY_AGAIN_LATER, "the upgrade took too long")
                self.refuse(peer)  # nobody will report the loss of a socket that never was

    # -- what a connection says of itself -------------------------------------------------------------------------

    def state(
        self,
        peer: Peer,
        availability: Availability | None,
        meta: dict[str, Any] | None,
        done: Callable[[], None],
    ) -> None:
        """Availability and metadata; ``done`` when acknowledged."""
        assert peer.connection is not None
        if availability is not None:
            self._asleep.pop(peer.connection.id, None)
        self.roster.state(peer.connection, availability, meta)
        self.keeper.when_acknowledged(peer.connection.user, done)
        self.keeper.changed()

    def join(self, peer: Peer, room: RoomName, meta: dict[str, Any], done: Callable[[], None]) -> None:
        """Be present in a room; ``done`` when the log says so."""
        assert peer.connection is not None
        partition = self.store.partition_of(peer.connection.user)
        self.roster.join(peer.connection, room, meta)
        self.keeper.when_acknowledged(
            peer.connection.user, lambda: self.hub.when_read(partition, self.keeper.acknowledged_at[partition], done)
        )
        self.keeper.changed()

    def leave(self, peer: Peer, room: RoomName, done: Callable[[], None]) -> None:
        """Leave a room; ``done`` when acknowledged."""
        assert peer.connection is not None
        if self.roster.leave(peer.connection, room):
            self.keeper.when_acknowledged(peer.connection.user, done)
            self.keeper.changed()
        else:
            done()

    def page_asleep(self, connection: Connection) -> None:
        """Two probes went unanswered: the page hangs or sleeps, so the connection counts as away."""
        if connection.availability not in (Availability.INVISIBLE, Availability.AWAY):
            self._asleep[connection.id] = connection.availability
            self.roster.state(connection, Availability.AWAY, None)
            self.keeper.changed()

    def page_awake(self, connection: Connection) -> None:
        """The page answers again."""
        if connection.id in self._asleep:
            before = self._asleep.pop(connection.id)
            self.roster.state(connection, before or Availability.ACTIVE, None)
            self.keeper.changed()

    # -- time and figures -----------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """After each tick of the wheel: bound CONNECTING and CLOSING."""
        at = self.roster.next_deadline()
        if at is not None and at <= self.monotonic():
            self.roster.fire(self.monotonic())
            self._obey()
            self.keeper.changed()
        self.keeper.look()

    def statistics(self) -> NodeStatistics:
        """Figures of now."""
        return figures_of(self)
