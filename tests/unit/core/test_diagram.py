"""The drawings of the two machines."""

from __future__ import annotations

from pathlib import Path

from stillhere.core.connection import TRANSITIONS, Input
from stillhere.core.diagram import mermaid, page, unmoved
from stillhere.core.words import ReadyState

STATES = Path(__file__).resolve().parents[3] / "docs" / "states.md"


def test_the_page_of_the_machines_is_current() -> None:
    assert STATES.read_text(encoding="utf-8") == page(), "run python scripts/draw_states.py"


def test_every_pair_of_the_tables_is_drawn_or_listed() -> None:
    for (before, what), after in TRANSITIONS.items():
        arrow = f"{before} --> {after}: "
        drawn = [line for line in page().splitlines() if arrow in line and what in line]
        listed = [line for line in unmoved(TRANSITIONS) if line.startswith(f"- {before}:") and what in line]
        assert bool(drawn) is (before is not after)
        assert bool(listed) is (before is after)


def test_inputs_that_lead_to_the_same_state_share_an_arrow() -> None:
    opened, closing, closed = ReadyState.OPEN, ReadyState.CLOSING, ReadyState.CLOSED
    table = {
        (opened, Input.LOST): closed,
        (opened, Input.DEPARTED): closed,
        (opened, Input.CLOSE_SENT): closing,
        (closing, Input.CLOSE_SENT): closing,
    }
    assert mermaid(table, start=[opened]) == (
        "```mermaid\n"
        "stateDiagram-v2\n"
        "    [*] --> OPEN\n"
        "    OPEN --> CLOSED: TCP ended / departed\n"
        "    OPEN --> CLOSING: close frame sent\n"
        "```\n"
    )
    assert unmoved(table) == ["- CLOSING: close frame sent"]
