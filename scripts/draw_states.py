"""Write docs/states.md from the tables in the code."""

from __future__ import annotations

from pathlib import Path

from stillhere.core.diagram import page

if __name__ == "__main__":
    Path(__file__).resolve().parents[1].joinpath("docs", "states.md").write_text(page(), encoding="utf-8")
