"""Prometheus metrics. No user ids as labels; units in the names; gauges are read when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import stillhere
from stillhere.core.events import Change, Event, Returned, Transition, ghost_of
from stillhere.core.quality import too_short

if TYPE_CHECKING:
    from stillhere.server.statistics import NodeStatistics

_GAPS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0)


class Metrics:
    """The counters of one node, in a registry of its own: several nodes may live in one process."""

    def __init__(self) -> None:
        """Register everything."""
        self.registry = registry = CollectorRegistry()
        self._known: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self.transitions = Counter(
            "stillhere_transitions", "Changes that watchers can see", ["change", "cause"], registry=registry
        )
        self.disconnects = Counter(
            "stillhere_disconnects", "Connections that ended", ["cause", "code"], registry=registry
        )
        self.connects = Counter("stillhere_connects", "Connections that were opened", registry=registry)
        self.refused = Counter("stillhere_refused_upgrades", "Upgrades that were refused", ["why"], registry=registry)
        self.received = Counter("stillhere_messages_received", "Messages of clients", ["type"], registry=registry)
        self.errors = Counter("stillhere_errors_sent", "Error messages to clients", ["code"], registry=registry)
        self.frames = Counter("stillhere_frames_sent", "Frames handed to sockets", ["type"], registry=registry)
        self.folded = Counter("stillhere_frames_folded", "Frames that slow consumers were spared", registry=registry)
        self.slow = Counter("stillhere_slow_consumer_closes", "Connections closed with 4102", registry=registry)
        self.false_offline = Counter(
            "stillhere_false_offline",
            "OFFLINE that was followed by the same tab or session within the horizon",
            ["cause"],
            registry=registry,
        )
        self.too_short = Histogram(
            "stillhere_window_too_short_seconds",
            "By how much the window of a false offline was too short",
            ["cause"],
            buckets=_GAPS,
            registry=registry,
        )
        self.ghost_seconds = Counter(
            "stillhere_ghost_seconds",
            "Time during which users were shown although their last connection had really ended",
            ["cause"],
            registry=registry,
        )
        self.reconnect_gap = Histogram(
            "stillhere_reconnect_gap_seconds",
            "Time between the end of a connection and the return of its tab or session",
            ["cause"],
            buckets=_GAPS,
            registry=registry,
        )
        self.ping_rtt = Histogram(
            "stillhere_ping_rtt_seconds",
            "Time between a ping and its pong",
            buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
            registry=registry,
        )
        self.fanout = Histogram(
            "stillhere_broadcast_fanout",
            "Receivers of one frame",
            buckets=(1, 10, 100, 1000, 10000),
            registry=registry,
        )
        self.store_errors = Counter("stillhere_store_errors", "Store operations that failed", registry=registry)

    def tell(self, counter: Counter, *labels: str) -> None:
        """Count one of something. There are few different labels, and found here they cost a tenth."""
        known = self._known.get((counter, labels))
        if known is None:
            known = self._known[counter, labels] = counter.labels(*labels)
        known.inc()

    def watch(self, statistics: Callable[[], NodeStatistics]) -> None:
        """Read the gauges from here at every scrape."""
        self.registry.register(_Gauges(statistics))

    def count(self, events: Sequence[Event]) -> None:
        """Count what happened to users."""
        for event in events:
            match event:
                case Transition(change=Change.ONLINE | Change.OFFLINE | Change.UPDATED):
                    self.tell(self.transitions, event.change, event.cause)
                    if ghost := ghost_of(event):
                        self.ghost_seconds.labels(event.cause).inc(ghost)
                case Returned():
                    self.reconnect_gap.labels(event.cause.value).observe(event.gap)
                    if event.false_offline:
                        self.false_offline.labels(event.cause.value).inc()
                        self.too_short.labels(event.cause.value).observe(too_short(event))
                case _:
                    pass


class _Gauges(Collector):
    def __init__(self, statistics: Callable[[], NodeStatistics]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        now = self._statistics()
        gauges: dict[str, tuple[str, float]] = {
            "stillhere_connections": ("Connections on this node", now.connections),
            "stillhere_users": ("Users with a connection on this node", now.users),
            "stillhere_users_present": ("Users that are online or in a window, as the store has it", now.present),
            "stillhere_users_known": ("Users that the store knows", now.known),
            "stillhere_grace_pending": ("Users with a pending window", now.windows_pending),
            "stillhere_rooms": ("Rooms with a member", now.rooms),
            "stillhere_topics": ("Users and rooms that somebody on this node follows", now.topics),
            "stillhere_loop_lag_seconds": ("How late the last tick of the timer wheel was", now.loop_lag),
            "stillhere_loop_stalled_seconds": ("Time lost to stalls of the event loop", now.loop_stalled),
            "stillhere_store_reachable": ("Whether the store answers", now.store_reachable),
            "stillhere_store_backlog": ("Changes that are not durable yet", now.store_backlog),
            "stillhere_draining": ("Whether this node is draining", now.draining),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=float(value))
        info = GaugeMetricFamily("stillhere_build_info", "The running version", labels=["version", "node"])
        info.add_metric([stillhere.__version__, now.node], 1.0)
        yield info
