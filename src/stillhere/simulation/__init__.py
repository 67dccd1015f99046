"""A cluster in one process, under a virtual clock and a hail of faults; every step is held against the promises.

Three nodes with their production code on a shared store whose engine, network and clock can be troubled at will.
:func:`simulate` runs one schedule; ``python -m stillhere.simulation 0-299`` runs many. ``docs/simulation.md`` says what
is troubled and what is checked.
"""

from __future__ import annotations

from stillhere.simulation.report import Report, Violation
from stillhere.simulation.schedule import Fault, FaultKind, Plan
from stillhere.simulation.world import simulate

__all__ = ["Fault", "FaultKind", "Plan", "Report", "Violation", "simulate"]
