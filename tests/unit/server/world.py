"""A real node on a loop whose clock is moved by waiting: nothing sleeps, nothing is simulated but the sockets.

The loop is asyncio's own; only its selector does not wait: where nothing is ready it moves the clock to the next
timer. So a test says ``await world.pass_time(30)`` and everything that a node does in half a minute happens at once, in
order. Clients enter through ``node.greet`` as a transport's do, and keep what they are sent.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Union, cast

import msgspec

from stillhere.core.words import UserId
from stillhere.server.auth import Authenticator, mint
from stillhere.server.eventlog import EventLog
from stillhere.server.isolation import Ask
from stillhere.server.node import Admit, Node
from stillhere.server.peer import Peer
from stillhere.server.settings import Settings, load_settings
from stillhere.server.socket import Refusal, UpgradeRequest, Verdict, Welcome
from stillhere.wire.messages import SERVER_MESSAGES
from tests.unit.server.clockwork import Clock, Loop, TroubledStore

SECRET = "a secret of forty bytes, for tests only.."
HOST = "here.test:7400"

_reader: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[SERVER_MESSAGES])  # noqa: UP007 - of a tuple


class Client:
    """A client behind a transport: the endpoint's socket, and what a test does with it."""

    def __init__(self, world: World, endpoint: Peer, token: str) -> None:
        self.world = world
        self.peer = endpoint
        self.token = token
        self.raw: list[bytes] = []
        """Every frame that was sent."""
        self.closed: tuple[int, str] | None = None
        """Code and reason of the server's close frame."""
        self._aborted = False
        self.lost = False
        self.pings = 0
        self.has_pings = True
        """Whether the transport can send pings."""
        self.answers_pings = True
        self._over = False
        """Whether the conversation is over: whatever the server sends or closes then does nothing."""
        self.polite = True
        """Answers a close frame, and then ends TCP."""
        self.capacity: int | None = None
        """Unsent bytes above which the transport is full; None: everything is taken at once."""
        self._unsent = 0
        self._full = False
        self._taken = 0

    # -- the socket: what the endpoint calls ----------------------------------------------------------------------

    def send_binary(self, message: bytes) -> None:
        raise AssertionError("the native protocol has no binary messages")

    def send(self, frame: bytes) -> None:
        if self.closed is not None or self._over or self._aborted:
            return
        _reader.decode(frame)
        self.raw.append(frame)
        if self.capacity is None:
            return
        self._unsent += len(frame)
        if self._unsent > self.capacity and not self._full:
            self._full = True
            self.peer.on_full()

    def ping(self) -> bool:
        if not self.has_pings:
            return False
        self.pings += 1
        if self.answers_pings:
            self.world.loop.call_soon(self._pong)
        return True

    def close(self, code: int, reason: str = "") -> None:
        if self.closed is None and not self._over and not self._aborted:
            self.closed = int(code), reason
            if self.polite:
                self.world.loop.call_soon(self._answer_close)

    def abort(self) -> None:
        self._aborted = True
        self.world.loop.call_soon(self._end, None)

    def unsent(self) -> int:
        return self._unsent

    def _pong(self) -> None:
        if not self.lost:
            self.peer.on_heard()

    def _answer_close(self) -> None:
        if not self.lost and self.closed is not None:
            self.leave(self.closed[0])

    def _end(self, error: BaseException | None) -> None:
        if not self.lost:
            self.lost = self._over = True
            self.peer.on_lost(error)

    # -- what a test does -----------------------------------------------------------------------------------------

    def say(self, type: str, **fields: Any) -> None:
        """Send a message."""
        self.write(json.dumps({"type": type, **fields}).encode())

    def write(self, message: bytes) -> None:
        """Send a text message as it is."""
        if not self.lost:
            self.peer.on_text(message)

    async def ask(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        """Send a message and return all that comes until nothing does."""
        self.take()
        self.say(type, **fields)
        await self.world.settle()
        return self.take()

    def leave(self, code: int = 1001) -> None:
        """Close as a browser does: close frame, then the end of TCP."""
        self.close_frame(code)
        self._end(None)

    def close_frame(self, code: int, reason: str = "") -> None:
        """Send a close frame; the transport answers it by itself."""
        self._over = True
        self.peer.on_close_frame(code, reason)

    def violate(self, code: int, reason: str) -> None:
        """Break the protocol: the transport has closed with this code."""
        self._over = True
        self.peer.on_violation(code, reason)

    def drop(self, error: BaseException | None = None) -> None:
        """End TCP without a close frame."""
        self._end(error)

    def drain(self) -> None:
        """Take all that is unsent."""
        self._unsent = 0
        if self._full:
            self._full = False
            self.peer.on_writable()

    @property
    def frames(self) -> list[dict[str, Any]]:
        """All messages so far."""
        return [json.loads(frame) for frame in self.raw]

    def take(self) -> list[dict[str, Any]]:
        """The messages since the last call."""
        taken, self._taken = self.raw[self._taken :], len(self.raw)
        return [json.loads(frame) for frame in taken]

    def of(self, type: str) -> list[dict[str, Any]]:
        """All messages of one type."""
        return [frame for frame in self.frames if frame["type"] == type]

    def code(self) -> int | None:
        """The code of the server's close frame."""
        return None if self.closed is None else self.closed[0]

    def aborted(self) -> bool:
        """Whether the server has dropped the transport."""
        return self._aborted

    def congested(self) -> bool:
        """Whether the server folds what this client follows."""
        return self.peer.congested

    def ready(self) -> str:
        """The ready state of the connection."""
        assert self.peer.connection is not None
        return self.peer.connection.ready.value

    @property
    def user(self) -> str | None:
        """The connection's user, once it has one."""
        return None if self.peer.connection is None else self.peer.connection.user

    @property
    def id(self) -> str:
        """The connection's id."""
        assert self.peer.connection is not None
        return self.peer.connection.id


class View:
    """What a client makes of what it is sent, by the rules of the protocol."""

    def __init__(self, client: Client) -> None:
        self.users: dict[str, tuple[int, str]] = {}
        """Version and status."""
        self.rooms: dict[str, dict[str, tuple[int, str]]] = {}
        self.history: list[tuple[str, str]] = []
        """User and status, of every change that was taken."""
        for frame in client.frames:
            self._apply(frame)

    def _apply(self, frame: dict[str, Any]) -> None:
        for user in frame.get("users", frame.get("changes", ())):
            if user["status"] != "unknown" and user["version"] > self.users.get(user["user"], (-1, ""))[0]:
                self.users[user["user"]] = user["version"], user["status"]
                self.history.append((user["user"], user["status"]))
        if frame["type"] == "room":
            room = self.rooms.setdefault(frame["room"], {})
            if "members" in frame:
                room.clear()
            for member in frame.get("leaves", ()):
                room.pop(member["user"], None)
            for member in (*frame.get("members", ()), *frame.get("joins", ()), *frame.get("updates", ())):
                if member["version"] > room.get(member["user"], (-1, ""))[0]:
                    room[member["user"]] = member["version"], member["status"]


class World:
    """One node, its store, its clients and its log."""

    def __init__(
        self,
        clock: Clock,
        flags: Mapping[str, object] | None = None,
        *,
        application: Callable[[], Admit] | None = None,
        log_kept: int = 20_000,
        authenticator: Authenticator | None = None,
        ask: Callable[[], Ask] | None = None,
    ) -> None:
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.settings: Settings = load_settings(
            None, {}, {"auth.secret": SECRET, "auth.leeway_ms": 0, "server.node": "n1", **(flags or {})}
        )
        self.store = TroubledStore(clock, policy=self.settings.grace.policy, log_kept=log_kept)
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.broken: list[dict[str, Any]] = []
        """What the loop's exception handler was told."""
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))
        self.node = Node(
            self.settings,
            self.store,
            authenticator=authenticator or Authenticator.of(self.settings.auth),
            admit=application() if application is not None else None,
            now=clock.now,
            monotonic=clock.monotonic,
            log=EventLog("n1", _logger(self.log)),
            ask=ask() if ask is not None else None,
        )
        self.clients: list[Client] = []

    async def settle(self, turns: int = 12) -> None:
        """Let the loop turn until what was said is answered; no time passes."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """Wait on the world's clock."""
        await asyncio.sleep(seconds)
        await self.settle()

    def token(self, user: str, *, ttl: float = 3600.0, **claims: Any) -> str:
        """A token that allows everything, where the claims do not say otherwise."""
        claims = {"watch": "*", "rooms": "*", **claims}
        return mint(SECRET, user, now=self.clock.now(), ttl=ttl, **claims)

    def request(
        self,
        token: str | None,
        *,
        tab: str = "",
        ip: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> UpgradeRequest:
        """What a browser sends."""
        protocols = "stillhere.v1" if token is None else f"stillhere.v1, bearer.{token}"
        all_headers = {"host": HOST, "origin": f"http://{HOST}", "sec-websocket-protocol": protocols, **(headers or {})}
        return UpgradeRequest("/ws", {**({"tab": tab} if tab else {}), **(query or {})}, all_headers, ip)

    def greet(self, user: str | None, **options: Any) -> Verdict | Awaitable[Verdict]:
        """Ask for an upgrade; the options are those of :meth:`token` and :meth:`request`."""
        return self.node.greet(self._request(user, options)[0])

    def open(self, verdict: Verdict, token: str = "") -> Client:
        """Write the 101."""
        assert isinstance(verdict, Welcome), verdict
        client = Client(self, cast(Peer, verdict.endpoint), token)
        self.clients.append(client)
        client.peer.on_open(client)
        return client

    async def connect(self, user: str | None, **options: Any) -> Client:
        """Upgrade, open and wait for the welcome. ``user`` None: without a token."""
        request, token = self._request(user, options)
        verdict = self.node.greet(request)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        client = self.open(verdict, token or "")
        await self.settle()
        return client

    async def refused(self, user: str | None, **options: Any) -> Refusal:
        """Upgrade, and be refused."""
        verdict = self.greet(user, **options)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        assert isinstance(verdict, Refusal), verdict
        return verdict

    def _request(self, user: str | None, options: dict[str, Any]) -> tuple[UpgradeRequest, str | None]:
        named = {name: options[name] for name in ("tab", "ip", "query", "headers") if name in options}
        claims = {name: value for name, value in options.items() if name not in named and name != "token"}
        token = options.get("token") or (None if user is None else self.token(user, **claims))
        return self.request(token, **named), token

    # -- what there is to see -------------------------------------------------------------------------------------

    def shown(self, user: str) -> str:
        """The status that the store shows of a user."""
        return self.store.ledger.shown(UserId(user)).status.value

    def events(self, *names: str) -> list[str]:
        """The names of the log's events so far; only these, if any are named."""
        return [event for event, _ in self.log if not names or event in names]

    def fields(self, name: str) -> dict[str, Any]:
        """The fields of the last event of this name."""
        return next(fields for event, fields in reversed(self.log) if event == name)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 where there is none."""
        return self.node.metrics.registry.get_sample_value(name, labels) or 0.0

    def leftovers(self) -> dict[str, object]:
        """What a node still holds, by name; empty after everybody is gone."""
        node = self.node
        held: dict[str, object] = {
            "peers": node.peers,
            "peer_of": node._peer_of,
            "asleep": node._asleep,
            "roster": node.roster.connections,
            "people": node.roster.users(),
            "claims": list(node.gate.caps._members),
            "claims of users": node.gate.caps._users,
            "claims of addresses": node.gate.caps._ips,
            "topics": [*node.hub.users, *node.hub.rooms],
            "look-ups": [*node.hub._waiting, *node.hub._wanted, *node.hub._dirty, *filter(None, node.hub._later)],
            "acknowledgements": node.keeper._waiting,
            "riders": [rider for slot in node.wheel._slots for rider in slot],
        }
        return {name: value for name, value in held.items() if value}


Script = Callable[..., Awaitable[None]]


def live(script: Callable[[World], Awaitable[None]], flags: Mapping[str, object] | None = None, **options: Any) -> None:
    """Run a script in a new world, and look for what went wrong unseen."""
    clock = Clock()
    with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
        runner.run(_live(clock, script, flags, options))


async def _live(
    clock: Clock, script: Callable[[World], Awaitable[None]], flags: Mapping[str, object] | None, options: Any
) -> None:
    world = World(clock, flags, **options)
    await world.node.start()
    await script(world)
    world.store.release()
    world.store.failing = world.store.unreadable = False
    await world.node.stop()
    await world.settle()
    assert not world.broken, world.broken
    assert world.node.tasks.failed is None


def lived(flags: Mapping[str, object] | None = None, **options: Any) -> Callable[[Script], Callable[..., None]]:
    """Make a test of a coroutine function whose first parameter is the world.

    Args:
        flags: settings, as from a command line.
        options: further arguments of :class:`World`.
    """

    def decorate(script: Script) -> Callable[..., None]:
        def test(**arguments: Any) -> None:
            live(lambda world: script(world, **arguments), flags, **options)

        signature = inspect.signature(script)
        vars(test)["__signature__"] = signature.replace(parameters=list(signature.parameters.values())[1:])
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(test, name, getattr(script, name))
        return test

    return decorate


def _logger(into: list[tuple[str, dict[str, Any]]]) -> logging.Logger:
    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            into.append((record.getMessage(), vars(record)["fields"]))

    logger = logging.Logger("presence", logging.INFO)  # noqa: LOG001 - this world's own
    logger.addHandler(Keep())
    return logger
