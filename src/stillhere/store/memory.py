"""A store that forgets with its process: for tests, demos and simulation."""

from __future__ import annotations

from stillhere.store.local import LocalStore


class MemoryStore(LocalStore):
    """The ledger alone; acknowledged means applied."""

    kind = "memory"
