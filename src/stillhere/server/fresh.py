"""Ids for connections and sessions: random ones, made many at a time."""

from __future__ import annotations

import secrets

AT_ONCE = 64
"""A call of the system for each id costs more than all the rest of it."""


class FreshIds:
    """Gives ids that nobody has had, in base64url.

    Args:
        size: bytes of randomness in each; a multiple of three, so that an id is a whole number of characters.
    """

    __slots__ = ("_left", "_size")

    def __init__(self, size: int) -> None:
        if size % 3:
            raise ValueError(f"ids of {size} bytes; base64 needs a multiple of three")
        self._size = size
        self._left: list[str] = []

    def take(self) -> str:
        """The next one."""
        left = self._left
        if not left:
            text = secrets.token_urlsafe(self._size * AT_ONCE)
            each = len(text) // AT_ONCE
            left.extend(text[at : at + each] for at in range(0, each * AT_ONCE, each))
        return left.pop()
