"""The gate: who may open a connection. Every refusal is a plain HTTP answer, before the 101.

In this order, cheapest first: draining, the store out of reach, capacity, the host and origin, the parameters, the
token, the cap per user, and last the application's own word (``admit``). While that is awaited the upgrade is in
flight: the store knows, and no OFFLINE is shown before its outcome.

A node that has not reached its store for a beat lets nobody in (rule R9): the welcome follows the store's word, which
is not to be had, and another node may be able to give it. What is awaited meanwhile is judged by how the store is when
it comes; whoever was let in before the store went away waits for the welcome. A store in this process is different. It
applies what it is told although it cannot write it down, and there is no other node: whoever comes back is let in,
since with a refusal a window would run out that need not.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from stillhere.core.words import ReadyState
from stillhere.server.auth import AuthError, Identity, KeysUnavailable
from stillhere.server.client_names import client_name
from stillhere.server.fresh import FreshIds
from stillhere.server.origins import client_ip
from stillhere.server.peer import Peer, stated
from stillhere.server.problems import problem
from stillhere.server.socket import SUBPROTOCOL, Refusal, UpgradeRequest, Verdict, Welcome
from stillhere.server.throttle import Caps, Limit
from stillhere.wire.codes import CloseCode, ErrorCode
from stillhere.wire.ids import id_fault

if TYPE_CHECKING:
    from stillhere.server.node import Admit, Node

Recognise = Callable[[UpgradeRequest, str | None], Identity | Awaitable[Identity]]
"""Tells who asks for an upgrade, from the request and its token, if it has one. Raises as
:meth:`stillhere.server.auth.Authenticator.verify` does."""

_BEARER = "bearer."
_TAB_BYTES = 128
_RETRY_AFTER = "2"
_CUT_OFF = "this node cannot reach its store; reconnect"


class GateKeeper:
    """Fulfils :class:`stillhere.server.socket.Gate` for a node."""

    def __init__(self, node: Node, admit: Admit | None) -> None:
        """Take the node's limits and origins."""
        settings = node.settings
        self._node = node
        self._admit = admit
        self._origins = settings.origins.policy
        self._proxies = settings.server.proxies
        self._claims = FreshIds(12)
        self.recognise: Recognise | None = None
        """Set by an application that embeds the node and knows its users by other means than tokens."""
        limits = settings.limits
        self.caps = Caps(limits.connections, limits.connections_per_user, limits.connections_per_ip)

    def greet(self, request: UpgradeRequest) -> Verdict | Awaitable[Verdict]:
        """Judge an upgrade."""
        node = self._node
        if node.draining:
            return self._refuse("draining", 503, "this node is draining; reconnect", retry=True)
        if node.cut_off:
            return self._refuse_cut_off()
        headers = request.headers
        if not self._origins.trusts_host(headers.get("host")):
            return self._refuse("host", 421, f"the Host {headers.get('host', '')[:128]!r} is not one of this server's")
        token, protocols = self._token(request)
        # who has no Origin is no browser, and brings a token in any case: here, or in the first message; but where an
        # application recognises its users by themselves, a cookie say, that has to be the token in this request
        bearer = token is not None or self.recognise is None
        decision = self._origins.decide(headers.get("origin"), headers.get("host"), bearer=bearer)
        if not decision.allowed:
            return self._refuse("origin", 403, decision.reason)
        if protocols and SUBPROTOCOL not in protocols:
            return self._refuse(
                "protocol", 400, f"this server speaks the subprotocol {SUBPROTOCOL} and none of those offered"
            )
        tab = request.query.get("tab", "")
        fault = id_fault(tab, _TAB_BYTES) if tab else None
        if fault is not None:
            return self._refuse("parameters", 400, f"the parameter tab {fault}")
        try:
            availability = stated(request.query.get("availability"))
        except ValueError as error:
            return self._refuse("parameters", 400, f"the parameter {error}")
        claim = f"c_{self._claims.take()}"
        hit = self.caps.enter(claim, client_ip(request.remote, headers, self._proxies))
        if hit is not None:
            status = 503 if hit is Limit.CONNECTIONS else 429
            return self._refuse("capacity", status, f"{hit.value} is reached; try again later", retry=True)
        peer = Peer(node, claim, None, probe=request.query.get("probe") == "1")
        peer.hello = (tab, client_name(headers.get("user-agent", "")), availability)
        selected = SUBPROTOCOL if protocols else None
        if token is None and self.recognise is None:
            return Welcome(peer, selected)
        try:
            if self.recognise is not None:
                identity = self.recognise(request, token)
            else:
                identity = node.authenticator.verify(token or "", node.now())
        except AuthError as error:
            return self._unauthorized(claim, error)
        except BaseException:
            self.leave(claim)
            raise
        if inspect.isawaitable(identity):
            return self._later(self._judge_later(request, peer, identity, selected), peer)
        return self._judge(request, peer, identity, selected)

    def admit_late(self, peer: Peer, identity: Identity) -> tuple[CloseCode, ErrorCode, str] | None:
        """The same for a connection whose first message authenticated; None if it may stay.

        ``admit`` has no say here: there is no upgrade left to refuse. An application that needs it demands the token
        with the request.
        """
        if self._admit is not None:
            return CloseCode.UNAUTHORIZED, ErrorCode.UNAUTHORIZED, "this server wants the token with the upgrade"
        if self._node.cut_off:
            return CloseCode.TRY_AGAIN_LATER, ErrorCode.UNAVAILABLE, _CUT_OFF
        hit = self._identify(peer, identity)
        if hit is not None:
            return CloseCode.OVER_CAPACITY, ErrorCode.TOO_MANY, f"{hit.value} is reached"
        self._begin(peer, identity, in_flight=False)
        return None

    def leave(self, claim: str) -> None:
        """A connection is over."""
        self.caps.leave(claim)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _token(self, request: UpgradeRequest) -> tuple[str | None, list[str]]:
        """The bearer token, wherever it is, and the subprotocols offered without it."""
        offered = [p.strip() for p in request.headers.get("sec-websocket-protocol", "").split(",") if p.strip()]
        protocols = [p for p in offered if not p.startswith(_BEARER)]
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and credentials:
            return credentials.strip(), protocols
        for p in offered:
            if p.startswith(_BEARER):
                return p[len(_BEARER) :], protocols
        if self._node.settings.auth.allow_query_token and "token" in request.query:
            return request.query["token"], protocols
        return None, protocols

    def _later(self, verdict: Coroutine[Any, Any, Verdict], peer: Peer) -> Awaitable[Verdict]:
        """A task, since a coroutine that is cancelled before its first step could not clean up after itself."""
        task = asyncio.get_running_loop().create_task(verdict)
        task.add_done_callback(lambda done: self._failed(done, peer))
        return task

    def _failed(self, verdict: asyncio.Task[Verdict], peer: Peer) -> None:
        """The client went away, or there is a mistake in this program: in both cases there is no connection."""
        if verdict.cancelled() or verdict.exception() is not None:
            self._node.refuse(peer)

    async def _judge_later(
        self, request: UpgradeRequest, peer: Peer, found: Awaitable[Identity], selected: str | None
    ) -> Verdict:
        try:
            identity = await found
        except AuthError as error:
            return self._unauthorized(peer.claim, error)
        verdict = self._judge(request, peer, identity, selected)
        return await verdict if inspect.isawaitable(verdict) else verdict

    def _judge(
        self, request: UpgradeRequest, peer: Peer, identity: Identity, selected: str | None
    ) -> Verdict | Awaitable[Verdict]:
        if self._node.cut_off:  # the token took a while to verify
            self.leave(peer.claim)
            return self._refuse_cut_off()
        hit = self._identify(peer, identity)
        if hit is not None:
            self.leave(peer.claim)
            return self._refuse("capacity", 429, f"{hit.value} is reached", retry=True)
        if self._admit is None:
            self._begin(peer, identity, in_flight=False)
            return Welcome(peer, selected)
        try:
            answer = self._admit(identity, request)
        except Exception as error:
            return self._undecided(peer, identity.user, error)
        if isinstance(answer, bool):
            if not answer:
                self.leave(peer.claim)
                return self._refuse("admit", 403, "the application refused the connection")
            self._begin(peer, identity, in_flight=False)
            return Welcome(peer, selected)
        self._begin(peer, identity, in_flight=True)
        return self._later(self._ask(answer, peer, selected), peer)

    async def _ask(self, answer: Awaitable[bool], peer: Peer, selected: str | None) -> Verdict:
        """The upgrade is in flight."""
        node, connection = self._node, peer.connection
        assert connection is not None
        try:
            admitted = await answer
        except Exception as error:
            return self._undecided(peer, connection.user, error)
        if connection.ready is ReadyState.CLOSED:
            node.refuse(peer)
            return self._refuse("admit", 503, "the upgrade took too long", retry=True)
        if not admitted:
            node.refuse(peer)
            return self._refuse("admit", 403, "the application refused the connection")
        if node.cut_off:
            node.refuse(peer)
            return self._refuse_cut_off()
        return Welcome(peer, selected)

    def _refuse_cut_off(self) -> Refusal:
        return self._refuse("store", 503, _CUT_OFF, retry=True)

    def _undecided(self, peer: Peer, user: str, error: Exception) -> Refusal:
        self._node.refuse(peer)
        self._node.log.emit("admit_failed", user=user, error=repr(error))
        return self._refuse("admit", 503, "the application could not decide about the connection", retry=True)

    def _identify(self, peer: Peer, identity: Identity) -> Limit | None:
        tab = peer.hello[0]
        same = next((c.id for c in self._node.roster.of(identity.user) if tab and c.tab == tab), None)
        return self.caps.identify(peer.claim, identity.user, supersedes=same)

    def _begin(self, peer: Peer, identity: Identity, *, in_flight: bool) -> None:
        tab, client, availability = peer.hello
        self._node.begin(peer, identity, tab=tab, client=client, availability=availability, in_flight=in_flight)

    def _unauthorized(self, claim: str, error: AuthError) -> Refusal:
        self.leave(claim)
        if isinstance(error, KeysUnavailable):
            return self._refuse("keys", 503, str(error), retry=True)
        return self._refuse("unauthorized", 401, str(error), {"WWW-Authenticate": "Bearer"})

    def _refuse(
        self, why: str, status: int, detail: str, headers: dict[str, str] | None = None, *, retry: bool = False
    ) -> Refusal:
        node = self._node
        node.metrics.refused.labels(why).inc()
        node.log.emit("upgrade_refused", status=status, reason=detail)
        headers = dict(headers or {})
        if retry:
            headers["Retry-After"] = _RETRY_AFTER
        return Refusal(status, problem(status, detail), headers)
