"""Redis URLs: which servers, in which arrangement, with which credentials.

::

    redis://[[user]:password@]host[:port][/db]
    redis+sentinel://[[user]:password@]host[:port],host[:port]…/service[/db]
    redis+cluster://[[user]:password@]host[:port],host[:port]…

``rediss`` in place of ``redis`` speaks TLS; only then ``?ssl_ca_certs=``, ``ssl_certfile``, ``ssl_keyfile`` and
``ssl_check_hostname`` may follow. User and password are percent-encoded. No message here repeats either of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

REDIS_PORT = 6379
SENTINEL_PORT = 26379


class Mode(StrEnum):
    """How the servers are arranged."""

    STANDALONE = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


class Host(NamedTuple):
    """Where one server listens."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class Tls(msgspec.Struct, frozen=True):
    """What a TLS connection is checked with; empty paths mean: those of the system, and no client certificate."""

    ca_certs: str = ""
    certfile: str = ""
    keyfile: str = ""
    check_hostname: bool = True


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis URL, taken apart."""

    mode: Mode
    hosts: tuple[Host, ...]
    """The server; or the Sentinels, or some nodes of the Cluster: one that answers is enough."""
    tls: Tls | None = None
    user: str = ""
    """Empty for the user ``default``."""
    password: str = ""
    """Empty for none."""
    db: int = 0
    service: str = ""
    """What the Sentinels call the master."""

    def __str__(self) -> str:
        hosts = ",".join(map(str, self.hosts))
        return f"{self.scheme}://{'***@' if self.password else ''}{hosts}{f'/{self.service}' if self.service else ''}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def scheme(self) -> str:
        """The scheme of the URL, in lower case."""
        return self.mode.replace("redis", "rediss", 1) if self.tls is not None else str(self.mode)

    def connection_options(self, *, credentials: bool, db: int) -> dict[str, Any]:
        """Arguments for a connection of redis-py beside host and port.

        Args:
            credentials: whether to log in.
            db: the database to select.
        """
        options: dict[str, Any] = {"db": db}
        if credentials and self.password:
            options.update(username=self.user or None, password=self.password)
        if self.tls is not None:
            options.update(
                ssl_ca_certs=self.tls.ca_certs or None,
                ssl_certfile=self.tls.certfile or None,
                ssl_keyfile=self.tls.keyfile or None,
                ssl_check_hostname=self.tls.check_hostname,
                ssl_cert_reqs="required",
            )
        return options


def parse_address(url: str) -> Address:
    """Take a URL apart.

    Args:
        url: as in the module's text; the case of the scheme does not matter.

    Raises:
        ValueError: what is wrong with it and what would be right, without user and password.
    """
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    plain = scheme.replace("rediss", "redis", 1)
    try:
        mode = Mode(plain)
    except ValueError:
        known = ", ".join(f"{name}://" for mode in Mode for name in (mode, mode.replace("redis", "rediss", 1)))
        raise ValueError(f"a Redis URL begins with one of {known}") from None
    if not rest.startswith("//"):
        raise ValueError(f"write {scheme}://host:port")
    place, _, query = rest[2:].partition("?")
    authority, _, path = place.partition("/")
    if "@" in path or "@" in query or "#" in rest:
        raise ValueError("write the characters / ? # and @ of a user or password as %2F, %3F, %23 and %40")
    login, _, hosts = authority.rpartition("@")
    user, password = _login(login, has_login="@" in authority)
    service, db = _path(mode, scheme, path)
    return Address(
        mode=mode,
        hosts=_hosts(mode, scheme, hosts),
        tls=_tls(scheme, query, wanted=scheme != plain),
        user=user,
        password=password,
        db=db,
        service=service,
    )


def _login(text: str, *, has_login: bool) -> tuple[str, str]:
    if not has_login:
        return "", ""
    user, _, password = text.partition(":")
    if not password:
        raise ValueError("before the @ write user:password, or :password for the user default")
    if ":" in password:
        raise ValueError("write the character : of a user or password as %3A")
    return unquote(user), unquote(password)


def _hosts(mode: Mode, scheme: str, text: str) -> tuple[Host, ...]:
    port = SENTINEL_PORT if mode is Mode.SENTINEL else REDIS_PORT
    hosts = tuple(_host(part.strip(), scheme, port) for part in text.split(","))
    if mode is Mode.STANDALONE and len(hosts) > 1:
        raise ValueError(
            f"{scheme}:// takes one host; for several write {scheme}+sentinel://…/service or {scheme}+cluster://…"
        )
    return hosts


def _host(text: str, scheme: str, default: int) -> Host:
    right = f"each host must be a name or address with an optional port: {scheme}://host:{default}"
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{text!r} is no host; {right}") from None
    if not name or port == 0 or any(letter <= " " for letter in text):
        raise ValueError(f"{text!r} is no host; {right}")
    return Host(name, default if port is None else port)


def _path(mode: Mode, scheme: str, path: str) -> tuple[str, int]:
    """Service and database."""
    if mode is Mode.SENTINEL:
        service, _, rest = path.partition("/")
        if not service:
            raise ValueError(f"name the master as the Sentinels call it: {scheme}://host:{SENTINEL_PORT}/service")
        return unquote(service), _database(rest, f"{scheme}://host/service/0")
    db = _database(path, f"{scheme}://host/0")
    if mode is Mode.CLUSTER and db:
        raise ValueError(f"a Redis Cluster has database 0 alone; leave /{db} out")
    return "", db


def _database(text: str, right: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(f"the database must be a number: {right}")
    return int(text)


def _tls(scheme: str, query: str, *, wanted: bool) -> Tls | None:
    options = parse_qsl(query, keep_blank_values=True) if query else []
    given = {key.removeprefix("ssl_"): value for key, value in options if key.startswith("ssl_")}
    unknown = [key for key, _ in options if not key.startswith("ssl_") or key[4:] not in Tls.__struct_fields__]
    if unknown:
        known = ", ".join(f"ssl_{field}" for field in Tls.__struct_fields__)
        raise ValueError(f"{unknown[0]!r} is no option of a Redis URL; there are {known}")
    if len(given) < len(options):
        raise ValueError("an option stands twice in the Redis URL")
    if not wanted:
        if given:
            right = scheme.replace("redis", "rediss", 1)
            raise ValueError(f"ssl_{next(iter(given))} needs TLS: write {right}:// in place of {scheme}://")
        return None
    check = given.get("check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise ValueError("ssl_check_hostname must be true or false")
    tls = Tls(given.get("ca_certs", ""), given.get("certfile", ""), given.get("keyfile", ""), check == "true")
    if tls.keyfile and not tls.certfile:
        raise ValueError("ssl_keyfile needs ssl_certfile beside it")
    return tls
