"""Whom a token lets its bearer see: the ``watch`` and ``rooms`` claims.

Deny by default: an absent claim allows nothing. Who is not allowed gets, byte for byte, the answer for a user who
does not exist, so that ids cannot be probed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

import msgspec

_NONE: frozenset[str] = frozenset()


class Visible(Protocol):
    """Which ids somebody may see."""

    def allows(self, name: str) -> bool:
        """Whether this id is one of them. Of an id that still has to be asked for: no."""
        ...

    def ask(self, names: Sequence[str]) -> Awaitable[None] | None:
        """What has to be awaited before :meth:`allows` can tell of these ids; None for nothing. It never raises."""
        ...


class Patterns(msgspec.Struct, frozen=True, gc=False):
    """A set of ids, given by name, by prefix, or as everything. Build it with :meth:`of`."""

    everything: bool = False
    ids: frozenset[str] = _NONE
    prefixes: frozenset[str] = _NONE
    """Each with its colon: ``team:7:``."""
    own: str | None = None
    """The bearer. A user may always watch himself: he knows his own presence anyway, and his other tabs show it."""

    @classmethod
    def of(cls, claim: str | Iterable[str] | None, *, own: str | None = None) -> Patterns:
        """Read a claim.

        Args:
            claim: ``"*"`` for everything, or ids and ``prefix:*`` patterns; None for nothing. ``"*"`` in a list is
                everything too. Only a star after a colon is a pattern: ``bob*`` is the id of somebody called that.
            own: an id that is allowed whatever the claim says; for ``watch`` the user of the token.

        Raises:
            ValueError: a text other than ``"*"`` in place of a list, or an empty entry.
        """
        if claim is None:
            return cls(own=own)
        if isinstance(claim, str):
            if claim != "*":
                raise ValueError(f'must be "*" or a list; for one id write [{claim[:64]!r}]')
            return cls(everything=True, own=own)
        ids: set[str] = set()
        prefixes: set[str] = set()
        for entry in claim:
            if not entry:
                raise ValueError("must not hold an empty entry")
            if entry == "*":
                return cls(everything=True, own=own)
            if entry.endswith(":*"):
                prefixes.add(entry[:-1])
            else:
                ids.add(entry)
        return cls(ids=frozenset(ids) or _NONE, prefixes=frozenset(prefixes) or _NONE, own=own)

    def ask(self, names: Sequence[str]) -> None:
        """A claim says it all: there is nothing to wait for."""

    def allows(self, name: str) -> bool:
        """Whether this id is in the set: a look-up by name, and one per colon of the id; never a scan of the claim."""
        if self.everything or name == self.own or name in self.ids:
            return True
        prefixes = self.prefixes
        if not prefixes:
            return False
        end = name.find(":")
        while end >= 0:
            if name[: end + 1] in prefixes:
                return True
            end = name.find(":", end + 1)
        return False
