"""Three nodes, each with a network of its own to the one store.

The times are short, so that a row of the failure matrix takes seconds; their relations are those of the defaults. The
bounds that the rows assert are sums of these.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from stillhere.server.auth import mint
from tests.acceptance.faults.background import Background
from tests.acceptance.faults.proxy import FaultProxy
from tests.acceptance.raw import Raw
from tests.acceptance.server import ServerProcess
from tests.acceptance.watching import wait_until
from tests.contract.redis_servers import free_port

NODES = ("n1", "n2", "n3")

LEASE, BEAT = 6.0, 2.0
RECOVERY = LEASE + BEAT
"""The longest that nothing expires after the store was lost."""
SWEEP = 1.0
CLIENT_CLOSE, GOING_AWAY, ABNORMAL, NODE_DRAIN, NODE_LOST = 2.0, 4.0, 8.0, 8.0, 10.0
"""The windows: of the fast profile, but that of a drain, which is 20 s there."""
TOLERANCE = LEASE - BEAT + NODE_LOST
"""So long a node may stand still or be cut off, and nobody is shown offline for it."""
EARLY = 3.0
"""A window may be shorter by this under clock faults."""
CLOCK_HOLD = 1.0 + BEAT + 1.0
"""So long nothing expires after an abnormal step of the store's clock, the step included: a beat and a second."""
DRAIN = 2.0
"""Seconds over which a node that ends moves its clients away."""
BUSY = 3.0
"""Patience with a machine of two cores that runs a dozen processes: added to every bound."""

DAY = 86_400.0

WORDS = (b"XREAD",)
"""What the proxies before the store tell connections apart by."""


class Cluster:
    """Nodes n1 to n3 on one store, a fault proxy between each of them and the store; a context manager.

    Attributes:
        nodes: the server processes by name.
        roads: the proxies between each node and the store, by the node's name.
        fronts: proxies before the nodes' own ports, if they were asked for.
    """

    def __init__(
        self,
        url: str,
        *,
        direct: bool = False,
        fronts: bool = False,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Prepare; entering the context starts it.

        Args:
            url: of the store, as a node would be told it.
            direct: no proxies to the store: Sentinel and Cluster tell the nodes other addresses than ours.
            fronts: clients come through proxies too.
            settings: further ones, for all nodes.
            environ: further variables, by node.
        """
        self.secret = secrets.token_urlsafe(48)
        self.api_key = secrets.token_urlsafe(48)
        self.background = Background("network")
        self.roads: dict[str, FaultProxy] = {}
        self.fronts: dict[str, FaultProxy] = {}
        self._url = url
        self._direct = direct
        self._with_fronts = fronts
        self._settings = dict(settings or {})
        self._environ = dict(environ or {})
        self._stack = ExitStack()
        self.nodes: dict[str, ServerProcess] = {}

    def __enter__(self) -> Cluster:
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            self.background.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # a node that ends says so to its store; the network goes last
        self._stack.close()
        for proxy in (*self.roads.values(), *self.fronts.values()):
            proxy.close()
        self.background.close()

    def _begin(self) -> None:
        parts = urlsplit(self._url)
        for name in NODES:
            if not self._direct:
                assert parts.hostname is not None and parts.port is not None
                self.roads[name] = FaultProxy(self.background, parts.hostname, parts.port, words=WORDS)
            self.nodes[name] = self.new_node(name)
        self.each(list(NODES), "__enter__")
        for name, node in self.nodes.items():
            if self._with_fronts:
                self.fronts[name] = FaultProxy(self.background, "127.0.0.1", node.port)

    def new_node(self, name: str, environ: Mapping[str, str] | None = None) -> ServerProcess:
        """One more node, not started; it ends with the cluster at the latest.

        Args:
            name: one of the three that have a road, or another one, which goes straight to the store.
            environ: further variables.
        """
        road = self.roads.get(name)
        settings: dict[str, object] = {
            "server.node": name,
            "server.port": free_port(),  # a node tells the others its address before anybody asks it for its port
            "server.drain_s": DRAIN,
            "store.url": self._url if road is None else f"redis://127.0.0.1:{road.port}",
            "auth.secret": self.secret,
            "admin.api_keys": [self.api_key],
            "grace.profile": "fast",
            "grace.node_drain": round(NODE_DRAIN * 1000),
            "cluster.lease_ms": round(LEASE * 1000),
            "cluster.beat_ms": round(BEAT * 1000),
            "cluster.partitions": 4,
            "limits.connections_per_ip": 10_000,
            **self._settings,
        }
        node = ServerProcess(settings, environ={**self._environ.get(name, {}), **(environ or {})})
        node.secret, node.api_key = self.secret, self.api_key
        self._stack.callback(node.close)
        return node

    # -- all of them ------------------------------------------------------------------------------------------------

    def each(self, names: Sequence[str], method: str) -> None:
        """Call a method of several nodes at the same time: starts and ends take a second each."""
        with ThreadPoolExecutor(len(names)) as pool:
            for done in [pool.submit(getattr(self.nodes[name], method)) for name in names]:
                done.result()

    def mend(self) -> None:
        """Heal the network and start the nodes that do not run; wait until all are ready."""
        for proxy in (*self.roads.values(), *self.fronts.values()):
            proxy.heal()
        for node in self.nodes.values():
            if node.running:
                node.resume()
        for name in [name for name, node in self.nodes.items() if not node.running]:
            node = self.nodes[name]
            try:
                node.wait(0.5)  # one that ended by itself has not been waited for
            except AssertionError:
                pass
            node.start()
        wait_until(lambda: self.ready() == list(NODES), 3 * RECOVERY, f"all nodes ready; {self.complaints()}")

    def calm(self) -> None:
        """Wait until the store holds nothing back any more: after a start, an outage or a jump of its clock."""
        wait_until(self._judges, RECOVERY + CLOCK_HOLD, "the store judges again")

    def _judges(self) -> bool:
        """Whether a window that opens now will run out in time: somebody comes and goes, and is looked at."""
        node = self.nodes["n2"]
        with Raw.open(node.ws_url, self.token("canary"), tab="canary") as client:
            client.leave(1000)

        for _ in range(20):
            answer = node.get("/v1/users/canary/diagnostics")[1]
            grace = answer["grace"]
            if grace is not None:
                return bool(grace["deadline"] - grace["startedAt"] < grace["windowMs"] + 400)
            time.sleep(0.02)
        return False

    def ready(self) -> list[str]:
        """The nodes that say so."""
        return [name for name, node in self.nodes.items() if node.running and node.get("/readyz")[0] == 200]

    def running(self) -> Iterator[tuple[str, ServerProcess]]:
        """The nodes whose process lives."""
        return ((name, node) for name, node in self.nodes.items() if node.running)

    def complaints(self) -> dict[str, Any]:
        """What each node answers to being asked whether it is ready."""
        return {name: node.get("/readyz")[1] for name, node in self.running()}

    # -- for clients ------------------------------------------------------------------------------------------------

    def token(self, user: str) -> str:
        """A token for a day: clocks may jump by hours."""
        return mint(self.secret, user, now=time.time(), ttl=2 * DAY, sid=f"s-{user}", watch="*", rooms="*")

    def ws_url(self, name: str) -> str:
        """Where clients reach a node."""
        front = self.fronts.get(name)
        return self.nodes[name].ws_url if front is None else f"ws://127.0.0.1:{front.port}/ws"

    def ask(self, name: str, users: Sequence[str]) -> tuple[dict[str, dict[str, Any]], bool]:
        """How a node says that users are shown, and whether it could tell of each."""
        status, answer = self.nodes[name].post("/v1/users/query", {"users": list(users)})
        assert status == 200, (name, status, answer)
        return {told["user"]: told for told in answer["users"]}, bool(answer["complete"])
