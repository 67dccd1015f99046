"""What a server must be before a node starts on it: version, arrangement, eviction policy, rights.

The rights are those of the commands that the engine sends and those that the function library calls inside: Redis
checks both against the user. Here is the one list of them: :func:`rights`, the ACL line made of it, and the probes.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import redis.exceptions as failures

from stillhere.store.contract import StoreRefused, StoreUnavailable
from stillhere.store.redis.addresses import Address, Host, Mode
from stillhere.store.redis.link import ACL_HELP, CERTIFICATE_WANTED, Link, Word, explain, info_fields

KEY_PATTERN = "{stillhere:*"
"""What every key begins with."""

LEAST_REDIS = (7, 0)
"""Functions came with it."""

LEAST_VALKEY = (8, 0)
"""The oldest that the tests' rules cover; 7.2 calls itself Redis 7.2.4 in most of its answers."""

_OWN_RIGHTS = (
    "fcall",
    "function|load",
    "info",
    "select",
    "xinfo|stream",
    "xread",
    "cluster|slots",
    "hget",
    "hset",
    "hdel",
)
"""What the engine sends itself; AUTH needs no right."""

_CALLED = re.compile(r"""\b(?:redis|server)\.p?call\(\s*['"]([A-Za-z]+)['"]""")

# Each command in a form that changes nothing that lasts: a key that does not exist is read, shortened, or changed only
# if it were there. What has no such form comes early, and something later in the list takes it back.
_PROBES: Sequence[tuple[str, str]] = (
    ("HSET", "h f v"),
    ("HSETNX", "h f v"),
    ("HINCRBY", "h n 1"),
    ("HINCRBYFLOAT", "h n 1"),
    ("SADD", "s m"),
    ("RPUSH", "l v"),
    ("LPUSH", "l v"),
    ("INCR", "n"),
    ("INCRBY", "n 1"),
    ("SET", "n v XX"),
    ("ZADD", "z XX 1 m"),
    ("ZINCRBY", "z 0 m"),
    ("XADD", "x NOMKSTREAM * f v"),
    ("XSETID", "x 0-0"),
    ("APPEND", "n v"),
    ("TIME", ""),
    ("EXISTS", "h"),
    ("TYPE", "h"),
    ("GET", "n"),
    ("MGET", "n"),
    ("STRLEN", "n"),
    ("HGET", "h f"),
    ("HMGET", "h f"),
    ("HGETALL", "h"),
    ("HEXISTS", "h f"),
    ("HKEYS", "h"),
    ("HVALS", "h"),
    ("HLEN", "h"),
    ("HSCAN", "h 0"),
    ("HSTRLEN", "h f"),
    ("HRANDFIELD", "h"),
    ("SMEMBERS", "s"),
    ("SCARD", "s"),
    ("SISMEMBER", "s m"),
    ("SMISMEMBER", "s m"),
    ("SRANDMEMBER", "s"),
    ("SSCAN", "s 0"),
    ("ZRANGE", "z 0 0"),
    ("ZRANGEBYSCORE", "z 0 0"),
    ("ZRANGEBYLEX", "z - +"),
    ("ZREVRANGE", "z 0 0"),
    ("ZSCORE", "z m"),
    ("ZMSCORE", "z m"),
    ("ZCARD", "z"),
    ("ZCOUNT", "z 0 0"),
    ("ZLEXCOUNT", "z - +"),
    ("ZRANK", "z m"),
    ("ZSCAN", "z 0"),
    ("XLEN", "x"),
    ("XRANGE", "x - + COUNT 1"),
    ("XREVRANGE", "x + - COUNT 1"),
    ("XREAD", "COUNT 1 STREAMS x 0"),
    ("XINFO", "STREAM x"),
    ("LRANGE", "l 0 0"),
    ("LLEN", "l"),
    ("LINDEX", "l 0"),
    ("XTRIM", "x MAXLEN 0"),
    ("XDEL", "x 1-1"),
    ("LTRIM", "l 1 0"),
    ("LPOP", "l"),
    ("RPOP", "l"),
    ("LREM", "l 0 v"),
    ("SREM", "s m"),
    ("SPOP", "s"),
    ("ZREM", "z m"),
    ("ZPOPMIN", "z"),
    ("ZREMRANGEBYSCORE", "z 0 0"),
    ("ZREMRANGEBYRANK", "z 0 0"),
    ("ZREMRANGEBYLEX", "z - +"),
    ("HDEL", "h f n"),
    ("EXPIRE", "h 10"),
    ("PEXPIRE", "h 10000"),
    ("PERSIST", "h"),
    ("DEL", "h s l n z x"),
    ("UNLINK", "h s l n z x"),
)
_KEYS = frozenset("hslnzx")


def library_commands(library: str) -> frozenset[str]:
    """The commands that a function library calls, in lower case.

    Args:
        library: its Lua text.
    """
    return frozenset(name.lower() for name in _CALLED.findall(library))


def rights(library: str) -> list[str]:
    """All rights that a node needs, as an ACL names them, sorted."""
    return sorted(library_commands(library) | set(_OWN_RIGHTS))


def acl_line(library: str, user: str = "stillhere", password: str = "PASSWORD") -> str:
    """The user with the fewest rights, as a line of ``users.acl`` or ``redis.conf``."""
    allowed = " ".join(f"+{right}" for right in rights(library))
    return f"user {user} on >{password} resetkeys ~{KEY_PATTERN} resetchannels -@all {allowed}"


def about_files(address: Address) -> str | None:
    """What is wrong with the files of a TLS address, or None."""
    if address.tls is None:
        return None
    for field in ("ca_certs", "certfile", "keyfile"):
        name = getattr(address.tls, field)
        try:
            if name:
                Path(name).read_bytes()
        except OSError as error:
            return f"ssl_{field} of store.url names {name!r}, which cannot be read: {error.strerror}"
    return None


def about_server(info: Mapping[str, str], mode: Mode, host: Host) -> str | None:
    """What is wrong with a server by its own account, or None.

    Args:
        info: the fields of ``INFO``.
        mode: of the address.
        host: the server.
    """
    at = f"Redis at {host}"
    name, least, version = "Redis", LEAST_REDIS, info.get("redis_version", "")
    if "valkey_version" in info or info.get("server_name") == "valkey":
        name, least, version = "Valkey", LEAST_VALKEY, info.get("valkey_version", version)
    if _numbers(version) < least:
        return (
            f"the server at {host} is {name} {version or 'of an unknown version'}; Stillhere needs Redis 7.0 or later, "
            "or Valkey 8.0 or later"
        )
    clustered = info.get("cluster_enabled") == "1"
    if clustered and mode is not Mode.CLUSTER:
        return f"{at} is part of a Cluster: write redis+cluster://{host}"
    if not clustered and mode is Mode.CLUSTER:
        return f"{at} is not part of a Cluster: write redis://{host}"
    policy, limit = info.get("maxmemory_policy", "noeviction"), info.get("maxmemory", "0")
    if limit != "0" and policy != "noeviction":
        return (
            f"{at} has maxmemory {limit} and maxmemory-policy {policy}: when it is full it would throw away who is "
            "present; set maxmemory-policy noeviction"
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


async def examine(link: Link, address: Address, key: str, library: str) -> None:
    """Look whether a server will do.

    Args:
        link: to it.
        address: what it is reached by.
        key: a key of the partition, to which the probes add.
        library: the text of the function library.

    Raises:
        StoreRefused: with a sentence.
        StoreUnavailable: for the moment.
    """
    answer = (await link.ask_all([("INFO",)], errors=True))[0]
    if isinstance(answer, failures.ResponseError):
        raise explain(answer, link.host, 0.0)
    info = info_fields(answer)
    problem = about_server(info, address.mode, link.host)
    if problem is not None:
        raise StoreRefused(problem)
    if info.get("loading", "0") != "0":
        raise StoreUnavailable(f"Redis at {link.host} is still loading its data")
    await _examine_rights(link, address, key, library)


async def _examine_rights(link: Link, address: Address, key: str, library: str) -> None:
    called = library_commands(library)
    wanted: list[tuple[str, Sequence[Word]]] = [
        (_right(name, words), [name, *(f"{key}:probe:{word}" if word in _KEYS else word for word in words.split())])
        for name, words in _PROBES
        if name.lower() in called or _right(name, words) in _OWN_RIGHTS
    ]
    load, *replies = await link.ask_all(
        [("FUNCTION", "LOAD", library), *(request for _, request in wanted)], errors=True
    )
    if isinstance(load, failures.ResponseError) and "unknown command" in str(load).lower():
        raise StoreRefused(f"the server at {link.host} knows no functions, which Redis has since 7.0")
    call = (await link.ask_all([("FCALL", "stillhere_no_such_function", 0)], errors=True))[0]
    answers = [("function|load", load), ("fcall", call), *zip((right for right, _ in wanted), replies, strict=True)]
    _judge(link, address, answers)
    if isinstance(load, failures.ResponseError) and "already exists" not in str(load):
        raise StoreRefused(f"Redis at {link.host} does not take the function library: {str(load)[:200]}")


def _right(name: str, words: str) -> str:
    return f"{name.lower()}|{words.split()[0].lower()}" if name == "XINFO" else name.lower()


def _judge(link: Link, address: Address, answers: Sequence[tuple[str, object]]) -> None:
    user = address.user or "default"
    denied = [(right, str(answer)) for right, answer in answers if isinstance(answer, failures.NoPermissionError)]
    commands = [right for right, text in denied if "access a key" not in text and "access one of the keys" not in text]
    if commands:
        raise StoreRefused(
            f"the user {user!r} of Redis at {link.host} may not use {', '.join(commands)}: add "
            f"{' '.join(f'+{right}' for right in commands)} to its ACL; {ACL_HELP}"
        )
    if denied:
        raise StoreRefused(
            f"the user {user!r} of Redis at {link.host} may not use the keys of Stillhere: add ~{KEY_PATTERN} to its "
            f"ACL; {ACL_HELP}"
        )
    for _, answer in answers:
        # a server that is full or has lost its replicas says so to the first command that writes
        if isinstance(answer, failures.ResponseError):
            problem = explain(answer, link.host, 0.0)
            if " answered: " not in str(problem):
                raise problem


async def speaks_otherwise(address: Address, host: Host, timeout: float) -> str | None:
    """Whether a server that could not be reached wants another kind of connection.

    It may speak TLS where plain Redis was tried, or the other way round, or ask for a client certificate: then it may
    close the connection before its reason is read. No credentials are sent.

    Returns:
        A sentence, or None.
    """
    if address.tls is not None:
        answer = await _first_line(host, timeout)
        if answer[:1] in (b"+", b"-"):
            plain = address.mode
            return f"Redis at {host} does not speak TLS: write {plain}:// in place of {address.scheme}://"
        if not address.tls.certfile and await _tls_answer(host, timeout) == "certificate":
            return f"Redis at {host} {CERTIFICATE_WANTED}"
        return None
    if not await _tls_answer(host, timeout):
        return None
    secure = address.mode.replace("redis", "rediss", 1)
    return f"Redis at {host} speaks TLS: write {secure}:// in place of {address.scheme}://"


async def _first_line(host: Host, timeout: float) -> bytes:
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*host)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError):
        return b""


async def _tls_answer(host: Host, timeout: float) -> Literal["", "tls", "certificate"]:
    """Nothing that is TLS, a handshake, or the wish for a client certificate, which follows the handshake."""
    context = ssl.create_default_context()
    # only whether and how it answers; nothing is sent over this connection
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    shaken = False
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*host, ssl=context)
            shaken = True
            try:
                await reader.read(1)
            finally:
                writer.close()
    except (OSError, ValueError) as error:
        if "CERTIFICATE_REQUIRED" in str(error):
            return "certificate"
    return "tls" if shaken else ""
