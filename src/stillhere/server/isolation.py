"""A node that alone cannot reach the store moves its clients to those that can.

Its people would be held until its lease has ended and the window of ``node_lost`` after it, and then be shown offline
although they are connected. So, before the lease ends, they are closed with 1013, at a steady pace, and find another
node. But a store that is out of reach for everybody stands still: nobody's time runs, nobody is judged, and to send
people away would only make them knock in vain. The two look alike from here. What tells them apart is another node that
says that it is ready (:mod:`stillhere.server.reach`), at a time when it must have reached the store *after* the trouble
here began: a node calls itself ready for no longer than :attr:`Keeper.patience` after its last round with the store.

Where no other node answers, nothing is known, and people stay: an installation of one node and a Redis looks the same,
and whoever has nowhere to go is better off where the page at least stays open.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from stillhere.server.drain import move_away
from stillhere.server.neighbours import decode_about
from stillhere.server.peer import Peer, Stage
from stillhere.store.contract import StoreError
from stillhere.wire.codes import CloseCode
from stillhere.wire.frames import ms

if TYPE_CHECKING:
    from stillhere.server.node import Node

Ask = Callable[[str], Awaitable[bool]]
"""Whether the node at an address is ready; False where it does not answer. Bounded in time, never raises."""

LOOK = 0.25
"""Seconds between two looks at the keeper."""

ASK_AGAIN = 1.0
"""Seconds between two rounds of questions, while the store is out of reach."""

KNOWN_FOR = 600.0
"""Seconds for which a node is asked that had a lease: one that lost it may be the first to reach the store again."""

KNOWN_MOST = 256
"""So many addresses are remembered: those that were seen last."""

ASKED_MOST = 16
"""So many nodes are asked at once: one that is ready is enough."""

SINCE_REACHED, SINCE_RENEWED = 0.8, 0.9
"""Parts of the lease: closing begins so long after the last round with the store, and no later than so long after the
last renewal of the lease."""

PER_SECOND = 5000.0
"""So many connections are closed in a second at most. Where that takes longer than the lease, the window of
``node_lost`` covers the rest."""

_REASON = "this node cannot reach its store; another one can"


class Isolation:
    """See the module."""

    def __init__(self, node: Node, ask: Ask | None) -> None:
        """Prepare; :meth:`run` does the work.

        Args:
            node: whose clients are moved.
            ask: None: nobody is ever asked, and nobody moved.
        """
        self._node = node
        self._ask = ask
        self._told = False
        """Whether another node was found to reach the store."""
        self._moving = False
        self._known: dict[str, tuple[str, float]] = {}
        """Of each address the node and when it had a lease last, on this node's clock; the latest last."""
        self._random = random.Random(secrets.randbits(64))
        gauge = Gauge(
            "stillhere_isolated",
            "Whether other nodes reach the store and this one does not: its clients are moved to them",
            registry=node.metrics.registry,
        )
        gauge.set_function(lambda: float(self.isolated))

    @property
    def isolated(self) -> bool:
        """Whether clients are being moved away; over as soon as the store answers again."""
        return self._told and self._node.keeper.failing_since is not None

    def due_at(self) -> float | None:
        """When the other nodes are to be asked, on the node's clock; None while the store answers.

        A store in this process has no other nodes.
        """
        node = self._node
        keeper = node.keeper
        if node.store.applies_at_once or keeper.failing_since is None:
            return None
        lease = node.settings.cluster.lease
        at = min(keeper.reached_at + SINCE_REACHED * lease, keeper.renewed_at + SINCE_RENEWED * lease)
        # not before an answer of "ready" proves that the store was reached since the trouble began
        return max(at, keeper.failing_since + keeper.patience)

    async def run(self) -> None:
        """Look, ask and move; for ever."""
        if self._ask is None:
            return
        while True:
            await asyncio.sleep(LOOK)
            await self._remember()
            due = self.due_at()
            if due is None or self._node.monotonic() < due:
                self._end("the store is back")
                continue
            found = await self._who_reaches()
            if self.due_at() is None:
                self._end("the store is back")
            elif found is None:
                self._end("no other node is known to reach the store")
            else:
                self._begin(found)
            await asyncio.sleep(ASK_AGAIN - LOOK)

    def turn_away(self, peer: Peer) -> None:
        """Close a connection so that its client finds another node."""
        peer.close(CloseCode.TRY_AGAIN_LATER, _REASON)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _who_reaches(self) -> str | None:
        """The name of a node that is ready: the first that says so."""
        assert self._ask is not None
        since = self._node.monotonic() - KNOWN_FOR
        names = {address: name for address, (name, seen) in self._known.items() if seen >= since}
        asked = self._random.sample(sorted(names), min(len(names), ASKED_MOST))
        questions = {asyncio.ensure_future(self._ask(address)): names[address] for address in asked}
        waiting = set(questions)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                ready = [questions[question] for question in done if question.result()]
                if ready:
                    return ready[0]
            return None
        finally:
            for question in waiting:
                question.cancel()

    async def _remember(self) -> None:
        """Note the other nodes' addresses as of the last answer that named them.

        While the store fails these are not news, but for those that were never noted: the last answer before it is cut
        off may be the first that names anybody.
        """
        node = self._node
        if node.store.applies_at_once:
            return
        failing = node.keeper.failing_since is not None
        try:
            states = await node.store.nodes()
        except StoreError:
            return
        now, known = node.monotonic(), self._known
        for state in states:
            about = None if node.store.mine(state.incarnation) else decode_about(state.about)
            # a former run of this node may still have its lease, and its address is ours
            if about is None or not about.address or about.node == node.name:
                continue
            if not (failing and about.address in known):
                known.pop(about.address, None)
                known[about.address] = about.node, now
        while len(known) > KNOWN_MOST:
            del known[next(iter(known))]

    def _begin(self, reached_by: str) -> None:
        node = self._node
        if not self._told:
            self._told = True
            silent = node.monotonic() - node.keeper.reached_at
            node.log.emit("node_isolated", connections=len(node.peers), silentMs=ms(silent), reachedBy=reached_by)
        if node.peers and not self._moving:
            self._moving = True
            node.tasks.spawn(self._move())

    def _end(self, why: str) -> None:
        if self._told:
            self._told = False
            self._node.log.emit("isolation_over", connections=len(self._node.peers), reason=why)

    async def _move(self) -> None:
        node = self._node
        peers = [peer for peer in node.peers if peer.stage is not Stage.ENDED]
        left = node.keeper.renewed_at + node.settings.cluster.lease - node.monotonic()
        try:
            await move_away(
                peers,
                max(0.9 * left, len(peers) / PER_SECOND),  # the last ones need a moment to end
                node.settings.limits.close_timeout,
                node.monotonic,
                self._random,
                close=self.turn_away,
                announced=False,
                go_on=lambda: self.isolated,
            )
        finally:
            self._moving = False
