"""How a command fails: sentences on the standard error, and an exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

import click

from stillhere.cli.output import safe

FAILED = 1
"""The command did not do what it was asked."""

REFUSED = 2
"""Settings, arguments or the machine do not allow it; trying again does not help."""


INTERRUPTED = 130
"""Ended by Ctrl-C, as shells have it."""


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """For what goes on until Ctrl-C: that is its proper end, and nothing to complain about."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


class Failure(click.ClickException):
    """Ends the command; each sentence is a line on the standard error."""

    def __init__(self, *sentences: str, status: int = FAILED) -> None:
        """Say what was wrong and what would be right.

        Args:
            sentences: one a problem; what is not printable in them is escaped.
            status: the exit status.
        """
        super().__init__("\n".join(sentences))
        self.sentences: Sequence[str] = sentences
        self.exit_code = status  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentences; click calls this."""
        for sentence in self.sentences:
            click.echo(f"stillhere: {safe(sentence)}", file=file, err=True)
