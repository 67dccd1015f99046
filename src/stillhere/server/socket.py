"""The seam between a node and whatever carries its WebSockets.

A transport hands an upgrade to a :class:`Gate` and gets an :class:`Endpoint` or a refusal; from then on it calls the
endpoint, and the endpoint calls the :class:`Socket`. Everything is synchronous and runs on the node's event loop:
nothing here awaits, so no state change can be torn in two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import msgspec

SUBPROTOCOL = "stillhere.v1"


class UpgradeRequest(msgspec.Struct, frozen=True):
    """What a client asked for: the head of its request, parsed."""

    path: str
    """Decoded path without the query."""
    query: Mapping[str, str]
    """Decoded query parameters; of a repeated one, the last."""
    headers: Mapping[str, str]
    """Lower-case names; of a repeated header, the values joined with ``, ``."""
    remote: str
    """The peer's IP address as text, or an empty string where the transport does not know it."""
    scope: Mapping[str, Any] = {}
    """The ASGI scope, where there is one: what an application's own middleware has put there, as its session."""


class Refusal(msgspec.Struct, frozen=True):
    """The upgrade is refused, with a plain HTTP answer before any 101."""

    status: int
    body: bytes
    """A problem document (RFC 9457)."""
    headers: Mapping[str, str] = {}
    """Beside ``Content-Type: application/problem+json``, which the transport adds."""


class Welcome(msgspec.Struct, frozen=True):
    """The upgrade is granted."""

    endpoint: Endpoint
    subprotocol: str | None
    """What to select in ``Sec-WebSocket-Protocol``, if anything."""


Verdict = Refusal | Welcome


class Gate(Protocol):
    """Decides about upgrades."""

    def greet(self, request: UpgradeRequest) -> Verdict | Awaitable[Verdict]:
        """Answer at once where that is possible; an awaitable means "keep the head, the answer follows".

        A transport whose client goes away while it waits cancels the awaitable.
        """
        ...


class Socket(Protocol):
    """What an endpoint may do to its WebSocket. No call blocks; none raises once the socket is gone."""

    def send(self, frame: bytes) -> None:
        """Send one text message: UTF-8, already encoded, the same object for every receiver of a broadcast."""
        ...

    def send_binary(self, message: bytes) -> None:
        """Send one binary message. The native protocol has none."""
        ...

    def ping(self) -> bool:
        """Send a protocol ping; the answer arrives as :meth:`Endpoint.on_heard`.

        Returns:
            False where the transport has no pings of its own to send (then it watches the path itself).
        """
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, once; later calls do nothing.

        The transport then waits for the peer's close frame, lingers until TCP has ended, and reports
        :meth:`Endpoint.on_lost`. It does not bound that wait: the endpoint calls :meth:`abort`.
        """
        ...

    def abort(self) -> None:
        """Drop the transport now; :meth:`Endpoint.on_lost` follows."""
        ...

    def unsent(self) -> int:
        """Bytes accepted by :meth:`send` that the operating system has not yet taken."""
        ...


class Endpoint(Protocol):
    """What a transport tells. Calls come in the order of the wire; after :meth:`on_lost` none comes.

    None but :meth:`on_full` is made from within a call of the endpoint to its socket.
    """

    def on_open(self, socket: Socket) -> None:
        """The 101 is written; ``socket`` may be used from now on."""
        ...

    def on_text(self, message: bytes) -> None:
        """A whole text message, valid UTF-8, within the size bound."""
        ...

    def on_binary(self, message: bytes) -> None:
        """A whole binary message, within the size bound."""
        ...

    def on_heard(self) -> None:
        """A pong, or a ping that the transport answered itself: the path is alive."""
        ...

    def on_close_frame(self, code: int, reason: str) -> None:
        """The peer's close frame (code 1005 for an empty one). The transport answers it by itself."""
        ...

    def on_violation(self, code: int, reason: str) -> None:
        """The peer broke RFC 6455 or the size bound; the transport has sent ``code`` and is closing."""
        ...

    def on_lost(self, error: BaseException | None) -> None:
        """TCP has ended, always called exactly once after :meth:`on_open`.

        Args:
            error: what the operating system said (a reset, a time-out), or None for an orderly end.
        """
        ...

    def on_full(self) -> None:
        """The unsent bytes rose above the transport's high-water mark; may be called from within ``send``."""
        ...

    def on_writable(self) -> None:
        """The unsent bytes fell below the transport's low-water mark after having been above the high one."""
        ...
