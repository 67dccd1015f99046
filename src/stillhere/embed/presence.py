"""A node inside an application: how it is made, started, mounted and asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from stillhere.core.words import RoomName, Status, UserId
from stillhere.embed.asgi import Application, PresenceApp
from stillhere.embed.callbacks import Callbacks, checked
from stillhere.embed.entry import Authenticate, Entry, RuledAuthenticator
from stillhere.embed.errors import NotRunning
from stillhere.embed.permission import MayWatch, Rule
from stillhere.embed.sync import SyncPresence
from stillhere.embed.transitions import Gap, Listener, News, OnGap, OnTransition, Transition, newest, read
from stillhere.http.answers import Diagnostics
from stillhere.http.diagnostics import diagnose, local_status
from stillhere.server.assembly import make_store
from stillhere.server.node import Admit, Node
from stillhere.server.reach import ask_ready
from stillhere.server.settings import Settings, SettingsError, load_settings
from stillhere.store.contract import StoreError, StoreUnavailable
from stillhere.wire.ids import id_fault

ACKNOWLEDGE = 5.0
"""Seconds that a kick waits for the store."""

_CLOSE_REASON_BYTES = 123  # what a close frame has room for (RFC 6455, section 5.5)

_NO_LOG_IN = (
    "nobody could be told from anybody else: give authenticate=… (your own log-in), or secret=… (for tokens), or "
    "auth.jwks_url or auth.jwks_file in settings"
)

F = TypeVar("F", bound=OnTransition)


class Clock(Protocol):
    """Where the time comes from; for tests, which move it by hand."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; the same as the event loop's ``time()``."""
        ...


class SystemClock:
    """The machine's."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


@dataclass(frozen=True, slots=True)
class RoomMember:
    """One who is in a room.

    Attributes:
        joined_at: Unix seconds.
        info: the public object of the user's identity.
        metas: what each connection says of itself in the room.
    """

    user: str
    status: Status
    joined_at: float
    info: Mapping[str, Any] | None
    metas: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Room:
    """Who is in a room, in the order of their arrival; ``complete`` is False while that cannot be told for sure."""

    name: str
    members: tuple[RoomMember, ...]
    complete: bool


class Presence:
    """A node, and the ASGI application that serves it."""

    def __init__(
        self,
        *,
        store: str = "sqlite:///stillhere.db",
        secret: str | None = None,
        authenticate: Authenticate | None = None,
        may_watch: MayWatch | None = None,
        may_join: MayWatch | None = None,
        admit: Admit | None = None,
        path: str = "/ws",
        settings: Mapping[str, object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare; nothing is opened before :meth:`start` (or the lifespan).

        Args:
            store: ``memory:``, ``sqlite:///file.db``, or one that begins with ``redis``.
            secret: the HMAC secret of the tokens, at least 32 bytes; other keys are in ``settings``.
            authenticate: your own log-in. It is given the request and says who that is: :func:`identity`, a user id, or
                None for nobody (401). Sync ones run in a thread. Where there is a key for tokens as well, a request
                with a token is judged by the token.
            may_watch: whether an identity may watch a user: asked once per connection and user. It decides alone, but
                for oneself.
            may_join: the same for rooms.
            admit: asked after that, with the identity and the request; False refuses with 403.
            path: where WebSockets are served, below the mount.
            settings: any others, by ``section.key``, as in ``{"grace.profile": "fast"}``.
            clock: for tests; see :mod:`stillhere.testing`.

        Raises:
            SettingsError: a setting is wrong, or there is no way to tell who comes in.
            StoreRefused: there is no such store.
            TypeError: an option is of the wrong kind.
        """
        _check_text("store", store, "it must be a URL such as 'sqlite:///presence.db'")
        _check_text("path", path, "it must begin with a slash, as '/ws' does", begin="/")
        self._authenticate = checked("authenticate", authenticate, "request")
        self._may_watch = checked("may_watch", may_watch, "identity", "user")
        self._may_join = checked("may_join", may_join, "identity", "room")
        self._admit = checked("admit", admit, "identity", "request")
        flags: dict[str, object] = {"store.url": store, **(settings or {})}
        if secret is not None:
            flags["auth.secret"] = secret
        self.settings: Settings = load_settings(None, {}, flags)
        if authenticate is None and not self.settings.auth.configured:
            raise SettingsError([_NO_LOG_IN])
        self._path = path
        self._clock = clock or SystemClock()
        self._callbacks = Callbacks(inline=clock is not None)
        self._listeners: list[Listener] = []
        self._news: News | None = None
        self._starting = asyncio.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop on which it runs; None while it does not."""
        self.app = PresenceApp(self)
        """The ASGI application; mount it wherever you like, or give it to a server as it is."""
        self.sync = SyncPresence(self)
        """The same questions for code that cannot await."""
        self.fresh = True
        """Whether it was never started."""
        self._build()

    def _build(self) -> None:
        """A node serves once; after a stop, the next start has a new one."""
        settings, clock = self.settings, self._clock
        tokens = RuledAuthenticator.of(settings.auth, info_bytes=settings.limits.info_bytes)
        assert isinstance(tokens, RuledAuthenticator)
        tokens.watch = self._rule("may_watch", self._may_watch)
        tokens.rooms = self._rule("may_join", self._may_join)
        self.node = Node(
            settings,
            make_store(settings, clock.now),
            authenticator=tokens,
            admit=self._admit,
            now=clock.now,
            monotonic=clock.monotonic,
            ask=ask_ready,
        )
        self._callbacks.count_in(self.node.metrics.registry)
        if self._authenticate is not None:
            entry = Entry(
                tokens,
                self._callbacks,
                self._authenticate,
                knows_tokens=settings.auth.configured,
                timeout=settings.limits.handshake_timeout,
                info_bytes=settings.limits.info_bytes,
                now=clock.now,
            )
            self.node.gate.recognise = entry.recognise
        self.application = Application(self.node, self._path, asks=self._authenticate is not None)

    def _rule(self, name: str, function: MayWatch | None) -> Rule | None:
        if function is None:
            return None
        limits = self.settings.limits
        kept = 2 * max(limits.watch, limits.queries)
        return Rule(name, function, self._callbacks, limits.handshake_timeout, kept, self._clock.monotonic)

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self.loop is not None

    async def start(self) -> None:
        """Open the store and begin. What was stopped may be started again; what runs is left alone.

        Raises:
            StoreRefused: with a sentence for the operator.
            RuntimeError: it runs on another event loop.
        """
        loop = asyncio.get_running_loop()
        if self.loop not in (None, loop):
            raise RuntimeError("the presence runs on another event loop; it can run on one at a time")
        async with self._starting:
            if self.loop is not None:
                return
            if not self.fresh:
                self._build()
            self.fresh = False
            await self.node.start()
            begin = await newest(self.node.store) if self._listeners else None
            self._news = News(self.node)
            self.loop = loop
            for listener in self._listeners:
                listener.start(self._news, self._callbacks, begin)

    async def stop(self) -> None:
        """Close every connection with 1012 and the store after them; windows of ``node_drain`` cover the restart."""
        if self.loop is None:
            return
        ending = [task for listener in self._listeners if (task := listener.stop()) is not None]
        await asyncio.gather(*ending, return_exceptions=True)
        if self._news is not None:
            self._news.end()
        self.loop = self._news = None
        self._starting = asyncio.Lock()  # the next run may be on another loop
        await self.node.stop()
        self._callbacks.close()

    async def drain(self, seconds: float | None = None) -> None:
        """Move everybody away before a stop: announce it, then close over so many seconds (``server.drain_s``)."""
        await self.node.drain(seconds)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """For ``Starlette(lifespan=presence.lifespan)``; a mounted application's own lifespan would not run.

        Args:
            app: your application; where it has a ``state``, the presence is put there for
                :func:`stillhere.embed.get_presence`.
        """
        if hasattr(app, "state"):
            app.state.presence = self
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    # -- questions ------------------------------------------------------------------------------------------------

    async def status(self, user: str) -> Status:
        """What watchers are shown of a user at this moment; ``unknown`` where that cannot be told.

        Raises:
            ValueError: an id that cannot be one.
            NotRunning: it was not started.
        """
        return (await self.statuses([user]))[user]

    async def statuses(self, users: Iterable[str]) -> dict[str, Status]:
        """The same of several users, all at one instant; raises as :meth:`status` does."""
        ids = [_user(user) for user in users]
        node = self._running()
        try:
            snapshot = await node.store.snapshot(ids)
        except StoreError:
            return {user: local_status(node, user) for user in ids}
        return {
            user: local_status(node, user) if user in snapshot.unknown else snapshot.users[user].status for user in ids
        }

    async def room(self, name: str) -> Room:
        """Who is in a room; nobody in one that there is not.

        Raises:
            ValueError: a name that cannot be one.
            StoreError: the store is out of reach.
            NotRunning: it was not started.
        """
        if (fault := id_fault(name)) is not None:
            raise ValueError(f"the room name {name[:40]!r} {fault}")
        there = await self._running().store.room(RoomName(name))
        members = sorted(there.members.items(), key=lambda member: (member[1].joined_at, member[0]))
        return Room(
            name,
            tuple(
                RoomMember(user, m.status, m.joined_at, m.info, tuple(meta for _, meta in m.metas))
                for user, m in members
            ),
            there.complete,
        )

    async def diagnostics(self, user: str) -> Diagnostics:
        """All that is known of a user at this moment, as ``/v1/users/{user}/diagnostics`` tells it; changes nothing.

        Raises:
            ValueError: an id that cannot be one.
            NotRunning: it was not started.
        """
        return await diagnose(self._running(), _user(user))

    async def disconnect(self, user: str, reason: str = "") -> int:
        """Kick a user, on every node: each connection is closed with 4004, and the user is offline at once.

        Args:
            user: whom.
            reason: for the close frame, cut to the 123 bytes that fit there.

        Returns:
            How many connections there were.

        Raises:
            ValueError: an id that cannot be one.
            StoreError: the connections here are closed, but the store has not acknowledged it.
            NotRunning: it was not started.
        """
        acknowledged = asyncio.Event()
        text = reason.encode()[:_CLOSE_REASON_BYTES].decode(errors="ignore")
        count = await self._running().dismiss(_user(user), text, acknowledged.set)
        try:
            async with asyncio.timeout(ACKNOWLEDGE):
                await acknowledged.wait()
        except TimeoutError:
            raise StoreUnavailable(f"{count} connections were closed; the store has not acknowledged it") from None
        return count

    # -- news -----------------------------------------------------------------------------------------------------

    async def transitions(self, after: str | None = None) -> AsyncIterator[Transition | Gap]:
        """Every transition of the whole installation, in order, until the presence is stopped.

        Args:
            after: the ``cursor`` of the last one that you have dealt with, also of a former run; None: begin now.

        Yields:
            Transitions; and a :class:`Gap` where the log no longer reaches back: what you know may be out of date.

        Raises:
            ValueError: a cursor that is none.
            NotRunning: it was not started.
        """
        self._running()
        assert self._news is not None
        async for told in read(self._news, after):
            yield told

    def on_transition(self, callback: F, *, on_gap: OnGap | None = None) -> F:
        """Call this, sync or async, with every transition from now on, or from the start on; may be a decorator.

        Each callback is told one transition after the other, at its own pace. What it raises is logged and counted.

        Args:
            callback: given a :class:`Transition`.
            on_gap: given a :class:`Gap`, where the callback was so slow that some could not be told.

        Raises:
            TypeError: it cannot be called like this.
        """
        checked("on_transition", callback, "transition")
        listener = Listener(callback, checked("on_gap", on_gap, "gap"))
        self._listeners.append(listener)
        if self._news is not None:
            listener.start(self._news, self._callbacks)
        return callback

    def off_transition(self, callback: OnTransition) -> None:
        """Call it no more."""
        for listener in [one for one in self._listeners if one.on_transition == callback]:
            self._listeners.remove(listener)
            listener.stop()

    def _running(self) -> Node:
        if self.loop is None:
            raise NotRunning(
                "the presence does not run: give presence.lifespan to your application, or await presence.start()"
            )
        return self.node


def _check_text(name: str, value: object, right: str, *, begin: str = "") -> None:
    if not isinstance(value, str) or not value.startswith(begin):
        raise TypeError(f"{name} is {value!r:.80}; {right}")


def _user(user: str) -> UserId:
    if (fault := id_fault(user)) is not None:
        raise ValueError(f"the user id {user[:40]!r} {fault}")
    return UserId(user)


__all__ = ["Clock", "Presence", "Room", "RoomMember"]
