"""What a simulation found."""

from __future__ import annotations

import msgspec

from stillhere.simulation.schedule import Plan


class Violation(msgspec.Struct, frozen=True):
    """A promise that was broken."""

    at: float
    """Seconds from the start."""
    rule: str
    """Which one: ``I1`` and so on, as in ``docs/simulation.md``."""
    what: str
    user: str = ""

    def __str__(self) -> str:
        return f"{self.at:8.3f}  {self.rule}: {self.what}"


class Moment(msgspec.Struct, frozen=True):
    """A line of a trace."""

    at: float
    what: str
    user: str = ""
    """Whom it concerns; empty for everybody."""


class Report(msgspec.Struct):
    """Of one schedule."""

    plan: Plan
    seconds: float = 0.0
    """Virtual time that passed."""
    steps: int = 0
    requests: int = 0
    """That the store executed."""
    transitions: int = 0
    frames: int = 0
    """That watchers were sent."""
    checks: dict[str, int] = {}
    """How often a check was made that may be excused, by rule."""
    excuses: dict[str, int] = {}
    """How often it was excused, by rule and reason."""
    violations: list[Violation] = []
    trace: list[Moment] = []
    """Empty unless asked for."""

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations

    def story(self, user: str | None = None) -> str:
        """The trace as text.

        Args:
            user: only what concerns this one (and everybody); the user of the first violation if None.
        """
        if user is None:
            user = next((v.user for v in self.violations if v.user), "")
        lines = [f"{m.at:9.3f}  {m.user:<4} {m.what}" for m in self.trace if not user or not m.user or m.user == user]
        return "\n".join([*lines, *(f"!! {violation}" for violation in self.violations)])
