"""Text that must not be shown: HMAC secrets, API keys, passwords in URLs."""

from __future__ import annotations

import hmac
from typing import NoReturn

REDACTED = "***"


class Secret:
    """A secret text. Printing, formatting or logging it gives ``***``; only :meth:`reveal` gives the text.

    It is not a ``str``: a subclass would leak through ``"".join``, slicing and every JSON encoder.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Wrap a text.

        Raises:
            ValueError: it is empty, or holds a character that has no UTF-8 (a lone surrogate).
        """
        if not text:
            raise ValueError("a secret must not be empty")
        try:
            text.encode()
        except UnicodeEncodeError:
            # "from None" and no value: the error of the codec would carry the secret.
            raise ValueError("a secret must be valid Unicode text") from None
        self._text = text

    def reveal(self) -> str:
        """The secret itself: only for the code that computes with it."""
        return self._text

    @property
    def size(self) -> int:
        """Length in bytes of UTF-8."""
        return len(self._text.encode())

    def matches(self, presented: str) -> bool:
        """Whether a presented text is this secret, in a time that does not depend on where they differ."""
        return hmac.compare_digest(self._text.encode(), presented.encode(errors="surrogatepass"))

    def __eq__(self, other: object) -> bool:
        return self.matches(other._text) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied: pass the object itself")
