"""From an upgrade request to a verdict, before anything is answered.

uvicorn hands over a connection together with the head of its request. The gate may answer at once, or make the client
wait; a refusal is a plain HTTP answer, and only a welcome gets as far as the 101. Nothing of this object outlives the
handshake.
"""

from __future__ import annotations

import abc
import asyncio
import inspect
import logging
from collections.abc import Awaitable
from typing import Any, cast

from uvicorn.server import ServerState

from stillhere.server.socket import Gate, Refusal, Verdict, Welcome
from stillhere.transport.head import Refused, encode_refusal, problem, read_head

VERDICT_TIMEOUT = 10.0
"""Default bound of a gate's thinking, in seconds."""

_log = logging.getLogger("stillhere.transport")


def ask(
    gate: Gate, head: bytes, transport: asyncio.BaseTransport, path: str
) -> tuple[Verdict | Awaitable[Verdict], str]:
    """Read the head of a request and ask the gate about it.

    Args:
        gate: who decides.
        head: request line and headers, whole.
        transport: whose request it is.
        path: the only one that is served.

    Returns:
        What the gate says, a refusal where the request cannot become a WebSocket or the gate failed; and the client's
        ``Sec-WebSocket-Key``.
    """
    peer = transport.get_extra_info("peername")
    try:
        request, key = read_head(head, peer[0] if isinstance(peer, tuple) else "", path)
        return gate.greet(request), key
    except Refused as refused:
        return refused.refusal, ""
    except Exception:
        return _failed(), ""


def _failed() -> Refusal:
    """Called while the exception is handled."""
    _log.exception("the gate failed; the client is told so")
    return problem(500, "The server failed to decide about this connection.")


class Handshake(asyncio.Protocol, abc.ABC):
    """Asks the gate about one connection. Subclasses say in :meth:`open` what a welcomed connection becomes.

    Args:
        server_state: uvicorn's, whose set of connections decides when a stop is complete.
        gate: who decides.
        path: the only path that is served.
        verdict_timeout: how long an awaitable verdict may take, in seconds; then 503.
    """

    __slots__ = ("_gate", "_head", "_path", "_state", "_task", "_transport", "_verdict_timeout")

    def __init__(self, server_state: ServerState, gate: Gate, path: str, verdict_timeout: float) -> None:
        self._state = server_state
        self._gate = gate
        self._path = path
        self._verdict_timeout = verdict_timeout
        self._task: asyncio.Task[None] | None = None
        self._head: bytes | None = None

    # What uvicorn and the event loop call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The head, whole, from uvicorn; anything after it comes from a client that did not wait for the 101."""
        if self._head is None:
            self._head = data
            # uvicorn makes us the transport's protocol only after this returns, and what opens must come after that:
            # pause_writing would go to the HTTP protocol otherwise.
            asyncio.get_running_loop().call_soon(self._decide)
        else:
            self._refuse(problem(400, "Data before the 101: a client waits for the answer to its handshake."))

    def eof_received(self) -> None:
        """The client is gone. (No WebSocket client ends its half of TCP and waits for a 101.)"""
        self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._connections.discard(self)

    def shutdown(self) -> None:
        """uvicorn stops."""
        self._refuse(problem(503, "The server is shutting down.", Retry_After="1"))

    # The verdict

    @abc.abstractmethod
    def open(self, welcome: Welcome, key: str) -> None:
        """Turn the connection into a WebSocket.

        Args:
            welcome: the verdict; its endpoint is told of the loss even if this fails.
            key: the client's ``Sec-WebSocket-Key``.
        """

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    @property
    def _connections(self) -> set[Any]:
        return self._state.connections

    def settle(self, verdict: Verdict | Awaitable[Verdict], key: str) -> None:
        """Act on what the gate said, or will say; whatever the client sends meanwhile comes too early.

        Args:
            verdict: the gate's.
            key: the client's ``Sec-WebSocket-Key``.
        """
        self._head = b""  # it holds the token
        if isinstance(verdict, Refusal | Welcome):
            self._conclude(verdict, key)
        else:
            self._task = asyncio.get_running_loop().create_task(self._wait(verdict, key))
            if inspect.iscoroutine(verdict):
                # A task that is cancelled before its first step has never awaited it.
                self._task.add_done_callback(lambda _: verdict.close())

    def _decide(self) -> None:
        if not self._transport.is_closing():
            assert self._head is not None
            self.settle(*ask(self._gate, self._head, self._transport, self._path))

    async def _wait(self, pending: Awaitable[Verdict], key: str) -> None:
        try:
            async with asyncio.timeout(self._verdict_timeout):
                verdict = await pending
        except TimeoutError:
            _log.warning("the gate took longer than %g s; the client is told to come back", self._verdict_timeout)
            self._task = None
            self._refuse(problem(503, "The server could not decide in time.", Retry_After="1"))
            return
        except Exception:
            self._task = None
            self._refuse(_failed())
            return
        self._task = None
        self._conclude(verdict, key)

    def _conclude(self, verdict: Verdict, key: str) -> None:
        # A welcome is opened even where the transport broke a moment ago: its on_lost follows, and undoes it.
        if isinstance(verdict, Refusal):
            self._refuse(verdict)
        else:
            self._connections.discard(self)
            self.open(verdict, key)

    def _refuse(self, refusal: Refusal) -> None:
        self._cancel()
        if not self._transport.is_closing():
            self._transport.write(self._encode(refusal))
            self._transport.close()

    def _encode(self, refusal: Refusal) -> bytes:
        try:
            return encode_refusal(refusal, self._state.default_headers)
        except ValueError:
            _log.exception("the gate's refusal cannot be sent")
            return encode_refusal(problem(500, "The server failed to say why this connection was refused."))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
