"""A short name for the software of a client, for operators who look at a connection."""

from __future__ import annotations

from functools import lru_cache

_MARKS = (
    ("Firefox/", "Firefox"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("FxiOS/", "Firefox"),
)


def client_name(user_agent: str) -> str:
    """A short name, remembered for the software that most clients have."""
    return _known(user_agent) if len(user_agent) <= 256 else _short(user_agent)


def _short(user_agent: str) -> str:
    """``Chrome 156`` from a browser's ``User-Agent``; of anything else its first product.

    Args:
        user_agent: as sent by the client, so nothing about it can be trusted; at most 40 printable characters remain.
    """
    for mark, name in _MARKS:
        at = user_agent.find(mark)
        if at >= 0:
            return f"{name} {_digits(user_agent, at + len(mark))}".strip()
    if "Safari/" in user_agent and (at := user_agent.find("Version/")) >= 0:
        return f"Safari {_digits(user_agent, at + 8)}".strip()
    product = user_agent.split(" ", 1)[0].replace("/", " ", 1)
    return "".join(c for c in product[:40] if c.isprintable())


_known = lru_cache(maxsize=256)(_short)


def _digits(text: str, start: int) -> str:
    end = start
    while end < len(text) and end < start + 6 and text[end].isdigit():
        end += 1
    return text[start:end]
