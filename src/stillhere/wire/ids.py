"""What may be an id."""

from __future__ import annotations

ID_BYTES = 256

_CONTROL = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))


def id_fault(text: str, most: int = ID_BYTES) -> str | None:
    """What is wrong with an id, as the end of a sentence; None if nothing is.

    A user id and a room name are 1 to ``most`` bytes of UTF-8 without control characters.
    """
    if not text:
        return f"is empty; it must have 1 to {most} bytes"
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return "is not valid Unicode (a lone surrogate)"
    if size > most:
        return f"has {size} bytes; it must have 1 to {most}"
    if not text.isprintable() and not _CONTROL.isdisjoint(text):
        return f"holds a control character: {text[:40]!r}"
    return None
