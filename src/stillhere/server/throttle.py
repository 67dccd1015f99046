"""Rates and caps: how much one peer may ask for.

Both are plain state with the time passed in; neither knows what a connection is.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum


class TokenBucket:
    """A rate with a burst: ``burst`` at once, ``rate`` per second in the long run. Starts full.

    Two floats of its own per instance; ``rate`` and ``burst`` are references to numbers that all buckets share.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        """Make a full bucket.

        Args:
            rate: tokens that come back per second.
            burst: tokens that it holds at most.

        Raises:
            ValueError: a rate that is not positive, or a burst below 1 (nothing would ever pass).
        """
        if not rate > 0:
            raise ValueError(f"a bucket's rate is {rate}; it must be more than 0 per second")
        if not burst >= 1:
            raise ValueError(f"a bucket's burst is {burst}; it must be at least 1")
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = 0.0

    def take(self, now: float, cost: float = 1) -> bool:
        """Take tokens if they are there; otherwise leave the bucket as it is.

        Args:
            now: seconds on any clock that does not go back; a step back neither gives nor takes tokens.
            cost: tokens.
        """
        level = self.level(now)
        # A clock that steps back must not be remembered: its return would be counted as time that passed.
        if now > self._at:
            self._at = now
        self._level = level
        if level < cost:
            return False
        self._level = level - cost
        return True

    def level(self, now: float) -> float:
        """Tokens at this time. Changes nothing."""
        passed = now - self._at
        if passed <= 0:
            return self._level
        return min(self.burst, self._level + passed * self.rate)

    def wait(self, now: float, cost: float = 1) -> float:
        """Seconds until ``cost`` tokens are there: what ``Retry-After`` says. Infinite above the burst."""
        if cost > self.burst:
            return float("inf")
        return max(0.0, (cost - self.level(now)) / self.rate)


class Limit(StrEnum):
    """A cap that was reached, by the name of its setting."""

    CONNECTIONS = "limits.connections"
    CONNECTIONS_PER_USER = "limits.connections_per_user"
    CONNECTIONS_PER_IP = "limits.connections_per_ip"


class Caps:
    """How many connections there may be: in all, per user and per address.

    A connection enters with its address at the upgrade, is given its user once it has authenticated, and leaves once.
    The counts follow from the connections held here, so that a repeated or unknown leave changes nothing and no count
    can drift or fall below zero.
    """

    __slots__ = ("_ips", "_members", "_users", "per_ip", "per_user", "total")

    def __init__(self, total: int, per_user: int, per_ip: int) -> None:
        self.total = total
        self.per_user = per_user
        self.per_ip = per_ip
        self._members: dict[str, tuple[str, str | None]] = {}
        self._users: dict[str, int] = {}
        self._ips: dict[str, int] = {}

    def enter(self, connection: str, ip: str) -> Limit | None:
        """Count a connection, before its user is known.

        Args:
            connection: its id; to enter twice is to enter once.
            ip: the peer's address; an empty one (unknown to the transport) is counted only in the total.

        Returns:
            The cap that keeps it out, or None: it is in.
        """
        if connection in self._members:
            return None
        if len(self._members) >= self.total:
            return Limit.CONNECTIONS
        network = network_of(ip)
        if network and self._ips.get(network, 0) >= self.per_ip:
            return Limit.CONNECTIONS_PER_IP
        self._members[connection] = (network, None)
        if network:
            self._ips[network] = self._ips.get(network, 0) + 1
        return None

    def identify(self, connection: str, user: str, *, supersedes: str | None = None) -> Limit | None:
        """Say whose connection it is.

        Args:
            connection: one that has entered.
            user: its user.
            supersedes: a connection of the same user that this one is about to replace. It is not counted, so that a
                user at the cap can still reload a tab.

        Returns:
            The cap that keeps it out (it is still counted in the total until it leaves), or None.

        Raises:
            KeyError: the connection has not entered, or has left.
        """
        network, known = self._members[connection]
        if known == user:
            return None
        others = self._users.get(user, 0)
        if supersedes is not None and supersedes != connection:
            old = self._members.get(supersedes)
            if old is not None and old[1] == user:
                others -= 1
        if others >= self.per_user:
            return Limit.CONNECTIONS_PER_USER
        if known is not None:
            _drop(self._users, known)
        self._members[connection] = (network, user)
        self._users[user] = self._users.get(user, 0) + 1
        return None

    def release(self, connection: str) -> None:
        """It counts for its user no longer (it was superseded, for example), but its socket is still there."""
        member = self._members.get(connection)
        if member is not None and member[1] is not None:
            _drop(self._users, member[1])
            self._members[connection] = (member[0], None)

    def leave(self, connection: str) -> None:
        """Forget a connection; one that is not here is no error."""
        member = self._members.pop(connection, None)
        if member is None:
            return
        network, user = member
        if network:
            _drop(self._ips, network)
        if user is not None:
            _drop(self._users, user)

    def __len__(self) -> int:
        """Connections in all."""
        return len(self._members)

    def of_user(self, user: str) -> int:
        """Connections of one user."""
        return self._users.get(user, 0)

    def of_ip(self, ip: str) -> int:
        """Connections that count against one address."""
        return self._ips.get(network_of(ip), 0)


def network_of(ip: str) -> str:
    """What an address counts as: an IPv4 address itself, an IPv6 address its /64.

    One subscriber usually has a whole /64: counted by address, a cap on IPv6 would cap nothing. Text that is no
    address counts as itself.
    """
    if ":" not in ip:
        return ip
    try:
        address = ipaddress.IPv6Address(ip)
    except ValueError:
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


def _drop(counts: dict[str, int], name: str) -> None:
    left = counts[name] - 1
    if left:
        counts[name] = left
    else:
        del counts[name]
