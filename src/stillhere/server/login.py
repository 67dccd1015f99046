"""The ``auth`` message: log in, or renew the token of a connection."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from stillhere.server.auth import AuthError, Identity, KeysUnavailable
from stillhere.wire.codes import CloseCode, ErrorCode
from stillhere.wire.messages import Error, Ok, RequestId

if TYPE_CHECKING:
    from stillhere.server.peer import Peer


def authenticate(peer: Peer, token: str, id: RequestId) -> None:
    """Verify a token and let its bearer in; where a key has to be fetched first, later."""
    try:
        found = peer.node.authenticator.verify(token, peer.node.now())
    except AuthError as error:
        _refuse(peer, id, error)
        return
    if inspect.isawaitable(found):
        peer.hold_back()
        peer.node.tasks.spawn(_authenticate_later(peer, found, id))
    else:
        _accept(peer, found, id)


async def _authenticate_later(peer: Peer, found: Awaitable[Identity], id: RequestId) -> None:
    try:
        identity = await found
    except AuthError as error:
        _refuse(peer, id, error)
    else:
        _accept(peer, identity, id)


def _refuse(peer: Peer, id: RequestId, error: AuthError) -> None:
    """A bad token ends a connection that has not logged in; one that has stays until its own token ends.

    A token that cannot be judged at the moment is not a bad one: its bearer is asked to come again.
    """
    if peer.ended:
        return
    if isinstance(error, KeysUnavailable):
        reason, code, close = "keys", ErrorCode.UNAVAILABLE, CloseCode.TRY_AGAIN_LATER
    else:
        reason, code, close = "unauthorized", ErrorCode.UNAUTHORIZED, CloseCode.UNAUTHORIZED
    peer.node.metrics.refused.labels(reason).inc()
    peer.node.log.emit("auth_refused", reason=str(error))
    peer.say(Error(code, str(error), id))
    if peer.connection is None:
        peer.close(close, code.value)


def _accept(peer: Peer, identity: Identity, id: RequestId) -> None:
    if peer.ended:
        return
    connection = peer.connection
    if connection is None:
        refused = peer.node.gate.admit_late(peer, identity)
        if refused is not None:
            close, code, why = refused
            peer.say(Error(code, why, id))
            peer.close(close, why)
        else:
            peer.node.open(peer)
    elif identity.user != connection.user:
        peer.say(Error(ErrorCode.FORBIDDEN, "the token is for another user than this connection's", id))
    else:
        peer.renew(identity)
        peer.say(Ok(id))
