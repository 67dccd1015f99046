"""Who comes in: the application's ``authenticate`` beside tokens, and its rules about whom they may see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.exceptions import HTTPException

from stillhere.embed.callbacks import Callbacks
from stillhere.embed.errors import HostFailed, NotAuthenticated, TooSlow
from stillhere.embed.permission import Asked, Rule
from stillhere.embed.request import Request, identity
from stillhere.server.auth import Authenticator, AuthError, Identity
from stillhere.server.socket import UpgradeRequest

Authenticate = Callable[[Request], Identity | str | Awaitable[Identity | str | None] | None]
"""Says who this is: an identity, or a user id; None refuses with 401."""


class Entry:
    """Makes an identity of an upgrade. Fulfils :data:`stillhere.server.gate.Recognise`."""

    def __init__(
        self,
        tokens: RuledAuthenticator,
        callbacks: Callbacks,
        authenticate: Authenticate | None,
        *,
        knows_tokens: bool,
        timeout: float,
        info_bytes: int,
        now: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            tokens: verifies tokens, and applies the rules.
            callbacks: calls the application.
            authenticate: the application's word.
            knows_tokens: whether there is a key; then a token in the request is verified, and nobody else is asked.
            timeout: seconds that the application may take.
            info_bytes: longest ``info``, as compact JSON.
            now: Unix seconds.
        """
        self._tokens = tokens
        self._callbacks = callbacks
        self._authenticate = authenticate
        self._knows_tokens = knows_tokens
        self._timeout = timeout
        self._info_bytes = info_bytes
        self._now = now

    def recognise(self, upgrade: UpgradeRequest, token: str | None) -> Identity | Awaitable[Identity]:
        """Say who asks for an upgrade.

        Raises:
            AuthError: nobody is let in. The awaitable raises the same, and HostFailed.
        """
        if token is not None and self._knows_tokens:
            return self._tokens.verify(token, self._now())
        return self._ask(Request(upgrade, token))

    async def _ask(self, request: Request) -> Identity:
        assert self._authenticate is not None
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._callbacks.call(self._authenticate, request)
        except TimeoutError:
            self._callbacks.failed("authenticate", "late")
            raise TooSlow(f"authenticate took longer than {self._timeout:g} s; try again") from None
        except AuthError:
            raise
        except HTTPException as error:
            if 400 <= error.status_code < 500:  # the way in which a Starlette or FastAPI application says no
                raise NotAuthenticated(error.detail) from None
            raise self._broken("raised", f"authenticate raised {error!r}") from error
        except Exception as error:
            raise self._broken("raised", f"authenticate raised {type(error).__name__}") from error
        return self._tokens.ruled(self._checked(answer))

    def _checked(self, answer: Any) -> Identity:
        if answer is None or answer is False:
            raise NotAuthenticated("the application does not know you; log in first")
        if isinstance(answer, str):
            try:
                answer = identity(answer)
            except ValueError as error:
                raise self._broken("wrong", f"authenticate returned what cannot be a user: {error}") from None
        if not isinstance(answer, Identity):
            right = "it must be identity(…), a user id or None"
            raise self._broken("wrong", f"authenticate returned {answer!r:.80}; {right}")
        if answer.info is not None:
            try:
                size = len(msgspec.json.encode(answer.info))
            except (TypeError, ValueError) as error:
                raise self._broken("wrong", f"authenticate returned an info that is no JSON: {error}") from None
            if size > self._info_bytes:
                most = f"limits.info_bytes allows {self._info_bytes}"
                raise self._broken("wrong", f"authenticate returned an info of {size} bytes; {most}")
        if answer.expires_at <= self._now():
            raise NotAuthenticated("the session has expired; log in again")
        return answer

    def _broken(self, why: str, message: str) -> HostFailed:
        self._callbacks.failed("authenticate", why)
        return HostFailed(message)


class RuledAuthenticator(Authenticator):
    """Verifies tokens; whom their bearers may see, the application's rules say, where it has some."""

    watch: Rule | None = None
    rooms: Rule | None = None

    def verify(self, token: str | bytes, now: float) -> Identity | Awaitable[Identity]:
        """See :meth:`Authenticator.verify`."""
        found = super().verify(token, now)
        return self.ruled(found) if isinstance(found, Identity) else self._ruled_later(found)

    async def _ruled_later(self, found: Awaitable[Identity]) -> Identity:
        return self.ruled(await found)

    def ruled(self, identity: Identity) -> Identity:
        """The identity, with the rules in place of its own patterns."""
        if self.watch is None and self.rooms is None:
            return identity
        return msgspec.structs.replace(
            identity,
            watch=identity.watch if self.watch is None else Asked(self.watch, identity, identity.user),
            rooms=identity.rooms if self.rooms is None else Asked(self.rooms, identity, None),
        )
