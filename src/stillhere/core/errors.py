"""What may go wrong inside the core.

::

    StillhereError
    ├── LocalMisuse        the calling code is wrong: an unknown connection, an impossible order
    └── RemoteFault        somebody else is: see stillhere.store.contract and stillhere.wire.codes
"""

from __future__ import annotations


class StillhereError(Exception):
    """Root of every error that Stillhere raises on purpose."""


class LocalMisuse(StillhereError):
    """The caller broke the contract of an object; the state is unchanged."""


class RemoteFault(StillhereError):
    """A peer, a token or a store did something that it must not, or cannot be reached."""
