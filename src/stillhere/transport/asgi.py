"""WebSockets over ASGI, for any server that speaks it: the same gate, the same endpoints.

ASGI hides TCP, so some promises are weaker here than on the native transport: there are no pings to send, an abort is
the end of the application's coroutine, and what a disconnect was is read from its code (see :func:`read_disconnect`).
Within ``stillhere serve`` uvicorn's implementation is made to keep more of them (:mod:`stillhere.transport.sansio`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, cast

from stillhere.server.socket import Endpoint, Gate, Refusal, UpgradeRequest, Verdict, Welcome
from stillhere.transport.bounds import HIGH_WATER, LOW_WATER, MAX_MESSAGE_BYTES
from stillhere.transport.handshake import VERDICT_TIMEOUT
from stillhere.transport.head import Refused, fold_headers, problem, read_query
from stillhere.transport.message_layer import (
    INTERNAL_ERROR,
    INVALID_TEXT,
    NO_STATUS,
    POLICY_VIOLATION,
    PROTOCOL_ERROR,
    TOO_BIG,
    short_reason,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_UNSENT_BYTES = 1 << 20
"""Default bound of what an endpoint may leave queued; above it the connection is aborted. Where the high-water mark is
high, 32 times that: a node closes slow consumers itself (:data:`stillhere.server.peer.OVERFLOW`), and says why."""

ERROR_KEY = "stillhere.error"
"""In a ``websocket.disconnect``: the exception that TCP ended with. Only our own server adds it."""

_ABNORMAL = 1006
_SERVICE_RESTART = 1012
_VIOLATIONS = frozenset({PROTOCOL_ERROR, INVALID_TEXT, POLICY_VIOLATION, TOO_BIG})
_KEEPALIVE_REASON = "keepalive ping timeout"  # uvicorn's word, in all its implementations

_log = logging.getLogger("stillhere.transport")


class Disconnect:
    """What a ``websocket.disconnect`` says.

    Attributes:
        frame: code and reason of the peer's close frame, if it sent one.
        violation: code and reason with which the server ended the conversation, if the peer broke its rules.
        error: what TCP ended with, if not orderly.
    """

    __slots__ = ("error", "frame", "violation")

    def __init__(
        self,
        *,
        frame: tuple[int, str] | None = None,
        violation: tuple[int, str] | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.frame = frame
        self.violation = violation
        self.error = error

    def __repr__(self) -> str:
        return f"Disconnect(frame={self.frame}, violation={self.violation}, error={self.error!r})"


def read_disconnect(event: Mapping[str, Any]) -> Disconnect:
    """Tell from the code of a ``websocket.disconnect`` how the connection ended.

    The specification gives the codes of RFC 6455 section 7.4 without saying whose they are. What uvicorn does:

    - a close frame: its code and a ``reason``; an empty one: 1005 and a ``reason``;
    - TCP ended without a close frame: 1006, or 1005 *without* a ``reason``;
    - the peer broke the protocol: the code that the server sent, 1002, 1007 or 1009 (a peer that sends these about us
      looks the same);
    - its own stop: 1012; its own ping without an answer: 1011 with a reason of its own, or as an end of TCP.
    """
    code = event.get("code", NO_STATUS)
    reason = event.get("reason")
    error = event.get(ERROR_KEY)
    if error is not None:
        return Disconnect(error=error)
    if code == INTERNAL_ERROR and reason == _KEEPALIVE_REASON:
        return Disconnect(error=TimeoutError(_KEEPALIVE_REASON))
    if code in _VIOLATIONS:
        return Disconnect(violation=(code, reason or ""))
    if code in (_ABNORMAL, _SERVICE_RESTART) or (code == NO_STATUS and reason is None):
        return Disconnect()
    return Disconnect(frame=(code, reason or ""))


class AsgiSocket:
    """One WebSocket: the endpoint's :class:`~stillhere.server.socket.Socket`.

    ``send`` only queues; a task writes what is queued and ends when nothing is, so that an idle connection has none.
    """

    __slots__ = (
        "_aborted",
        "_choked",
        "_closed",
        "_coroutine",
        "_ended",
        "_endpoint",
        "_limits",
        "_mute",
        "_queue",
        "_send",
        "_unsent",
        "_writer",
    )

    def __init__(self, endpoint: Endpoint, send: Send, limits: tuple[int, int, int]) -> None:
        self._endpoint = endpoint
        self._send = send
        self._limits = limits
        self._queue: deque[tuple[Message, int]] = deque()
        self._unsent = 0
        self._choked = False
        self._mute = False  # nothing can be sent any more
        self._closed = False  # because we closed
        self._ended = False  # because the connection has ended
        self._aborted = False  # because we ended it
        self._writer: asyncio.Task[None] | None = None
        # The coroutine of the connection: aborting means waking it from its wait for the next event.
        self._coroutine = cast("asyncio.Task[Any]", asyncio.current_task())

    # What the endpoint calls

    def send(self, frame: bytes) -> None:
        if not self._mute:
            self._push({"type": "websocket.send", "text": frame.decode()}, len(frame))

    def send_binary(self, message: bytes) -> None:
        if not self._mute:
            self._push({"type": "websocket.send", "bytes": message}, len(message))

    def _push(self, event: Message, size: int) -> None:
        _, high, most = self._limits
        self._put(event, size)
        if self._unsent > high and not self._choked:
            self._choked = True
            self._endpoint.on_full()
        if self._unsent > most:
            _log.warning("a connection left %d bytes unsent and is aborted", self._unsent)
            self.abort()

    def ping(self) -> bool:
        return False

    def close(self, code: int, reason: str = "") -> None:
        if not self._mute:
            self._put({"type": "websocket.close", "code": code, "reason": short_reason(reason)}, 0)
            self._mute = self._closed = True

    def abort(self) -> None:
        if not self._ended:
            self.lose()
            self._aborted = True
            self._coroutine.cancel()

    def unsent(self) -> int:
        return self._unsent

    # What the coroutine of the connection calls

    @property
    def closed(self) -> bool:
        """Whether our side has closed the conversation."""
        return self._closed

    @property
    def aborted(self) -> bool:
        return self._aborted

    def lose(self) -> None:
        """The connection is gone: nothing can be sent, and there is nothing left to abort."""
        self._mute = self._ended = True
        self._queue.clear()
        self._unsent = 0

    async def end(self) -> None:
        """As :meth:`lose`, and wait for the writer to end."""
        self.lose()
        writer = self._writer
        if writer is not None:
            writer.cancel()
            await asyncio.wait({writer})

    # Inside

    def _put(self, event: Message, size: int) -> None:
        self._queue.append((event, size))
        self._unsent += size
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        low = self._limits[0]
        try:
            while self._queue:
                event, size = self._queue.popleft()
                await self._send(event)
                self._unsent -= size
                if self._choked and self._unsent <= low:
                    self._choked = False
                    if not self._mute:
                        self._endpoint.on_writable()
        except (OSError, RuntimeError):
            # The peer is gone. The specification promises a disconnect, and that says how.
            self._mute = True
            self._queue.clear()
        except Exception:
            _log.exception("an endpoint failed; its connection is aborted")
            self.abort()
        finally:
            self._writer = None


class AsgiWebSocket:
    """An ASGI application that serves WebSockets, wherever a router mounts it.

    Args:
        gate: decides about every upgrade.
        max_message_bytes: bound of a message; above it 1009. The server has a bound of its own, which should not be
            much above this one.
        high_water: unsent bytes above which ``on_full`` is called.
        low_water: and below which then ``on_writable`` is.
        max_unsent_bytes: unsent bytes above which a connection is aborted; None for the default.
        verdict_timeout: how long the gate may think, in seconds.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        high_water: int = HIGH_WATER,
        low_water: int = LOW_WATER,
        max_unsent_bytes: int | None = None,
        verdict_timeout: float = VERDICT_TIMEOUT,
    ) -> None:
        self._gate = gate
        self._max_message_bytes = max_message_bytes
        self._limits = (low_water, high_water, max_unsent_bytes or max(MAX_UNSENT_BYTES, 32 * high_water))
        self._verdict_timeout = verdict_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise ValueError(f"a scope of type {scope['type']!r}; AsgiWebSocket serves 'websocket' only")
        if (await receive())["type"] != "websocket.connect":
            return
        verdict, pending = await self._verdict(scope, receive)
        if isinstance(verdict, Refusal):
            await _refuse(scope, send, verdict)
        elif verdict is not None:
            await self._serve(verdict, _resume(pending, receive), send)
            return
        if pending is not None:
            pending.cancel()

    async def refuse(self, scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
        """Refuse an upgrade without asking the gate."""
        await receive()
        await _refuse(scope, send, problem(status, detail))

    async def _verdict(self, scope: Scope, receive: Receive) -> tuple[Verdict | None, asyncio.Future[Message] | None]:
        """Ask the gate, and meanwhile watch for the client to leave.

        Returns:
            The verdict, None if the client left; and a call of ``receive`` that is under way, if there is one.
        """
        try:
            answer = self._gate.greet(_read_scope(scope))
        except Refused as refused:
            return refused.refusal, None
        except Exception:
            return _failed(), None
        if isinstance(answer, Refusal | Welcome):
            return answer, None
        return await self._watched(answer, receive)

    async def _watched(
        self, answer: Awaitable[Verdict], receive: Receive
    ) -> tuple[Verdict | None, asyncio.Future[Message] | None]:
        deciding = asyncio.ensure_future(answer)
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({deciding, leaving}, timeout=self._verdict_timeout, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            deciding.cancel()
            leaving.cancel()
            raise
        if not deciding.done():
            deciding.cancel()
            late = problem(503, "The server could not decide in time.", Retry_After="1")
            return (None, None) if leaving.done() else (late, leaving)
        if deciding.cancelled() or deciding.exception() is not None:
            return _failed(deciding), leaving
        return deciding.result(), leaving

    async def _serve(self, welcome: Welcome, receive: Receive, send: Send) -> None:
        endpoint = welcome.endpoint
        socket = AsgiSocket(endpoint, send, self._limits)
        error: BaseException | None = None
        opened = False
        try:
            try:
                await send({"type": "websocket.accept", "subprotocol": welcome.subprotocol})
            except (OSError, RuntimeError) as gone:  # the client left before the accept
                error = gone
                return
            opened = True
            _guarded(socket, endpoint.on_open, socket)
            error = await self._converse(endpoint, socket, receive)
        except asyncio.CancelledError:
            # Cancelled by abort(), or by a server that stops; the latter is its caller's to know.
            if not socket.aborted or _task().uncancel() > 0:
                raise
        finally:
            if not opened:
                endpoint.on_open(socket)  # a welcome is always followed by both calls
            await socket.end()
            endpoint.on_lost(error)

    async def _converse(self, endpoint: Endpoint, socket: AsgiSocket, receive: Receive) -> BaseException | None:
        """Pass on what arrives until the disconnect.

        Returns:
            What TCP ended with, if not orderly.
        """
        while True:
            event = await receive()
            if socket.aborted:
                await asyncio.sleep(0)  # takes the cancellation, which a receive that need not wait does not
            if event["type"] != "websocket.receive":
                break
            if not socket.closed:
                _guarded(socket, self._deliver, endpoint, socket, event)
        end = read_disconnect(event)
        closed_by_us = socket.closed
        socket.lose()
        if end.frame is not None and not closed_by_us:
            _guarded(socket, endpoint.on_close_frame, *end.frame)
        elif end.violation is not None and not closed_by_us:
            _guarded(socket, endpoint.on_violation, *end.violation)
        return end.error

    def _deliver(self, endpoint: Endpoint, socket: AsgiSocket, event: Message) -> None:
        text = event.get("text")
        content: bytes = text.encode() if text is not None else event.get("bytes") or b""
        if len(content) > self._max_message_bytes:
            reason = f"a message of more than {self._max_message_bytes} bytes"
            socket.close(TOO_BIG, reason)
            endpoint.on_violation(TOO_BIG, reason)
        elif text is not None:
            endpoint.on_text(content)
        else:
            endpoint.on_binary(content)


def _guarded(socket: AsgiSocket, call: Callable[..., None], *args: object) -> None:
    """Call an endpoint; its failure ends its own connection, and no other."""
    try:
        call(*args)
    except Exception:
        _log.exception("an endpoint failed; its connection is closed with 1011")
        socket.close(INTERNAL_ERROR, "internal error")


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _read_scope(scope: Scope) -> UpgradeRequest:
    client = scope.get("client")
    headers = fold_headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    query = read_query(scope.get("query_string", b"").decode("latin-1"))
    return UpgradeRequest(scope["path"], query, headers, client[0] if client else "", scope)


def _resume(pending: asyncio.Future[Message] | None, receive: Receive) -> Receive:
    """``receive``, beginning with the call that is under way."""
    if pending is None:
        return receive
    waiting = [pending]

    async def resumed() -> Message:
        return await waiting.pop() if waiting else await receive()

    return resumed


def _failed(deciding: asyncio.Future[Verdict] | None = None) -> Refusal:
    error = True if deciding is None or deciding.cancelled() else deciding.exception()
    _log.error("the gate failed; the client is told so", exc_info=error)
    return problem(500, "The server failed to decide about this connection.")


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})  # servers answer 403
        return
    headers = [(b"content-type", b"application/problem+json")]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers.items()]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": refusal.body})
