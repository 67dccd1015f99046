"""The figures of a node, gathered from its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhere.server.statistics import NodeStatistics

if TYPE_CHECKING:
    from stillhere.server.node import Node


def figures_of(node: Node) -> NodeStatistics:
    """How it is now; changes nothing."""
    store = node.store.statistics()
    return NodeStatistics(
        node=node.name,
        incarnation=node.incarnation,
        started_at=node.started_at,
        connections=len(node.peers),
        users=node.roster.user_count,
        present=store.users_present,
        known=store.users_known,
        windows_pending=store.windows_pending,
        rooms=store.rooms,
        topics=len(node.hub.users) + len(node.hub.rooms),
        loop_lag=node.wheel.lag,
        loop_stalled=node.wheel.stalled,
        store=store.kind,
        store_reachable=node.keeper.error is None and node.hub.reachable and store.reachable,
        store_backlog=store.backlog,
        draining=node.draining,
    )
