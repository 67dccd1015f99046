"""Relations between settings, and the values whose shape a type cannot say: URLs, origins, networks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from stillhere.server.origins import OriginPolicy, parse_networks
from stillhere.server.secrets import REDACTED, Secret
from stillhere.server.settings_sources import SettingsError, shown
from stillhere.server.webhooks.signature import keys_of

if TYPE_CHECKING:
    from stillhere.server.settings import Settings

SECRET_BYTES = 32
"""Least length of an HMAC secret and of an API key: 256 bits, as RFC 7518 section 3.2 asks for HS256."""

WEBHOOKS_MOST = 20
"""Each holds a few hundred events and some connections: their number is the bound of all that is held."""

_HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}

Broken = tuple[tuple[str, ...], str]
"""The keys that a rule is about, and the sentence."""


class MemoryStore(msgspec.Struct, frozen=True):
    """``memory:``"""


class SqliteStore(msgspec.Struct, frozen=True):
    """``sqlite:///relative.db`` or ``sqlite:////absolute.db``"""

    path: str


class RedisStore(msgspec.Struct, frozen=True):
    """``redis://``, ``rediss://``, ``redis+sentinel://``, ``redis+cluster://``, and the last two with ``rediss``."""

    mode: Literal["standalone", "sentinel", "cluster"]
    tls: bool
    url: Secret
    """Whole, for the Redis client: it may hold a password."""


StoreTarget = MemoryStore | SqliteStore | RedisStore

_REDIS: Mapping[str, Literal["standalone", "sentinel", "cluster"]] = {
    "redis": "standalone",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}


def parse_store_url(url: str) -> StoreTarget:
    """Tell which store a URL names.

    Raises:
        SettingsError: it names none.
    """
    problem = _store_problem(url)
    if problem is not None:
        raise SettingsError([f"store.url is {redacted_url(url)!r}; {problem}"])
    scheme = url.partition(":")[0].lower()
    if scheme == "memory":
        return MemoryStore()
    if scheme == "sqlite":
        return SqliteStore(url[len("sqlite:///") :])
    return RedisStore(_REDIS[scheme.replace("rediss", "redis")], scheme.startswith("rediss"), Secret(url))


def _store_problem(url: str) -> str | None:
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if colon and scheme == "memory":
        return None if not rest else "the store in memory has no name: write memory:"
    if colon and scheme == "sqlite":
        return _sqlite_problem(rest)
    if colon and scheme.replace("rediss", "redis") in _REDIS:
        if not rest.startswith("//"):
            return f"write {scheme}://host:port"
        # Sentinel and cluster URLs name several hosts, which no URL parser takes apart.
        hosts = rest[2:].partition("/")[0].rpartition("@")[2].split(",")
        if not all(_host_port(host) for host in hosts):
            return f"each of its hosts must be a name or address with an optional port: {scheme}://host:6379"
        return None
    return (
        "it must be memory:, sqlite:///file.db (relative), sqlite:////path/file.db (absolute), or begin with redis://, "
        "rediss://, redis+sentinel:// or redis+cluster://"
    )


def _sqlite_problem(rest: str) -> str | None:
    path = rest[3:]
    if not rest.startswith("///"):
        return "a sqlite URL has three slashes and a path: sqlite:///file.db, or with four sqlite:////path/file.db"
    if path == ":memory:":
        return "for a store in memory write memory:"
    if not path or path.endswith("/"):
        return "it names no file: sqlite:///file.db"
    if any(mark in path for mark in "?#\0"):
        return "a sqlite URL takes no parameters: sqlite:///file.db"
    return None


def _host_port(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0) and not parts.path
    except ValueError:
        return False


def redacted_url(url: str) -> str:
    """A URL with its user and password as ``***``, if it has them, and its query too, which may hold a key."""
    head, slashes, rest = url.partition("//")
    before, mark, query = rest.partition("?")
    if "@" in query:  # in the query, or in a password with a question mark: which of them, nobody can tell
        return f"{head}{slashes}{REDACTED}"
    credentials, at, host = before.rpartition("@")
    shown_host = f"{REDACTED}@{host}" if at and credentials else before
    return f"{head}{slashes}{shown_host}{mark}{REDACTED if query else ''}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there. Any other name is taken to be reachable."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_problem(url: str, *, loopback_http: bool) -> str | None:
    """What is wrong with a URL that this server shall call, or None.

    Args:
        url: the text.
        loopback_http: allow ``http`` to this machine.
    """
    try:
        parts: SplitResult = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "it must be a URL"
    if any(letter <= " " or letter == "\x7f" for letter in url):
        return "it must be a URL without blanks and control characters"
    if "@" in parts.netloc:
        return "it must not hold a user or password"
    if not host:
        return "it must be an https URL with a host"
    if parts.scheme == "https" or (loopback_http and parts.scheme == "http" and is_loopback(host)):
        return None
    return "it must be an https URL" + (" (plain http only to loopback)" if loopback_http else "")


def address_problem(url: str) -> str | None:
    """What is wrong with the address of a node, at which others ask whether it is ready; or None.

    Args:
        url: its base URL; a path is that of the mount.
    """
    if len(url) > 512 or not url.isascii() or any(letter <= " " or letter in "\x7f\\" for letter in url):
        return "it must be a URL of at most 512 ASCII characters, without blanks"
    try:
        parts: SplitResult = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "it must be a URL such as http://10.0.0.11:7400"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "it must begin with http:// or https:// and a host: http://10.0.0.11:7400"
    if "@" in parts.netloc:
        return "it must not hold a user or password: all nodes see it"
    if "?" in url or "#" in url:
        return "it takes no query and no fragment: others add /readyz to it"
    if host in ("0.0.0.0", "::"):
        return "no other node can reach that host; name one that they can: http://10.0.0.11:7400"
    return None


def broken_rules(settings: Settings, sources: Mapping[str, str]) -> Iterator[Broken]:
    """Yield the rules that the settings break.

    Args:
        settings: with each value right by itself.
        sources: where each key that was set came from.
    """
    rules = _Rules(settings, sources)
    for group in (rules.server, rules.store, rules.keys, rules.algorithms, rules.origins, rules.times, rules.sizes):
        yield from group()
    yield from rules.cluster()
    yield from rules.webhooks()


class _Rules:
    """The rules, each group a method; a rule yields the keys that it is about and its sentence."""

    def __init__(self, settings: Settings, sources: Mapping[str, str]) -> None:
        self.all = settings
        self.sources = sources

    def says(self, key: str) -> str:
        """A key with its value and its source."""
        section, _, name = key.partition(".")
        value = getattr(getattr(self.all, section), name)
        text = redacted_url(value) if key == "store.url" else REDACTED if isinstance(value, Secret) else value
        return f"{key} is {shown(text) if text is not REDACTED else text} ({self.sources.get(key, 'default')})"

    def both(self, one: str, other: str, right: str) -> Broken:
        return (one, other), f"{self.says(one)} and {self.says(other)}; {right}"

    def server(self) -> Iterator[Broken]:
        server = self.all.server
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", server.node):
            right = "a node's name is 1 to 64 letters, digits, dots, dashes and underscores"
            yield ("server.node",), f"{self.says('server.node')}; {right}"
        elif server.workers > 1 and len(server.node) + len(str(server.workers)) + 1 > 64:
            right = "the workers are named after the node, with a dash and a number: choose a shorter name"
            yield self.both("server.node", "server.workers", right)
        try:
            parse_networks(server.trusted_proxies)
        except ValueError as error:
            yield ("server.trusted_proxies",), f"{self.says('server.trusted_proxies')}; {error}"
        if not is_loopback(server.host) and not self.all.auth.configured:
            sentence = (
                f"{self.says('server.host')}, which others can reach, and none of auth.secret, auth.jwks_url and "
                "auth.jwks_file is set; set one of them, or listen on 127.0.0.1"
            )
            yield ("server.host", "auth.secret", "auth.jwks_url", "auth.jwks_file"), sentence

    def store(self) -> Iterator[Broken]:
        problem = _store_problem(self.all.store.url)
        if problem is not None:
            yield ("store.url",), f"{self.says('store.url')}; {problem}"
        elif self.all.server.workers > 1 and not self.all.store.url.lower().startswith("redis"):
            right = (
                "every worker is a node and needs a store that nodes share: name a Redis or Valkey in store.url, such "
                "as redis://127.0.0.1:6379/0, or set server.workers to 1"
            )
            yield self.both("server.workers", "store.url", right)

    def keys(self) -> Iterator[Broken]:
        auth = self.all.auth
        if auth.secret is not None:
            if looks_asymmetric(auth.secret):
                right = "a public key is no secret, and whoever has it could sign tokens; put it into auth.jwks_file"
                yield ("auth.secret",), f"{self.says('auth.secret')} and holds an asymmetric key; {right}"
            else:
                yield from self._secret_size(auth.secret)
        if auth.jwks_url is not None and auth.jwks_file is not None:
            yield self.both("auth.jwks_url", "auth.jwks_file", "only one of them may be set")
        if auth.jwks_url is not None:
            problem = url_problem(auth.jwks_url, loopback_http=True)
            if problem is not None:
                shown_url = redacted_url(auth.jwks_url)
                source = self.sources.get("auth.jwks_url", "default")
                yield ("auth.jwks_url",), f"auth.jwks_url is {shown(shown_url)} ({source}); {problem}"
        for number, key in enumerate(self.all.admin.api_keys):
            if key.size < SECRET_BYTES:
                right = f"an API key needs at least {SECRET_BYTES}"
                source = self.sources.get("admin.api_keys", "default")
                yield ("admin.api_keys",), f"admin.api_keys[{number}] has {key.size} bytes ({source}); {right}"

    def _secret_size(self, secret: Secret) -> Iterator[Broken]:
        # RFC 7518 section 3.2: a key as long as the hash. One secret serves all HS algorithms that are accepted.
        needs = {name: _HMAC_BYTES[name] for name in self.all.auth.accepted_algorithms if name in _HMAC_BYTES}
        name, least = max(needs.items(), key=lambda item: item[1], default=("HS256", SECRET_BYTES))
        if secret.size < least:
            source = self.sources.get("auth.secret", "default")
            right = f"{name} needs at least {least}: openssl rand -hex {least}"
            yield ("auth.secret", "auth.algorithms"), f"auth.secret has {secret.size} bytes ({source}); {right}"

    def algorithms(self) -> Iterator[Broken]:
        auth = self.all.auth
        if not auth.algorithms or not auth.configured:
            return
        about = ("auth.algorithms", "auth.secret", "auth.jwks_url", "auth.jwks_file")
        said = self.says("auth.algorithms")
        hmac = [name for name in auth.algorithms if name in _HMAC_BYTES]
        jwks = auth.jwks_url is not None or auth.jwks_file is not None
        if hmac and auth.secret is None:
            yield about, f"{said}, but auth.secret is unset, which {hmac[0]} needs"
        if not hmac and auth.secret is not None:
            yield about, f"{said}, but auth.secret is set, which none of them uses; add HS256 or unset the secret"
        others = [name for name in auth.algorithms if name not in _HMAC_BYTES]
        if others and not jwks:
            yield about, f"{said}, but neither auth.jwks_url nor auth.jwks_file is set, of which {others[0]} needs one"
        if not others and jwks:
            yield about, f"{said}, but a JWKS is set, which none of them uses; add RS256, ES256 or EdDSA"

    def origins(self) -> Iterator[Broken]:
        for key, entries in (("origins.allowed", self.all.origins.allowed), ("origins.hosts", self.all.origins.hosts)):
            for entry in entries:
                try:
                    OriginPolicy([entry]) if key == "origins.allowed" else OriginPolicy([], [entry])
                except ValueError as error:
                    yield (key,), f"{key}: {error} ({self.sources.get(key, 'default')})"

    def times(self) -> Iterator[Broken]:
        heartbeat, cluster, grace = self.all.heartbeat, self.all.cluster, self.all.grace
        if heartbeat.timeout_ms >= heartbeat.interval_ms:
            right = "a ping must be answered or given up before the next one is due"
            yield self.both("heartbeat.timeout_ms", "heartbeat.interval_ms", right)
        if cluster.lease_ms < 2 * cluster.beat_ms:
            right = "a lease must outlive one lost beat: at least twice cluster.beat_ms"
            yield self.both("cluster.lease_ms", "cluster.beat_ms", right)
        for cause, window in grace.overrides.items():
            if window > grace.max_ms:
                yield self.both(f"grace.{cause}", "grace.max_ms", "no window may be longer than grace.max")

    def cluster(self) -> Iterator[Broken]:
        address = self.all.cluster.address
        problem = None if address is None else address_problem(address)
        if address is not None and problem is not None:
            source = self.sources.get("cluster.address", "default")
            yield ("cluster.address",), f"cluster.address is {shown(redacted_url(address))} ({source}); {problem}"

    def sizes(self) -> Iterator[Broken]:
        limits = self.all.limits
        if limits.outbox_bytes < limits.message_bytes:
            yield self.both("limits.outbox_bytes", "limits.message_bytes", "the outbox must hold at least one message")
        if limits.meta_bytes > limits.message_bytes:
            yield self.both("limits.meta_bytes", "limits.message_bytes", "a meta must fit into a message")

    def webhooks(self) -> Iterator[Broken]:
        source = self.sources.get("webhooks", "default")
        if len(self.all.webhooks) > WEBHOOKS_MOST:
            yield ("webhooks",), f"webhooks has {len(self.all.webhooks)} ({source}); at most {WEBHOOKS_MOST} may be"
        seen: dict[str, int] = {}
        for number, hook in enumerate(self.all.webhooks):
            problem = url_problem(hook.url, loopback_http=self.all.delivery.loopback)
            if problem is not None:
                yield ("webhooks",), f"webhooks[{number}].url is {shown(redacted_url(hook.url))} ({source}); {problem}"
            if seen.setdefault(hook.url, number) != number:
                right = "name each URL once, with all its events"
                yield ("webhooks",), f"webhooks[{number}].url is that of webhooks[{seen[hook.url]}] ({source}); {right}"
            try:
                keys_of(hook.secret.reveal())
            except ValueError as error:
                yield ("webhooks",), f"webhooks[{number}].secret {error} ({source})"
            if not hook.events:
                right = "leave it out for all events, or name some"
                yield ("webhooks",), f"webhooks[{number}].events is empty ({source}); {right}"


def looks_asymmetric(secret: Secret) -> bool:
    """Whether a text is a public or private key in PEM, SSH or JWK form, which must never serve as an HMAC secret."""
    text = secret.reveal().lstrip()
    return "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-sha2-")) or (text[:1] in "{[" and '"kty"' in text)
