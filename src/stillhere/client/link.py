"""One WebSocket, from its opening to its end, on the ``websockets`` library."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.typing import Subprotocol

from stillhere import __version__
from stillhere.client.outputs import Open
from stillhere.client.protocol import SUBPROTOCOL

_LOG = logging.getLogger("stillhere.client")

MESSAGE_BYTES = 16 * 1024 * 1024
"""The longest message that is taken: a large room's whole state."""

CLOSE = 1.0
"""How long the close of a socket may take, in seconds; a dead path would take for ever."""

USER_AGENT = f"stillhere-python/{__version__}"

_DETAIL = 200


class Heard(Protocol):
    """Who hears what happens on a link; each call bears the attempt that the link was opened for."""

    def on_opened(self, attempt: int, subprotocol: str | None) -> None:
        """The upgrade was granted."""

    def on_refused(self, attempt: int, status: int, detail: str, retry_after: float | None) -> None:
        """It was answered with another HTTP status."""

    def on_not_ours(self, attempt: int, what: str) -> None:
        """Something else than such a server answers."""

    def on_received(self, attempt: int, data: bytes) -> None:
        """A message."""

    def on_ended(self, attempt: int, code: int, reason: str) -> None:
        """It has ended, or could not be opened (1006)."""


class _Connect(websocket_connect):
    """Follows no redirect: the token would go along."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Link:
    """See the module.

    Attributes:
        task: ends with the socket; no exception comes out of it.
    """

    def __init__(
        self,
        heard: Heard,
        wanted: Open,
        before: Link | None,
        *,
        tls: ssl.SSLContext | None,
        proxy: str | Literal[True] | None,
        headers: Mapping[str, str],
    ) -> None:
        """Begin to open it.

        Args:
            heard: who hears of it.
            wanted: what to open.
            before: the socket before, which is given time to end: there is one at a time.
            tls: for ``wss://``; None for the system's certificates.
            proxy: True for the system's, None for none.
            headers: further ones of the upgrade.
        """
        self._heard = heard
        self._wanted = wanted
        self._options: dict[str, Any] = {"proxy": proxy}
        if tls is not None and wanted.url.startswith("wss:"):
            self._options["ssl"] = tls
        self._headers = {**headers, "Authorization": f"Bearer {wanted.token}"}
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._close_with: tuple[int, str] = (1000, "")
        self._open: ClientConnection | None = None
        self._kill: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._run(before), name=f"stillhere socket {wanted.attempt}")

    def send(self, message: bytes) -> None:
        """Send a text message after those before it."""
        self._outgoing.put_nowait(message)

    def close(self, code: int, reason: str) -> None:
        """Send what was said, close, and hear nothing more; a socket that is not open yet never will be."""
        if self._open is None:
            self.task.cancel()
        elif self._kill is None:
            self._close_with = code, reason
            self._outgoing.put_nowait(None)
            self._kill = asyncio.get_running_loop().call_later(CLOSE, self.task.cancel)

    async def _run(self, before: Link | None) -> None:
        attempt = self._wanted.attempt
        if before is not None:
            await asyncio.wait({before.task})
        try:
            socket = await self._dial()
            if socket is None:
                return
            code, reason = await self._live(socket)
        except Exception as error:
            _LOG.exception("the socket failed in a way that nobody thought of")
            code, reason = 1006, f"{type(error).__name__}: {error}"
        self._heard.on_ended(attempt, code, reason)

    async def _dial(self) -> ClientConnection | None:
        """Open it; where that does not succeed, say so and return None."""
        heard, attempt = self._heard, self._wanted.attempt
        try:
            return await _Connect(
                self._wanted.url,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers=self._headers,
                user_agent_header=USER_AGENT,
                compression=None,
                open_timeout=None,  # the machine bounds an attempt as a whole
                ping_interval=None,  # the server pings, and the machine asks when it does not
                close_timeout=CLOSE,
                max_size=MESSAGE_BYTES,
                **self._options,
            )
        except InvalidStatus as refused:
            heard.on_refused(attempt, *_explain(refused))
        except (InvalidProxy, ProxyError) as error:
            heard.on_ended(attempt, 1006, f"the proxy: {error}")
        except InvalidMessage as error:
            # a server that ends in the middle of the upgrade is no stranger
            if isinstance(error.__cause__, EOFError | OSError):
                heard.on_ended(attempt, 1006, "the connection was closed during the upgrade")
            else:
                heard.on_not_ours(attempt, f"what answers does not speak HTTP: {error.__cause__ or error}")
        except (InvalidHandshake, InvalidURI) as error:
            heard.on_not_ours(attempt, f"the upgrade was answered in a way that is no WebSocket's: {error}")
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            heard.on_ended(attempt, 1006, str(error))
        except ssl.SSLError as error:
            heard.on_not_ours(attempt, f"TLS failed: {error}")
        except (OSError, EOFError) as error:
            heard.on_ended(attempt, 1006, str(error) or type(error).__name__)
        return None

    async def _live(self, socket: ClientConnection) -> tuple[int, str]:
        """Until it ends; returns the close code and the reason."""
        attempt = self._wanted.attempt
        self._open = socket
        writer = asyncio.create_task(self._write(socket), name=f"stillhere writer {attempt}")
        try:
            self._heard.on_opened(attempt, socket.subprotocol)
            while True:
                self._heard.on_received(attempt, await socket.recv(decode=False))
        except ConnectionClosed as closed:
            said = closed.rcvd or closed.sent
            return (said.code, said.reason) if said is not None else (1006, "")
        finally:
            if self._kill is not None:
                self._kill.cancel()
            writer.cancel()
            socket.transport.abort()  # nothing, if it has ended by itself
            with suppress(asyncio.CancelledError):
                await writer

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while (message := await self._outgoing.get()) is not None:
                await socket.send(message, text=True)
            await socket.close(*self._close_with)
        except ConnectionClosed:
            pass  # the reader tells


class _Problem(msgspec.Struct):
    detail: str = ""


def _explain(refused: InvalidStatus) -> tuple[int, str, float | None]:
    """Status, detail, and after how many seconds to come back, of an upgrade that was answered with no 101."""
    response = refused.response
    where = response.headers.get("Location")
    body = bytes(response.body or b"")
    try:
        detail = msgspec.json.decode(body, type=_Problem).detail
    except (msgspec.DecodeError, UnicodeDecodeError):
        detail = ""
    if where is not None:
        detail = f"it points to {where[:_DETAIL]}"
    return response.status_code, (detail or response.reason_phrase)[:_DETAIL], retry_after(response.headers)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of ``Retry-After``; None where there are none, or where it is a date."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
