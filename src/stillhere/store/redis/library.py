"""The function library: its text, and the names of its functions.

The name bears a digest of the text, so two builds of the library live side by side while a deploy replaces nodes one by
one; what must not mix is the form of the records, and that is what :data:`SCHEMA` stands for.
"""

from __future__ import annotations

import hashlib
from importlib import resources

SCHEMA = 3
"""The form of keys and records. A store that was written with another one is refused."""


class Library:
    """The Lua sources, put together in the order of their names."""

    def __init__(self) -> None:
        """Read them."""
        folder = resources.files("stillhere.store.redis") / "lua"
        parts = sorted((part for part in folder.iterdir() if part.name.endswith(".lua")), key=lambda part: part.name)
        source = "\n".join(part.read_text(encoding="utf-8") for part in parts)
        self.name = f"stillhere_{SCHEMA}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        self.text = f"#!lua name={self.name}\n" + source.replace("@LIBRARY@", self.name)

    def function(self, operation: str) -> str:
        """The name of an operation's function."""
        return f"{self.name}_{operation}"


LIBRARY = Library()
