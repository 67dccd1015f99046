"""Problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import msgspec


class Problem(msgspec.Struct, omit_defaults=True):
    """What an HTTP error says."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


def problem(status: int, detail: str) -> bytes:
    """Encode one: the title is that of the status, the detail says what was wrong and what would be right."""
    return msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, detail))
