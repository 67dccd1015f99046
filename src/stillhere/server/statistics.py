"""Figures of a node."""

from __future__ import annotations

import msgspec


class NodeStatistics(msgspec.Struct, frozen=True, rename="camel"):
    """Figures of now, for metrics, ``/v1/stats`` and the pages."""

    node: str
    incarnation: str
    started_at: float
    connections: int
    users: int
    present: int
    known: int
    windows_pending: int
    rooms: int
    topics: int
    loop_lag: float
    loop_stalled: float
    store: str
    store_reachable: bool
    store_backlog: int
    draining: bool
