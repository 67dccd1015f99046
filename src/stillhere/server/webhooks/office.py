"""All hooks of a node, and which node delivers.

Of the nodes that have a hook configured the one with the smallest process name delivers for it, among those whose
lease runs, and that do not drain if there is one. The choice is made anew from what every beat tells, so that a node
that died is followed by the next one when its lease has ended. Two may believe it for a moment: they send the same
messages with the same ids, and nothing is left out, since who comes later goes on from the mark.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stillhere.server.webhooks.courier import Courier, Result
from stillhere.server.webhooks.destination import Destination, parse_destination
from stillhere.server.webhooks.letters import Box
from stillhere.server.webhooks.mark import Mark
from stillhere.server.webhooks.payload import EVENTS, trial_message
from stillhere.server.webhooks.sender import Answer, Sender
from stillhere.server.webhooks.signature import keys_of
from stillhere.store.contract import NodeState

if TYPE_CHECKING:
    from stillhere.server.node import Node
    from stillhere.server.settings import Webhook

CHOOSE_EVERY = 0.5
"""Seconds between two looks at who delivers."""


class About(msgspec.Struct, frozen=True):
    """What is read of another node's word of itself; see :mod:`stillhere.server.neighbours`."""

    draining: bool = False
    webhooks: tuple[str, ...] = ()


class HookStatus(msgspec.Struct, frozen=True):
    """A hook, for the API."""

    hook: str
    url: str
    """Without its query."""
    events: tuple[str, ...]
    delivers: bool
    """Whether this node does."""
    mark: Mark


class Hook:
    """One hook of the settings, at work."""

    def __init__(self, configured: Webhook, destination: Destination, courier: Courier) -> None:
        """Tie together what belongs together."""
        self.configured = configured
        self.destination = destination
        self.courier = courier

    @property
    def id(self) -> str:
        """See :func:`hook_id`."""
        return self.courier.hook


def hook_id(url: str) -> str:
    """The name of a hook: of its URL, so that it is the same after a restart, on every node, and with a new secret."""
    return f"wh_{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def chosen(states: Iterable[NodeState], hook: str) -> NodeState | None:
    """Who delivers.

    Args:
        states: all nodes with a lease.
        hook: its id.

    Returns:
        A node, or None if none has the hook.
    """
    candidates = []
    for state in states:
        try:
            about = msgspec.json.decode(state.about, type=About)
        except msgspec.MsgspecError:
            continue
        if state.lease > 0 and hook in about.webhooks:
            candidates.append((about.draining, state.incarnation.rpartition(".")[0], state.incarnation, state))
    return min(candidates, key=lambda candidate: candidate[:3])[3] if candidates else None


class Webhooks:
    """See the module."""

    def __init__(self, node: Node) -> None:
        """Prepare; nothing is looked up or sent before :meth:`run`.

        Args:
            node: whose settings say which hooks there are.
        """
        self._node = node
        self._store = node.store
        settings = node.settings
        delivery = settings.delivery
        self.hooks: dict[str, Hook] = {}
        self._count: Callable[[str, Result, int], None] = _count_nothing
        if settings.webhooks:
            self._count = _Figures(node.metrics.registry, self).count
        for configured in settings.webhooks:
            destination = parse_destination(configured.url)
            courier = Courier(
                hook_id(configured.url),
                frozenset(EVENTS[name] for name in configured.events),
                keys_of(configured.secret.reveal()),
                Sender(destination, loopback=delivery.loopback, timeout=delivery.timeout),
                node.store,
                node=node.name,
                give_up=delivery.give_up,
                now=node.now,
                monotonic=node.monotonic,
                count=self._count,
                rng=random.Random(secrets.randbits(64)),
            )
            self.hooks[courier.hook] = Hook(configured, destination, courier)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all hooks, for the other nodes to know."""
        return tuple(self.hooks)

    async def run(self) -> None:
        """Deliver, for ever; returns at once where there are no hooks."""
        if not self.hooks:
            return
        self._store.on_news(self._announce)
        async with asyncio.TaskGroup() as group:
            for hook in self.hooks.values():
                group.create_task(hook.courier.run())
            group.create_task(self._choose())

    def _announce(self) -> None:
        for hook in self.hooks.values():
            hook.courier.wake()

    async def _choose(self) -> None:
        while True:
            states = await self._store.nodes()
            for hook in self.hooks.values():
                mine = self._mine(states, hook.id)
                if mine != hook.courier.chosen:
                    hook.courier.chosen = mine
                    hook.courier.wake()
            await asyncio.sleep(CHOOSE_EVERY)

    def _mine(self, states: Iterable[NodeState], hook: str) -> bool:
        if self._store.applies_at_once:  # there are no others
            return True
        state = chosen(states, hook)
        return state is not None and self._store.mine(state.incarnation)

    # -- for the API --------------------------------------------------------------------------------------------

    async def statuses(self) -> list[HookStatus]:
        """All hooks.

        Raises:
            StoreUnavailable.
        """
        return [
            HookStatus(
                hook.id,
                hook.destination.shown,
                tuple(hook.configured.events),
                hook.courier.chosen,
                await hook.courier.known(),
            )
            for hook in self.hooks.values()
        ]

    async def letters(self, hook: str) -> Box:
        """The dead letters of a hook.

        Raises:
            KeyError: there is no such hook.
            StoreUnavailable.
        """
        return await self.hooks[hook].courier.letters.read()

    async def replay(self, hook: str) -> int:
        """Have the dead letters sent again, by whoever delivers. Returns how many there are.

        Raises:
            KeyError: there is no such hook.
            StoreUnavailable.
        """
        courier = self.hooks[hook].courier
        letters = (await courier.letters.read()).letters
        if letters:
            await courier.ask_replay()
        return len(letters)

    async def test(self, hook: str) -> Answer:
        """Send a message of the type ``webhook.test``, once, from this node.

        Raises:
            KeyError: there is no such hook.
            NotDelivered: with the reason.
        """
        return await self.hooks[hook].courier.send(trial_message(self._node.name, self._node.now()))


class _Figures(Collector):
    """Metrics of the hooks; only where there are any."""

    def __init__(self, registry: CollectorRegistry, office: Webhooks) -> None:
        self._office = office
        self._deliveries = Counter(
            "stillhere_webhook_deliveries",
            "Webhook messages by what became of them",
            ["hook", "result"],
            registry=registry,
        )
        registry.register(self)

    def count(self, hook: str, result: Result, number: int) -> None:
        """So many more."""
        self._deliveries.labels(hook, result.value).inc(number)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        gauge = partial(GaugeMetricFamily, labels=["hook"])
        lag = gauge("stillhere_webhook_lag_seconds", "For how long the oldest message of a webhook has waited")
        dead = gauge("stillhere_webhook_dead_letters", "Messages of a webhook that were given up and are kept")
        for hook in self._office.hooks.values():
            if hook.courier.chosen:  # one node tells of a hook: a sum over all nodes is right
                lag.add_metric([hook.id], hook.courier.lag)
                dead.add_metric([hook.id], hook.courier.mark.dead)
        yield lag
        yield dead


def _count_nothing(hook: str, result: Result, number: int) -> None:
    """Where there are no hooks."""
