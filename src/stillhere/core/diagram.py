"""The two machines as drawings, made from their tables: ``docs/states.md`` is this text.

A drawing cannot be forgotten when a rule changes: ``scripts/draw_states.py`` writes the page, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from stillhere.core.connection import TRANSITIONS
from stillhere.core.windows import PHASES
from stillhere.core.words import Phase, ReadyState

State = TypeVar("State", bound=StrEnum)
What = TypeVar("What", bound=StrEnum)

_CONNECTION = """\
One WebSocket, as its node sees it (`core/connection.py`). OPEN and CLOSING are **active**: they make the user present.
What may happen to a closed connection is accepted and changes nothing, because closes come late and twice in the field;
a pair that is neither drawn nor listed is a mistake of the calling code and raises `LocalMisuse`.
"""
_KEY = """\
A user, for the whole installation (`core/windows.py`). What the arrows bear is what the connections and windows of all
nodes amount to after a change; the store looks at them after every contribution and every deadline. Windows are opened
by an end, by its cause, and ended by a bye, a kick or their deadline; a connection covers them and does not end them.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join(
        [
            "# The two machines",
            "",
            "Drawn from the tables in the code by `python scripts/draw_states.py`; a test compares. Do not edit.",
            "",
            "## A connection",
            "",
            _CONNECTION,
            mermaid(TRANSITIONS, start=[ReadyState.CONNECTING], end=[ReadyState.CLOSED]),
            "Without effect:",
            "",
            *unmoved(TRANSITIONS),
            "",
            "## A presence key",
            "",
            _KEY,
            mermaid(PHASES, start=[Phase.OFFLINE]),
            "Without effect:",
            "",
            *unmoved(PHASES),
            "",
        ]
    )


def mermaid(table: Mapping[tuple[State, What], State], *, start: Iterable[State], end: Iterable[State] = ()) -> str:
    """Draw a table of transitions as a state diagram.

    Args:
        table: (state, input) to the state after it.
        start: the states that a machine starts in.
        end: the states that it ends in.

    Returns:
        A fenced block; inputs that lead from one state to the same other share an arrow, those without effect have
        none.
    """
    arrows: dict[tuple[State, State], list[What]] = {}
    for (before, what), after in table.items():
        if before is not after:
            arrows.setdefault((before, after), []).append(what)
    lines = ["```mermaid", "stateDiagram-v2", *(f"    [*] --> {state}" for state in start)]
    lines += [f"    {a} --> {b}: {' / '.join(whats)}" for (a, b), whats in arrows.items()]
    lines += [*(f"    {state} --> [*]" for state in end), "```", ""]
    return "\n".join(lines)


def unmoved(table: Mapping[tuple[State, What], State]) -> list[str]:
    """A line for each state with inputs that leave it as it is."""
    same: dict[State, list[What]] = {}
    for (before, what), after in table.items():
        if before is after:
            same.setdefault(before, []).append(what)
    return [f"- {state}: {' / '.join(whats)}" for state, whats in same.items()]
