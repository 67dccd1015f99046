"""What nodes have to do with each other: they see each other's transitions in the log, and these few words.

Nodes talk through the store's log. A notice has its place between the transitions, so every node hears it once and in
order. What fell into a gap of the log is looked for in the records (:mod:`stillhere.server.after_gap`). Addresses are
for one question alone: whether another node reaches the store that this one cannot reach
(:mod:`stillhere.server.isolation`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from stillhere.core.connection import Connection
from stillhere.core.events import Notice, NoticeKind
from stillhere.core.words import Cause, UserId
from stillhere.wire.codes import CloseCode

if TYPE_CHECKING:
    from stillhere.server.node import Node


FIRST = 1.0
"""Seconds for which a kick that the store does not have yet holds the notice of it back."""


class About(msgspec.Struct, frozen=True):
    """What a node tells the others of itself with every beat, as JSON."""

    node: str
    started_at: float
    connections: int
    users: int
    ready: bool
    draining: bool
    lease_ms: int
    address: str = ""
    """Base URL at which other nodes reach it; empty if it has none, or is of a version that did not tell."""
    webhooks: tuple[str, ...] = ()
    """Ids of the hooks that it would deliver for."""


def about(node: Node) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(
        About(
            node.name,
            node.started_at,
            len(node.peers),
            node.roster.user_count,
            node.ready is None,
            node.draining,
            round(node.settings.cluster.lease * 1000),
            node.address,
            node.webhooks.ids,
        )
    )


@lru_cache(maxsize=1024)  # the other nodes' words are looked at more often than they tell something new
def decode_about(told: bytes) -> About | None:
    """As another node told it; None for what this version does not understand."""
    try:
        return msgspec.json.decode(told, type=About)
    except msgspec.MsgspecError:
        return None


async def dismiss(node: Node, user: UserId, reason: str, cause: Cause, acknowledged: Callable[[], None]) -> int:
    """Kick a user everywhere.

    The store has the goodbye before the others hear the notice: who misses that one finds it in the record.

    Args:
        node: that was asked.
        user: whom.
        reason: for the close frame.
        cause: of the ends.
        acknowledged: called when the store has what ended here.

    Returns:
        How many connections there were, as far as the store can tell.

    Raises:
        StoreError: the other nodes could not be told; here it is done.
    """
    here = node.disconnect(user, reason, cause)
    stored = asyncio.Event()

    def told() -> None:
        stored.set()
        acknowledged()

    node.keeper.when_acknowledged(user, told)
    store = node.store
    if store.applies_at_once:
        return here
    record = await store.record(user)
    there = [] if record is None else [c for inc, c in record.connections() if not store.mine(inc)]
    with contextlib.suppress(TimeoutError):  # a goodbye that does not arrive holds nobody's notice back for long
        async with asyncio.timeout(FIRST):
            await stored.wait()
    await store.notify(NoticeKind.DISMISSED, node.incarnation, user, cause.value, reason)
    return here + len(there)


def heed(node: Node, notice: Notice) -> None:
    """Do what another node has to say."""
    mine = node.store.mine(notice.target)
    if notice.kind is NoticeKind.SUPERSEDED and mine:
        peer = node.peer(notice.connection)
        if peer is not None:
            peer.close(CloseCode.SUPERSEDED, "a newer connection of this tab is open", Cause.SUPERSEDED)
    elif notice.kind is NoticeKind.DISMISSED and not mine:
        for connection in node.roster.of(notice.user):
            if not _acknowledged_after(node, connection, notice):
                ago = max(0.0, node.now() - notice.at)
                node.expel(connection, Cause(notice.cause), ago=ago, reason=notice.reason)
    elif notice.kind is NoticeKind.DRAIN and notice.target == node.name and not node.draining:
        node.tasks.spawn(node.drain())
    elif notice.kind is NoticeKind.JOINED and not mine:
        node.keeper.beat_soon()


def _acknowledged_after(node: Node, connection: Connection, notice: Notice) -> bool:
    """Whether the store knew of a connection only after a notice: by their places in the log.

    Not by the time at which it was opened: the clocks of nodes may differ by more than its age, and a kick or a
    revocation that is taken for an older one would have no effect.
    """
    peer = node.peer(connection.id)
    place = None if peer is None else peer.known_from
    here = node.hub.cursors[node.store.partition_of(connection.user)]
    return place is not None and place.epoch == here.epoch and place.seq > notice.version
