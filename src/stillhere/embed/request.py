"""What an application is shown of an upgrade, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from starlette.requests import cookie_parser

from stillhere.core.words import SessionId, UserId
from stillhere.server.auth import Identity
from stillhere.server.socket import UpgradeRequest
from stillhere.server.visibility import Patterns
from stillhere.wire.ids import id_fault

NEVER = 95_617_584_000.0
"""An end that is none: in the year 5000, in Unix seconds. The wire has a number there in any case."""


class Request:
    """The upgrade request that ``authenticate`` judges. Nothing of it has been believed yet but its ``Origin``."""

    def __init__(self, upgrade: UpgradeRequest, token: str | None = None) -> None:
        """Show an upgrade.

        Args:
            upgrade: as the transport read it.
            token: the bearer token, wherever it was.
        """
        self.path = upgrade.path
        self.headers: Mapping[str, str] = upgrade.headers
        """Lower-case names; of a repeated header, the values joined with ``, ``."""
        self.query: Mapping[str, str] = upgrade.query
        self.remote = upgrade.remote
        """The peer's address; behind a proxy, that of the proxy."""
        self.scope: Mapping[str, Any] = upgrade.scope
        """The ASGI scope, with all that your own middleware has put there."""
        self.token = token
        """From ``Authorization: Bearer`` or from the subprotocol ``bearer.<token>``."""

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """By name."""
        return cookie_parser(self.headers.get("cookie", ""))

    @property
    def session(self) -> Mapping[str, Any]:
        """The session that a middleware has put into the scope, as Starlette's ``SessionMiddleware`` does.

        Raises:
            RuntimeError: there is none.
        """
        return self._of_scope("session", "SessionMiddleware")  # type: ignore[no-any-return]

    @property
    def user(self) -> Any:
        """The user that a middleware has put into the scope, as Starlette's ``AuthenticationMiddleware`` does.

        Raises:
            RuntimeError: there is none.
        """
        return self._of_scope("user", "AuthenticationMiddleware")

    def _of_scope(self, name: str, middleware: str) -> Any:
        if name not in self.scope:
            raise RuntimeError(f"there is no {name} in the scope; {middleware} has to surround what presence is in")
        return self.scope[name]


def identity(
    user: str,
    *,
    session: str | None = None,
    info: Mapping[str, Any] | None = None,
    watch: str | Iterable[str] | None = None,
    rooms: str | Iterable[str] | None = None,
    expires_at: float | None = None,
) -> Identity:
    """Say who somebody is: what ``authenticate`` returns.

    Args:
        user: the id, 1 to 256 bytes of UTF-8 without control characters.
        session: one log-in of the user; a log-out ends its windows. It is shown to operators and to the client, so it
            must not be a secret such as a session key.
        info: a JSON object that watchers are shown, at most ``limits.info_bytes`` long.
        watch: whom the user may watch: ``"*"``, or ids and ``prefix:*`` patterns; None for nobody but himself. Where
            the application has a ``may_watch``, that decides instead.
        rooms: which rooms the user may join; the same, with ``may_join``.
        expires_at: when the connection ends with 4001, Unix seconds; None for never.

    Raises:
        ValueError: an id that cannot be one, or patterns that are none.
    """
    for what, text in (("user id", user), ("session id", session)):
        if text is not None and (fault := id_fault(text)) is not None:
            raise ValueError(f"the {what} {text[:40]!r} {fault}")
    return Identity(
        user=UserId(user),
        expires_at=NEVER if expires_at is None else float(expires_at),
        session=None if session is None else SessionId(session),
        info=None if info is None else dict(info),
        watch=Patterns.of(watch, own=user),
        rooms=Patterns.of(rooms),
    )
