"""Three masters that share the slots, and what an operator does who moves a slot from one to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.acceptance.faults.redis_process import RedisProcess, free_port

SLOTS = 16384


class RedisCluster:
    """The masters of a Cluster."""

    def __init__(self, masters: list[RedisProcess]) -> None:
        """Masters that run, with ``cluster-enabled``; :meth:`join` makes them one."""
        self.masters = masters
        """In the order of their shares of the slots."""

    @property
    def url(self) -> str:
        """``redis+cluster://`` with all of them."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in self.masters)

    def join(self) -> None:
        """Share the slots and wait until everybody agrees."""
        share = SLOTS // len(self.masters) + 1
        for number, master in enumerate(self.masters):
            first, last = number * share, min((number + 1) * share, SLOTS) - 1
            self._say(master, "CLUSTER", "ADDSLOTSRANGE", first, last)
            self._say(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for master in self.masters[1:]:
            bus = str(self.masters[0].admin.config_get("cluster-port")["cluster-port"])
            self._say(master, "CLUSTER", "MEET", "127.0.0.1", self.masters[0].port, bus)
        for master in self.masters:
            master.wait_for(lambda master=master: self._agreed(master), "join the Cluster")  # type: ignore[misc]

    def slots_in_use(self) -> list[tuple[int, RedisProcess]]:
        """The slots that hold keys, and whose they are."""
        found = set()
        for number, master in enumerate(self.masters):
            found |= {(self._say(master, "CLUSTER", "KEYSLOT", key), number) for key in master.admin.scan_iter()}
        return [(int(slot), self.masters[number]) for slot, number in sorted(found)]

    def move(self, slot: int, source: RedisProcess, target: RedisProcess) -> int:
        """Move a slot with its keys, as ``redis-cli --cluster reshard`` does; returns how many keys."""
        names = {master.port: self._text(master, "CLUSTER", "MYID") for master in (source, target)}
        self._say(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
        self._say(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])
        moved = 0
        while keys := self._say(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            self._say(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        for master in (target, source, *self.masters):
            self._say(master, "CLUSTER", "SETSLOT", slot, "NODE", names[target.port])
        return moved

    def _agreed(self, master: RedisProcess) -> bool:
        about = self._text(master, "CLUSTER", "INFO")
        return "cluster_state:ok" in about and f"cluster_known_nodes:{len(self.masters)}" in about

    def _text(self, master: RedisProcess, *request: str | int | bytes) -> str:
        told = self._say(master, *request)
        if isinstance(told, dict):  # redis-py takes some replies apart
            return "\n".join(f"{name}:{value}" for name, value in told.items())
        return told.decode() if isinstance(told, bytes) else str(told)

    @staticmethod
    def _say(master: RedisProcess, *request: str | int | bytes) -> Any:
        return master.admin.execute_command(*request)  # type: ignore[no-untyped-call]


@contextmanager
def running_cluster(masters: int = 3) -> Iterator[RedisCluster]:
    """So many masters, joined."""
    with ExitStack() as stack:
        # a bus port of its own: by default it is the port plus 10,000, which may be more than there are
        options = "--cluster-enabled yes --cluster-node-timeout 2000 --cluster-port"
        found = RedisCluster(
            [stack.enter_context(RedisProcess(*options.split(), str(free_port()))) for _ in range(masters)]
        )
        found.join()
        yield found
