"""Grace windows: how long a user stays shown as before, by the cause that ended the last connection.

Two profiles, ``steady`` and ``fast``. Why these numbers: a reload comes back within 0.6 to 8 s in the field, a
switch from Wi-Fi to a cellular network within 2 to 12 s, and 1001 is sent by a reload, a closed tab, a crash and a
closed browser alike (``docs/windows.md``).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stillhere.core.words import FINAL_CAUSES, Cause

GRACE_MAX = 300.0
"""Default bound of every window, in seconds."""

_STEADY = {
    Cause.CLIENT_CLOSE: 3.0,
    Cause.GOING_AWAY: 8.0,
    Cause.PAGE_HIDDEN: 8.0,
    Cause.ABNORMAL: 15.0,
    Cause.HEARTBEAT_LOST: 10.0,
    Cause.EXPIRED: 15.0,
    Cause.SLOW_CONSUMER: 15.0,
    Cause.PROTOCOL_ERROR: 5.0,
    Cause.NODE_DRAIN: 45.0,
    Cause.NODE_LOST: 30.0,
}
_FAST = {
    Cause.CLIENT_CLOSE: 2.0,
    Cause.GOING_AWAY: 4.0,
    Cause.PAGE_HIDDEN: 4.0,
    Cause.ABNORMAL: 8.0,
    Cause.HEARTBEAT_LOST: 5.0,
    Cause.EXPIRED: 8.0,
    Cause.SLOW_CONSUMER: 8.0,
    Cause.PROTOCOL_ERROR: 3.0,
    Cause.NODE_DRAIN: 20.0,
    Cause.NODE_LOST: 10.0,
}
PROFILES: Mapping[str, Mapping[Cause, float]] = {"steady": _STEADY, "fast": _FAST}
"""Seconds per cause; a cause that is absent has no window."""

OFFLINE_GRACE_CAUSES = (Cause.CLIENT_CLOSE, Cause.GOING_AWAY, Cause.PAGE_HIDDEN)
"""What ``PRESENCE_OFFLINE_GRACE_MS`` sets at once: the ways in which a page ends its own connection."""


class GracePolicy(msgspec.Struct, frozen=True):
    """The windows in force.

    Build it with :meth:`of`; the bare constructor takes a complete table.
    """

    windows: dict[Cause, float]
    """Seconds per cause."""

    @classmethod
    def of(
        cls,
        profile: str = "steady",
        overrides: Mapping[Cause, float] | None = None,
        *,
        longest: float = GRACE_MAX,
    ) -> GracePolicy:
        """Take a profile and change some of its windows.

        Args:
            profile: ``steady`` or ``fast``.
            overrides: seconds per cause, in place of the profile's.
            longest: no window may be longer than this, in seconds.

        Raises:
            ValueError: an unknown profile, a negative window, one above ``longest``, or one for a cause that
                never has any.
        """
        if profile not in PROFILES:
            raise ValueError(f"grace.profile is {profile!r}; it must be one of {', '.join(PROFILES)}")
        windows = {cause: min(seconds, longest) for cause, seconds in PROFILES[profile].items()}
        for cause, seconds in (overrides or {}).items():
            if cause in FINAL_CAUSES:
                raise ValueError(f"grace.{cause} cannot be set: {cause} is a departure and leaves no window")
            if not 0 <= seconds <= longest:
                raise ValueError(
                    f"grace.{cause} is {seconds * 1000:.0f} ms; it must lie between 0 and grace.max "
                    f"({longest * 1000:.0f} ms)"
                )
            windows[cause] = seconds
        return cls(windows)

    def window(self, cause: Cause) -> float:
        """The window that an end with this cause opens, in seconds; 0 for none."""
        return self.windows.get(cause, 0.0)
