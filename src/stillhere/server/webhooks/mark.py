"""What is remembered of a hook, by the store: how far it came, and how it goes, for every node to know."""

from __future__ import annotations

import logging

import msgspec

from stillhere.store.contract import Cursor, Store

_LOG = logging.getLogger("stillhere.webhooks")


class Mark(msgspec.Struct):
    """What is remembered of a hook, by the store."""

    cursors: list[Cursor]
    failing_since: float | None = None
    """Since when nothing was taken, Unix seconds."""
    reason: str = ""
    oldest_at: float | None = None
    """When the oldest message that waits came to be."""
    node: str = ""
    """Who delivers."""
    dead: int = 0
    """How many letters there are."""


class KeptMark:
    """The mark of one hook, where it is kept."""

    def __init__(self, store: Store, hook: str) -> None:
        """Name the hook by its id."""
        self._store = store
        self._hook = hook
        self._name = f"webhook/{hook}"
        self._written = b""

    async def read(self) -> Mark | None:
        """What the store has; None for nothing, or for what this version does not understand.

        Raises:
            StoreUnavailable.
        """
        kept = await self._store.get_mark(self._name)
        if kept is None:
            return None
        try:
            mark = msgspec.msgpack.decode(kept, type=Mark)
        except msgspec.MsgspecError:
            _LOG.warning("webhook %s begins now: what was kept of it cannot be read", self._hook)
            return None
        self._written = kept
        return mark

    async def write(self, mark: Mark) -> None:
        """Keep it, if it says anything new.

        Raises:
            StoreUnavailable.
        """
        encoded = msgspec.msgpack.encode(mark)
        if encoded != self._written:
            await self._store.set_mark(self._name, encoded)
            self._written = encoded
