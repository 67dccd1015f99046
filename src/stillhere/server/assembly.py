"""From settings to a node: the same for the command line and for an application that embeds one."""

from __future__ import annotations

import time

from stillhere.core.ledger import Limits
from stillhere.server.auth import Authenticator
from stillhere.server.node import Admit, Node
from stillhere.server.settings import Settings
from stillhere.store.contract import Store
from stillhere.store.open import open_store


def make_store(settings: Settings) -> Store:
    """The store that the settings name; the node opens it.

    Raises:
        StoreRefused: there is no such store.
    """
    return open_store(
        settings.store.url,
        time.time,
        policy=settings.grace.policy,
        limits=Limits(
            false_offline_horizon=settings.limits.false_offline_horizon,
            remember=settings.timeline.keep,
        ),
        timeline_entries=settings.timeline.entries,
        timeline_keep=settings.timeline.keep,
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
    return Node(settings, store, authenticator=authenticator, admit=admit)
