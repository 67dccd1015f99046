"""Bounds of a connection, the same whatever carries it."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 32768
HIGH_WATER = 65536
"""Unsent bytes above which an endpoint is told that its outbox is full."""
LOW_WATER = 16384
"""And below which, afterwards, that there is room again."""
