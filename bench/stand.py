"""A server under measurement, and the crowd of clients in front of it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.client import Client, Tally, mint, upgrade_head
from bench.proc import cpu_seconds, pss_bytes, tree

SECRET = "a secret of the bench, known to every server that it starts"
IN_FLIGHT = 50
"""How many clients connect at the same time."""

_START = 15.0
"""Seconds that a server may take to listen."""


class Failed(Exception):
    """A measurement did not come about, and why."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def split_cpus() -> tuple[set[int], set[int]]:
    """The CPU for the servers and the one for the load; the same where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return {cpus[0]}, {cpus[-1]}


def raise_file_limit() -> int:
    """As many open files as the system lets us have; what we start inherits it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Stand:
    """Starts a server, and ends it with everything that hangs on it: ``async with Stand(…) as stand``."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], port: int, cpus: set[int]) -> None:
        """Prepare.

        Args:
            command: of the server; it is to listen on 127.0.0.1.
            env: added to ours.
            port: where it will listen.
            cpus: where it may run.
        """
        self.port = port
        self.tally = Tally()
        self.clients: list[Client] = []
        self._command = command
        self._env = {**os.environ, **env}
        self._cpus = cpus
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __aexit__
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Stand:
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cpus)  # inherited: threads that a runtime starts early are pinned too
        try:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on this loop yet
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for the bench, which then ends the server itself
            )
        finally:
            os.sched_setaffinity(0, ours)
        try:
            await self._listening()
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        for client in self.clients:
            client.transport.abort()
        await asyncio.sleep(0)

    async def _listening(self) -> None:
        end = time.monotonic() + _START
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                raise Failed(f"the server ended at once with {self._process.returncode}:\n{self.said()}")
            with socket.socket() as probe:
                probe.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(probe, ("127.0.0.1", self.port))
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    await asyncio.sleep(0.3)  # what a server does just after it began to listen
                    return
        raise Failed(f"the server does not listen on port {self.port} after {_START:g} s:\n{self.said()}")

    def _end(self) -> None:
        if self._process is not None:
            pids = tree(self._process.pid)
            # Not SIGTERM: a server may take its time to say goodbye to thousands.
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._process.wait()
        self._output.close()

    def said(self) -> str:
        """The end of what the server wrote."""
        self._output.seek(0)
        return self._output.read()[-3000:].decode(errors="replace")

    # -- figures ----------------------------------------------------------------------------------------------------

    def cpu(self) -> float:
        """CPU seconds of the server so far."""
        assert self._process is not None
        return cpu_seconds(tree(self._process.pid))

    def memory(self) -> int:
        """Bytes of the server now."""
        assert self._process is not None
        return pss_bytes(tree(self._process.pid))

    # -- the crowd --------------------------------------------------------------------------------------------------

    async def crowd(self, names: Sequence[str], room: str | None = None) -> list[Client]:
        """Connect one client per name, ``IN_FLIGHT`` at a time.

        Args:
            names: user ids.
            room: joined right after the welcome; ``{}`` in it is replaced by the name.
        """
        expires_at = time.time() + 3600
        fresh = [
            Client(name, upgrade_head(self.port, name, mint(SECRET, name, expires_at)), self.tally) for name in names
        ]
        waiting = iter(fresh)

        async def work() -> None:
            for client in waiting:
                await client.open(self.port)
                self.clients.append(client)
                if room is not None:
                    await client.ask("join", f'"room":"{room.format(client.user)}"')

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(work())
        return fresh

    async def quiet(self, seconds: float = 0.6) -> None:
        """Wait until the clients have received nothing for so long."""
        seen = -1
        while seen != self.tally.frames:
            seen = self.tally.frames
            await asyncio.sleep(seconds)
        if self.tally.lost:
            raise Failed(f"the server ended {self.tally.lost} connections:\n{self.said()}")


def work_dir() -> Path:
    """Where servers may write, removed by whoever asked."""
    return Path(tempfile.mkdtemp(prefix="stillhere-bench-"))
