"""What a node does after a gap in the log: the notices that fell into it are looked for in the records.

A notice that somebody was kicked, or that a newer connection of a tab is open on another node, comes through the log,
once. If the log was trimmed before this node could read it, or a new epoch began, nobody repeats it, and a connection
would stay open that must not. But both can be seen in the record of the user: a kick is remembered as a goodbye
(:class:`~stillhere.core.record.Departure`), and the newer connection is there. So the node asks for the records of
everybody whom it carries in that partition.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stillhere.core.connection import Connection
from stillhere.core.record import Departure, Record
from stillhere.core.words import Cause, UserId
from stillhere.store.contract import StoreError
from stillhere.wire.codes import CloseCode

if TYPE_CHECKING:
    from stillhere.server.node import Node

BATCH = 500
"""Records that are asked for in a row; then others have their turn."""

PAUSE = 0.05
"""Seconds between two batches."""

RETRY = 0.5
"""Seconds before a record is asked for again that the store did not answer for."""


class AfterGap:
    """See the module. One pass at a time, over the partitions that had a gap."""

    def __init__(self, node: Node) -> None:
        """Nothing to do yet."""
        self._node = node
        self._partitions: dict[int, None] = {}
        self._running = False

    def begin(self, partition: int) -> None:
        """There was a gap in the log of a partition. A store that serves one node has no notices."""
        if self._node.store.applies_at_once:
            return
        self._partitions[partition] = None
        if not self._running:
            self._running = True
            self._node.tasks.spawn(self.run())

    async def run(self) -> None:
        """Look at everybody in the partitions that had a gap."""
        try:
            while self._partitions:
                partition = next(iter(self._partitions))
                del self._partitions[partition]  # before the pass: a gap during it asks for another one
                await self._look_at_all(partition)
        finally:
            self._running = False

    async def _look_at_all(self, partition: int) -> None:
        node = self._node
        users = [user for user in node.roster.users() if node.store.partition_of(user) == partition]
        for number, user in enumerate(users):
            if number and number % BATCH == 0:
                await asyncio.sleep(PAUSE)
            record = await self._record(user)
            if record is not None:
                settle(node, record)

    async def _record(self, user: UserId) -> Record | None:
        while True:
            try:
                return await self._node.store.record(user)
            except StoreError:
                await asyncio.sleep(RETRY)


def settle(node: Node, record: Record) -> None:
    """Close the connections of this node that the record says are over.

    Args:
        node: that carries them.
        record: of their user, as the store has it.
    """
    kicks = [departure for departure in record.departures if departure.everything]
    clock, before = node.store.clock(node.store.partition_of(record.user))
    for connection in node.roster.of(record.user):
        kick = min((kick.clock for kick in kicks if _is_before(node, connection, kick, before)), default=None)
        if kick is not None:
            # told as of the kick: as of now it would speak for connections that were opened since, on other nodes
            node.expel(connection, Cause.KICKED, ago=max(0.0, clock - kick))
        elif connection.ready.active and _superseded(node, record, connection):
            peer = node.peer(connection.id)
            if peer is not None:
                peer.close(CloseCode.SUPERSEDED, "a newer connection of this tab is open", Cause.SUPERSEDED)


def _is_before(node: Node, connection: Connection, kick: Departure, before: float) -> bool:
    """Whether a connection was there when somebody was kicked: on the store clock.

    Not by the time at which it was opened, unless the store does not know of it yet: the clocks of nodes may differ
    by more than its age, and that of the store jumps.
    """
    peer = node.peer(connection.id)
    if peer is None or peer.known_since is None:
        return connection.opened_at <= kick.at
    return peer.known_since <= kick.clock + before


def _superseded(node: Node, record: Record, connection: Connection) -> bool:
    """Whether another node has a newer connection of the tab; of two of the same moment, one is the newer for all."""
    mine = (connection.opened_at, connection.id)
    return any(
        c.tab == connection.tab and c.ready.active and (c.opened_at, c.id) > mine
        for incarnation, c in record.connections()
        if not node.store.mine(incarnation)
    )
