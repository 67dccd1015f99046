"""Somebody who asks every node, all the time, how a few people are: an answer must not be wrong for a moment either."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.acceptance.faults.cluster import NODES, Cluster

PAUSE = 0.1
"""Seconds between two questions to a node."""


class Answer(NamedTuple):
    """An answer that somebody is offline."""

    at: float
    """Unix seconds."""
    node: str
    user: str
    how: str
    """What was asked for."""
    told: object


class Asker:
    """A thread per node: one that stands still keeps nobody waiting but its own."""

    def __init__(self, cluster: Cluster, users: Sequence[str]) -> None:
        """Ask nobody before :meth:`start`."""
        self.cluster = cluster
        self.users = list(users)
        self.offline: list[Answer] = []
        self.answers = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(name,), daemon=True) for name in NODES]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what was noted stays."""
        self._ended.set()
        for thread in self._threads:
            thread.join(15)

    def _ask(self, name: str) -> None:
        turn = 0
        while not self._ended.wait(PAUSE):
            turn += 1
            try:
                self._ask_once(name, self.users[turn % len(self.users)])
            except AssertionError:  # a row has stopped the node, and may be starting it again: it has no port then
                continue

    def _ask_once(self, name: str, one: str) -> None:
        node = self.cluster.nodes[name]
        status, answer = node.post("/v1/users/query", {"users": self.users})
        if status == 200:
            self.answers += 1
            self._note(name, "query", answer["users"])
        status, answer = node.get(f"/v1/users/{one}/diagnostics")
        if status == 200:
            self._note(name, "diagnostics", [answer])

    def _note(self, node: str, how: str, told: list[dict[str, object]]) -> None:
        at = time.time()
        self.offline += [
            Answer(at, node, str(entry["user"]), how, entry) for entry in told if entry["status"] == "offline"
        ]
