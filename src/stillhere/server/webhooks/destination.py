"""Where a hook posts to, and to which addresses it must not connect.

A URL of a webhook is chosen by whoever configures it, what its name resolves to by whoever runs that name's DNS. So the
addresses are judged **after** resolution, and the connection is made to one that was judged: a name that resolves to
something else a moment later (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Sequence[str]]
"""From a host and a port to addresses; blocks."""

_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
        192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
        203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
        ::/96 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16
        2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8""".split(),
    )
)
"""IANA's special-purpose registries (RFC 6890), multicast, and what carries an IPv4 address inside an IPv6 one:
mapped, compatible, NAT64, 6to4 and Teredo. Written out, since Python's own tables differ from release to release."""


_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Unacceptable(Exception):
    """A destination that must not be connected to, or has no address; the text says why."""


class Destination(NamedTuple):
    """A URL, taken apart."""

    secure: bool
    host: str
    port: int
    authority: str
    """For the ``Host`` header."""
    target: str
    """Path and query."""
    shown: str
    """The URL without its query, which may hold a key."""


def parse_destination(url: str) -> Destination:
    """Take a URL apart that :func:`stillhere.server.settings_rules.url_problem` has nothing to say against."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = (parts.hostname or "").partition("%")[0]
    if not host.isascii():
        host = host.encode("idna").decode()
    usual = 443 if secure else 80
    port = parts.port or usual
    name = f"[{host}]" if ":" in host else host
    authority = name if port == usual else f"{name}:{port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~")
    shown = f"{parts.scheme}://{authority}{path}" + ("?…" if query else "")
    return Destination(secure, host, port, authority, path + (f"?{query}" if query else ""), shown)


def is_special(address: Address) -> bool:
    """Whether an address is of a network that is not the public Internet, or leads into one."""
    return any(address in network for network in _SPECIAL)


def acceptable(address: str, *, secure: bool, loopback: bool) -> bool:
    """Whether a hook may connect to an address.

    Args:
        address: as it was resolved.
        secure: with TLS; plain HTTP goes to loopback only.
        loopback: whether the settings allow loopback.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if loopback and any(parsed in network for network in _LOOPBACK):
        return True
    return secure and not is_special(parsed)


def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, by the system; in their order of preference, each once.

    Raises:
        OSError, UnicodeError: there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


class Resolver:
    """Looks up one destination. All who ask meanwhile share the look-up under way; nothing is kept after it."""

    def __init__(self, destination: Destination, *, loopback: bool, look_up: LookUp = look_up) -> None:
        """Prepare; nothing is looked up yet.

        Args:
            destination: whose host.
            loopback: whether loopback is allowed.
            look_up: asks the system.
        """
        self._destination = destination
        self._loopback = loopback
        self._look_up = look_up
        self._under_way: asyncio.Future[Sequence[str]] | None = None

    async def addresses(self) -> list[str]:
        """The addresses that may be connected to.

        Raises:
            Unacceptable: there are none.
        """
        to = self._destination
        if self._under_way is None:
            self._under_way = self._begin()
        try:
            # shielded: one who waits no longer must not call it off for the others
            found = await asyncio.shield(self._under_way)
        except (OSError, UnicodeError) as error:
            raise Unacceptable(f"{to.host} cannot be resolved: {getattr(error, 'strerror', None) or error}") from None
        good = [a for a in found if acceptable(a, secure=to.secure, loopback=self._loopback)]
        if not good:
            only = "a public address" if to.secure else "loopback"
            raise Unacceptable(f"{to.host} resolves to {', '.join(found[:3]) or 'nothing'}, and {only} is needed")
        return good

    def _begin(self) -> asyncio.Future[Sequence[str]]:
        """Look up in a thread of its own: one that hangs keeps nobody else waiting, and the process not from ending."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        answer.add_done_callback(lambda done: done.exception())  # whoever asked may have gone

        def tell(found: Sequence[str] | None, error: Exception | None) -> None:
            self._under_way = None
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or ())

        def run() -> None:
            found, failed = None, None
            try:
                found = self._look_up(self._destination.host, self._destination.port)
            except (OSError, UnicodeError) as error:
                failed = error
            except Exception as error:  # a thread that ended silently would leave all who wait without an answer
                failed = OSError(f"{type(error).__name__}: {error}")
            try:
                loop.call_soon_threadsafe(tell, found, failed)
            except RuntimeError:
                pass  # the loop has been closed: nobody waits any more

        threading.Thread(target=run, name="webhook-lookup", daemon=True).start()
        return answer
