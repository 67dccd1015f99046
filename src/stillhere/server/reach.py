"""Where a node can be reached by the others, and how it asks them whether they are ready.

Addresses come out of the store, so they are not trusted: whoever can write there must not be able to make a node call
what it should not. A call is a GET of one fixed path, without credentials; only ``http`` and ``https``; a redirect is
an answer like any other that is not "ready"; a name is resolved once and what it resolves to is checked, since the
addresses of cloud metadata services are link-local; the answer is bounded in size and time, and all that is learned
from it is yes or no. Private addresses are allowed: that is where nodes are.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from functools import cache
from urllib.parse import urlsplit

from stillhere.server.settings import Settings
from stillhere.server.settings_rules import address_problem
from stillhere.store.redis.addresses import parse_address

PATH = "/readyz"

TIMEOUT = 1.0
"""Seconds for a whole question."""

ANSWER_BYTES = 4096
"""An answer that is longer is none of ours."""

_READY = b'{"status":"ready"}'
_WILDCARDS = ("", "0.0.0.0", "::", "[::]")


async def ask_ready(address: str, timeout: float = TIMEOUT) -> bool:
    """Ask a node whether it is ready.

    Args:
        address: its base URL, as it told it.
        timeout: seconds for all of it.

    Returns:
        Whether it said so; False for anything else, silence included.
    """
    if address_problem(address) is not None:
        return False
    try:
        async with asyncio.timeout(timeout):
            return await _ask(address)
    except (OSError, ValueError, asyncio.LimitOverrunError):
        return False


async def _ask(address: str) -> bool:
    parts = urlsplit(address)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    ip = await _resolve(host, port)
    if ip is None:
        return False
    reader, writer = await asyncio.open_connection(
        ip, port, ssl=_tls() if tls else None, server_hostname=host if tls else None
    )
    try:
        path = parts.path.rstrip("/") + PATH
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode("ascii"))
        answer = bytearray()
        while chunk := await reader.read(ANSWER_BYTES):
            answer += chunk
            if len(answer) > ANSWER_BYTES:
                return False
    finally:
        writer.transport.abort()  # everything was read, or nothing more is wanted
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return head.split(b" ", 2)[:2] in ([b"HTTP/1.1", b"200"], [b"HTTP/1.0", b"200"]) and _READY in body


async def _resolve(host: str, port: int) -> str | None:
    """The first address of a host that may be called."""
    try:
        found = [str(ipaddress.ip_address(host))]
    except ValueError:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = [str(info[4][0]) for info in infos]
    return next((ip for ip in found if _may_call(ip)), None)


def _may_call(text: str) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    plain = mapped or ip
    return not (plain.is_link_local or plain.is_multicast or plain.is_unspecified)


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the authorities takes a while."""
    return ssl.create_default_context()


async def own_address(settings: Settings, listener: tuple[str, int] | None = None) -> str:
    """The base URL at which other nodes reach this one.

    ``cluster.address``, if it is set. Else where the node listens; in place of a wildcard, the address with which this
    machine would speak to the store, or else the one that its own name has.

    Args:
        settings: of the node.
        listener: host and port, where they are known better than from the settings.

    Returns:
        The URL without a slash at its end; empty where there is none, and for a store that serves one node.
    """
    if not settings.store.url.lower().startswith("redis"):
        return ""
    if settings.cluster.address is not None:
        return settings.cluster.address.rstrip("/")
    host, port = listener or (settings.server.host, settings.server.port)
    if port == 0:
        return ""
    if host in _WILDCARDS:
        host = await _towards_the_store(settings.store.url) or await _of_this_machine(port) or ""
    if not host:
        return ""
    return f"http://[{host}]:{port}" if ":" in host and not host.startswith("[") else f"http://{host}:{port}"


async def _towards_the_store(url: str) -> str | None:
    """The local address of a packet to the store; none is sent."""
    try:
        store = parse_address(url).hosts[0]
        infos = await asyncio.get_running_loop().getaddrinfo(store.name, store.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, to = infos[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(to)
            found = str(probe.getsockname()[0])
    except (OSError, ValueError, IndexError):
        return None
    return found if _may_call(found) else None


async def _of_this_machine(port: int) -> str | None:
    try:
        return await _resolve(socket.gethostname(), port)
    except OSError:
        return None
