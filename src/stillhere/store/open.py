"""From ``store.url`` to a store."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Limits
from stillhere.store.cluster.store import ClusterStore
from stillhere.store.contract import Store, StoreRefused
from stillhere.store.memory import MemoryStore
from stillhere.store.sqlite import SqliteStore
from stillhere.store.sqlite_writer import Retention

_REDIS = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


def open_store(
    url: str,
    now: Callable[[], float],
    *,
    policy: GracePolicy | None = None,
    limits: Limits | None = None,
    timeline_entries: int = 200,
    timeline_keep: float = 7 * 86400.0,
    partitions: int = 16,
) -> Store:
    """Make the store that a URL names; :meth:`Store.start` opens it.

    Args:
        url: ``memory:``, ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or one that begins with ``redis``.
        now: the time of the store, Unix seconds.
        policy: the windows for those whom a former run or a dead node left behind.
        limits: what is remembered of users.
        timeline_entries: events kept per user.
        timeline_keep: seconds for which they are kept, and the log of transitions too.
        partitions: of a Redis Cluster.

    Raises:
        StoreRefused: the URL names no store that this version has.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if colon and scheme == "memory" and not rest:
        return MemoryStore(now, policy=policy, limits=limits, timeline_entries=timeline_entries)
    if colon and scheme == "sqlite" and rest.startswith("///") and len(rest) > 3:
        retention = Retention(timeline_entries=timeline_entries, keep=timeline_keep)
        return SqliteStore(rest[3:], now, policy=policy, limits=limits, retention=retention)
    if colon and scheme in _REDIS:
        return _open_redis(url, now, partitions, policy, limits, timeline_entries, timeline_keep)
    raise StoreRefused(
        f"store.url is {url.rpartition('@')[2]!r}; it must be memory:, sqlite:///file.db (relative to the "
        "working directory), sqlite:////path/file.db (absolute) or redis://host:port/db"
    )


def _open_redis(
    url: str,
    now: Callable[[], float],
    partitions: int,
    policy: GracePolicy | None,
    limits: Limits | None,
    timeline_entries: int,
    timeline_keep: float,
) -> Store:
    """The store on Redis or Valkey; what it needs is installed with the extra ``redis``."""
    try:
        from stillhere.store.redis.engine import RedisEngine
        from stillhere.store.redis.line import LineOptions
    except ImportError as error:
        raise StoreRefused(f"the Redis store needs an extra: pip install 'stillhere[redis]' ({error})") from error
    options = LineOptions(limits=limits or Limits(watchers_outlive=True), timeline_entries=timeline_entries)
    engine = RedisEngine(url, partitions, options)
    rng = random.Random(secrets.randbits(64))
    return ClusterStore(engine, policy=policy, now=now, rng=rng, timeline_keep=timeline_keep)
