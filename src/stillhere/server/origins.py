"""Where a request comes from: the page (``Origin``, ``Host``) and the address (``X-Forwarded-For``).

A WebSocket is not bound by the same-origin policy: any page may open one to any host. What keeps a strange page out
is this check, on parsed origins, never on text that merely ends alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from encodings import idna
from functools import lru_cache
from typing import NamedTuple

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_SCHEME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+-.")
# Letters that IDNA 2003 (Python's) and browsers map differently: written out, they could name another site.
_DEVIATIONS = "ßẞς\u200c\u200d"


_REMEMBERED = 256
"""So many requests that were allowed, by origin and host."""


class Origin(msgspec.Struct, frozen=True):
    """A parsed origin: lower case, punycode, no trailing dot, the port always said where the scheme has one."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        shown = self.port is not None and self.port != _DEFAULT_PORTS.get(self.scheme)
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if shown else "")


class Decision(NamedTuple):
    """Whether a request may come in, and why, as a sentence for the log and for the refusal."""

    allowed: bool
    reason: str


@lru_cache(maxsize=1024)  # nearly all clients come from the same few pages
def parse_origin(text: str) -> Origin:
    """Parse ``scheme://host[:port]``, and nothing else.

    Raises:
        ValueError: it is not an origin; the message says what is wrong with it, without the text itself.
    """
    if len(text) > 512:
        raise ValueError("it is longer than 512 characters")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not scheme or not scheme[0].isalpha() or not _SCHEME_CHARS.issuperset(scheme):
        raise ValueError("it does not begin with a scheme such as https://")
    if "/" in rest or "?" in rest or "#" in rest:
        raise ValueError("an origin has no path: nothing may follow the host and port")
    if "@" in rest:
        raise ValueError("an origin has no user or password")
    host, port = _host_and_port(rest)
    return Origin(scheme, host, port if port is not None else _DEFAULT_PORTS.get(scheme))


@lru_cache(maxsize=1024)
def _host_and_port(text: str) -> tuple[str, int | None]:
    """Split and normalise ``host[:port]``; raises ValueError like :func:`parse_origin`."""
    if text.startswith("["):
        inner, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError("its IPv6 address is not closed with ]")
        try:
            if "%" in inner:
                raise ValueError
            host = f"[{ipaddress.IPv6Address(inner)}]"
        except ValueError:
            raise ValueError("its host is not an IPv6 address") from None
        return host, _port(tail[1:]) if tail else None
    name, colon, digits = text.partition(":")
    return normal_host(name), _port(digits) if colon else None


def _port(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or not 1 <= int(digits) <= 65535:
        raise ValueError("its port is not a number from 1 to 65535")
    return int(digits)


def normal_host(name: str) -> str:
    """A host name in the one form in which names are compared: lower case, punycode, no trailing dot.

    Raises:
        ValueError: it is not a host name.
    """
    name = name.removesuffix(".")
    if not name.isascii():
        if any(letter in _DEVIATIONS for letter in name):
            raise ValueError("its host has a letter that browsers and Python encode differently: write its xn-- form")
        try:
            name = ".".join(idna.ToASCII(label).decode() for label in name.split("."))
        except UnicodeError:
            raise ValueError("its host cannot be written in punycode") from None
    name = name.lower()
    if not name or len(name) > 253 or not _HOST_CHARS.issuperset(name):
        raise ValueError("its host is not a host name")
    if any(not 1 <= len(label) <= 63 for label in name.split(".")):
        raise ValueError("its host has an empty label or one of more than 63 characters")
    return name


class _Wildcard(NamedTuple):
    scheme: str
    suffix: str
    """With its leading dot, so that ``any-example.com`` is not under ``example.com``."""
    port: int | None


def _parse_allowed(entry: str) -> Origin | _Wildcard:
    """Parse an entry of the allow-list; raises ValueError with a whole sentence."""
    wildcard = "://*." in entry
    try:
        if entry == "*":
            raise ValueError("it would let every site in; list the sites, or write https://*.example.com")
        if entry.lower() == "null":
            raise ValueError("any sandboxed frame and local file has this origin, so it says nothing")
        origin = parse_origin(entry.replace("://*.", "://", 1))
        if wildcard and (_is_address(origin.host) or ("." not in origin.host and origin.host != "localhost")):
            raise ValueError("a wildcard needs at least two labels after it, as in https://*.example.com")
    except ValueError as error:
        raise ValueError(f"{entry[:128]!r} cannot be an allowed origin: {error}") from None
    return _Wildcard(origin.scheme, f".{origin.host}", origin.port) if wildcard else origin


def _is_address(host: str) -> bool:
    """Whether a normalised host is an IP address: such a host cannot be rebound by DNS."""
    if host.startswith("["):
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


class OriginPolicy:
    """Which pages may connect.

    With an allow-list: the origins on it, and no others (the server's own pages too must be on it). Without one: only
    pages that this server served itself, that is, whose origin has the host and port of the ``Host`` header. In both
    cases a client that sends no ``Origin`` (no browser omits it) must bring a bearer token with the request.
    """

    def __init__(self, allowed: Iterable[str] = (), hosts: Iterable[str] = ()) -> None:
        """Take the settings ``origins.allowed`` and ``origins.hosts``.

        Args:
            allowed: exact origins, or ``https://*.example.com`` for every name below ``example.com`` (not itself).
            hosts: names under which this server is reached. Where given, a ``Host`` outside of it is refused: a
                page whose name is made to point here (DNS rebinding) has an origin that equals its ``Host``. Addresses
                and ``localhost`` are always trusted: they cannot be rebound.

        Raises:
            ValueError: an entry that is none; the message names it.
        """
        parsed = [_parse_allowed(entry) for entry in allowed]
        self._exact = frozenset(entry for entry in parsed if isinstance(entry, Origin))
        self._wildcards = tuple(entry for entry in parsed if isinstance(entry, _Wildcard))
        self._hosts = frozenset(self._trusted(host) for host in hosts)
        self._let_in: dict[tuple[str | None, str | None, bool], Decision] = {}
        """What was allowed lately: nearly all clients come from the same few pages."""

    @staticmethod
    def _trusted(host: str) -> str:
        try:
            return _host_and_port(host)[0]
        except ValueError as error:
            raise ValueError(f"{host[:128]!r} cannot be a trusted host: {error}") from None

    def decide(self, origin: str | None, host: str | None, *, bearer: bool) -> Decision:
        """Judge a request.

        Args:
            origin: its ``Origin`` header; None where there is none.
            host: its ``Host`` header.
            bearer: whether it brings a bearer token in the request itself.
        """
        asked = (origin, host, bearer)
        known = self._let_in.get(asked)
        if known is not None:
            return known
        decision = self._judge(origin, host, bearer=bearer)
        if decision.allowed:
            if len(self._let_in) >= _REMEMBERED:
                self._let_in.clear()
            self._let_in[asked] = decision
        return decision

    def _judge(self, origin: str | None, host: str | None, *, bearer: bool) -> Decision:
        if origin is None:
            if bearer:
                return Decision(True, "no Origin, but a bearer token: not a browser")
            return Decision(False, "there is no Origin header: a client that is no browser must bring a bearer token")
        if origin == "null":
            return Decision(False, "the Origin is null (a sandboxed frame or a local file), which is never allowed")
        if not origin.isascii():
            return Decision(False, "the Origin is not ASCII: browsers send international names as xn--")
        try:
            parsed = parse_origin(origin)
        except ValueError as error:
            return Decision(False, f"the Origin is not one: {error}")
        if self._exact or self._wildcards:
            return self._listed(parsed)
        return self._same_host(parsed, host)

    def trusts_host(self, host: str | None) -> bool:
        """Whether a ``Host`` header names this server: for answering 421 to what DNS rebinding sends."""
        if not self._hosts:
            return True
        try:
            name = _host_and_port(host or "")[0]
        except ValueError:
            return False
        return name in self._hosts or name == "localhost" or _is_address(name)

    def _listed(self, origin: Origin) -> Decision:
        if origin in self._exact:
            return Decision(True, f"{origin} is in origins.allowed")
        for scheme, suffix, port in self._wildcards:
            if origin.scheme == scheme and origin.port == port and origin.host.endswith(suffix):
                return Decision(True, f"{origin} is below *{suffix}, which is in origins.allowed")
        return Decision(False, f"{origin} is not in origins.allowed")

    def _same_host(self, origin: Origin, host: str | None) -> Decision:
        try:
            name, port = _host_and_port(host or "")
        except ValueError:
            return Decision(False, "the Host header is missing or malformed, so no page can be of the same host")
        # The scheme on this side of a TLS proxy is not known: a Host without a port takes the origin's default.
        same = origin.host == name and origin.port == (port or _DEFAULT_PORTS.get(origin.scheme))
        if origin.scheme not in ("http", "https") or not same:
            return Decision(False, f"{origin} is not this host, and origins.allowed is empty")
        if not self.trusts_host(host):
            return Decision(False, f"{name} is not among origins.hosts")
        return Decision(True, f"{origin} is this host")


def parse_networks(entries: Iterable[str]) -> tuple[Network, ...]:
    """Parse ``server.trusted_proxies``: addresses and CIDR blocks.

    Raises:
        ValueError: an entry that is neither; the message names it.
    """
    networks: list[Network] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError as error:
            right = "an address such as 10.0.0.7 or a block such as 10.0.0.0/8"
            raise ValueError(f"{entry[:64]!r} is not {right} ({error})") from None
    return tuple(networks)


def client_ip(remote: str, headers: Mapping[str, str], trusted: Sequence[Network]) -> str:
    """The address of the client behind the proxies that we trust.

    ``X-Forwarded-For`` is read from the right, where our own proxy wrote, and only as long as each hop is trusted: what
    stands left of the first untrusted address is whatever the client cared to send.

    Args:
        remote: the peer of the TCP connection.
        headers: lower-case names; repeated headers joined with commas.
        trusted: what :func:`parse_networks` made; none trusted means the header is ignored.

    Returns:
        The rightmost untrusted address; the leftmost one if all are trusted; ``remote`` if there is nothing to read.
    """
    if not trusted:
        return _written(remote)
    current = _address(remote)
    if current is None or not _within(current, trusted):
        return remote if current is None else str(current)
    for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
        address = _address(_without_port(hop.strip(" \t")))
        if address is None:
            break  # not written by a proxy that we understand: believe nothing left of it either
        current = address
        if not _within(current, trusted):
            break
    return str(current)


@lru_cache(maxsize=1024)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # a dual-stack socket reports IPv4 peers this way
    return address


@lru_cache(maxsize=1024)
def _written(text: str) -> str:
    """An address in the one form in which addresses are counted."""
    address = _address(text)
    return text if address is None else str(address)


def _without_port(hop: str) -> str:
    """Some proxies write ``203.0.113.7:4711`` or ``[2001:db8::7]:4711``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
