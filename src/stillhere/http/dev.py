"""Calls of the development server: log in as anybody, and break one's own network. Never mounted otherwise."""

from __future__ import annotations

import secrets

import msgspec
from starlette.responses import Response

from stillhere.core.words import ConnectionId
from stillhere.http.answers import Drop, Dropped, Login, Token
from stillhere.http.call import Call, answer, checked_id
from stillhere.http.operations import Access, Answer, Operation
from stillhere.server.auth import mint
from stillhere.server.secrets import Secret
from stillhere.wire.frames import ms


class DevMode(msgspec.Struct, frozen=True):
    """The development server.

    Attributes:
        secret: with which tokens are made; the node's authenticator must accept it.
        ttl: how long a token lives, in seconds.
    """

    secret: Secret
    ttl: float = 3600.0


async def _token(call: Call) -> Response:
    """A token that may do everything, for a made-up user."""
    dev = call.api.dev
    assert dev is not None
    user = checked_id("the user", (await call.body(Login)).user)
    now = call.api.node.now()
    settings = call.api.node.settings.auth
    hmac = [name for name in settings.accepted_algorithms if name.startswith("HS")]
    token = mint(
        dev.secret,
        user,
        now=now,
        ttl=dev.ttl,
        algorithm=hmac[0] if hmac else "HS256",
        sid=f"s_{secrets.token_urlsafe(9)}",  # one log-in: it stays the same across reloads
        watch="*",
        rooms="*",
        scope="admin",
        audience=settings.audience,
        issuer=settings.issuer,
    )
    return answer(Token(token, ms(int(now + dev.ttl))))


async def _drop(call: Call) -> Response:
    """Abort the TCP connection under a WebSocket, as a broken network would."""
    wanted = await call.body(Drop)
    return answer(Dropped(call.api.node.drop(ConnectionId(wanted.connection_id))))


OPERATIONS = (
    Operation(
        method="POST",
        path="/dev/token",
        handler=_token,
        tag="Development",
        summary="Log in as anybody",
        description="Only on the development server, and only for programs and pages of the same machine.",
        access=Access.LOCAL,
        body=Login,
        body_example=Login("alice"),
        answer=Answer(Token, example=Token("<token>", 1_790_003_600_000), description="A token with the scope admin."),
    ),
    Operation(
        method="POST",
        path="/dev/drop",
        handler=_drop,
        tag="Development",
        summary="Abort a connection's TCP",
        description="What a page cannot do to itself: its network breaks, without a close frame.",
        access=Access.LOCAL,
        body=Drop,
        body_example=Drop("c_7dQxW1mPz0aBcDeF"),
        answer=Answer(Dropped, example=Dropped(True), description="Whether there was such a connection."),
    ),
)
