"""What a simulation found."""

from __future__ import annotations

from collections import Counter

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


class Total:
    """Of many schedules: sums alone, and the reports of those that broke a promise."""

    def __init__(self) -> None:
        """Of none so far."""
        self.schedules = 0
        self.bad: list[Report] = []
        self._seconds = 0.0
        self._done: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._checks: Counter[str] = Counter()
        self._excuses: Counter[str] = Counter()
        self._rules: Counter[str] = Counter()

    def add(self, report: Report) -> None:
        """One more."""
        self.schedules += 1
        self._seconds += report.seconds
        for name in ("requests", "transitions", "frames"):
            self._done[name] += getattr(report, name)
        self._faults.update(str(fault.kind) for fault in report.plan.faults)
        self._checks.update(report.checks)
        self._excuses.update(report.excuses)
        if report.violations:
            self._rules.update(violation.rule for violation in report.violations)
            self.bad.append(report)

    def told(self, seconds: float) -> str:
        """As text.

        Args:
            seconds: that it took.
        """
        done = ", ".join(f"{count:,} {name}" for name, count in self._done.items())
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self._faults.items()))
        checks = ", ".join(f"{count:,} of {rule}" for rule, count in sorted(self._checks.items()))
        rules = ", ".join(f"{count} of {rule}" for rule, count in sorted(self._rules.items()))
        lines = [
            f"{self.schedules} schedules, {self._seconds / 3600:.1f} virtual hours in {seconds:.0f} s: {done}",
            f"faults: {faults or 'none'}",
            f"checks: {checks or 'none'}",
        ]
        if self._excuses:
            lines += ["excused:", *(f"  {count:>6} {why}" for why, count in sorted(self._excuses.items()))]
        return "\n".join([*lines, f"violations: {rules or 'none'}"])
