"""From settings to a node: the same for the command line and for an application that embeds one."""

from __future__ import annotations

import time
from collections.abc import Callable

from stillhere.core.clock import ClockLimits
from stillhere.core.leases import Limits
from stillhere.server.auth import Authenticator
from stillhere.server.node import Admit, Node
from stillhere.server.reach import ask_ready
from stillhere.server.settings import Settings
from stillhere.store.contract import Store
from stillhere.store.open import open_store


def cluster_clock(lease: float, beat: float) -> ClockLimits:
    """The clock of a shared store: after trouble every node gets a beat and a second to say that it is there.

    Args:
        lease: seconds.
        beat: seconds.
    """
    return ClockLimits(gap_hold=beat + 1.0, recovery_hold=lease + beat)


def make_store(settings: Settings, now: Callable[[], float] = time.time) -> Store:
    """The store that the settings name; the node opens it.

    Args:
        settings: checked settings.
        now: the time of the store, Unix seconds.

    Raises:
        StoreRefused: there is no such store.
    """
    shared = settings.store.url.lower().startswith("redis")
    return open_store(
        settings.store.url,
        now,
        policy=settings.grace.policy,
        limits=Limits(
            false_offline_horizon=settings.limits.false_offline_horizon,
            remember=settings.timeline.keep,
            late_news=max(Limits().late_news, *settings.grace.policy.windows.values()),
            watchers_outlive=shared,
            clock=cluster_clock(settings.cluster.lease, settings.cluster.beat) if shared else ClockLimits(),
        ),
        timeline_entries=settings.timeline.entries,
        timeline_keep=settings.timeline.keep,
        partitions=settings.cluster.partitions,
    )


def make_node(settings: Settings, *, admit: Admit | None = None) -> Node:
    """A node with its store and its keys; nothing is opened before :meth:`Node.start`.

    Args:
        settings: checked settings.
        admit: the application's own word about an authenticated upgrade.

    Raises:
        StoreRefused, KeysError, ValueError: the store or the keys cannot be used.
    """
    store = make_store(settings)
    authenticator = Authenticator.of(settings.auth, info_bytes=settings.limits.info_bytes)
    return Node(settings, store, authenticator=authenticator, admit=admit, ask=ask_ready)
