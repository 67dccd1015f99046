"""A Redis in a network namespace of its own, with one cable to each node: a cable that is pulled is a true partition.

Nothing is refused and nothing is closed then: packets are lost in both directions, and the kernel's timers decide. It
needs root and Linux; addresses are of 198.18.0.0/15, which RFC 2544 sets aside for tests and which is never routed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

import pytest
import redis

from tests.acceptance.faults.redis_process import BINARY, client_of, require
from tests.acceptance.watching import wait_until

PORT = 6379


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=10)


class IsolatedRedis:
    """``redis-server`` behind cables; a context manager. Skips the test where the machine has no namespaces for us.

    Attributes:
        admin: a client for the test, over a cable that is never pulled.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        """Prepare.

        Args:
            nodes: who gets a cable; names for :meth:`pull`.
        """
        self._nodes = list(nodes)
        self._name = f"sh{os.getpid()}"
        self._stack = ExitStack()
        self.admin: redis.Redis

    def __enter__(self) -> IsolatedRedis:
        require(BINARY)
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("a network namespace needs root and the program ip (on Debian and Ubuntu: iproute2)")
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _begin(self) -> None:
        try:
            _run("ip", "netns", "add", self._name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode(errors='replace').strip()}")
        # the far ends of the cables go with the namespace, and the near ends with them
        self._stack.callback(_run, "ip", "netns", "del", self._name)
        for number, _ in enumerate(["", *self._nodes]):
            near, far = self._cable(number), f"{self._name}f{number}"
            _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self._name)
            _run("ip", "addr", "add", f"198.18.{number}.1/30", "dev", near)
            _run("ip", "link", "set", near, "up")
            _run("ip", "-n", self._name, "addr", "add", f"198.18.{number}.2/30", "dev", far)
            _run("ip", "-n", self._name, "link", "set", far, "up")
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="stillhere-redis-"))
        options = f"--port {PORT} --bind * --protected-mode no --save".split()
        process = subprocess.Popen(
            ["ip", "netns", "exec", self._name, BINARY, *options, "", "--dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        self.admin = client_of("198.18.0.2", PORT, 5.0)
        wait_until(self._answers, 10, "Redis in its namespace answers")

    def url(self, node: str) -> str:
        """The address of the store at the end of a node's cable."""
        return f"redis://198.18.{self._nodes.index(node) + 1}.2:{PORT}"

    def pull(self, node: str) -> None:
        """Pull a node's cable."""
        _run("ip", "link", "set", self._cable(self._nodes.index(node) + 1), "down")

    def plug(self, node: str) -> None:
        """Plug it in again."""
        _run("ip", "link", "set", self._cable(self._nodes.index(node) + 1), "up")

    def _cable(self, number: int) -> str:
        return f"{self._name}n{number}"

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False
