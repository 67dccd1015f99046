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
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from bench.client import Client, Tally, masked
from bench.dialects import STILLHERE, Dialect
from bench.proc import cpu_nanoseconds, cpu_seconds, pss_bytes, tree

SECRET = "a secret of the bench, known to every server that it starts"
IN_FLIGHT = 50
"""How many clients connect at the same time."""

TOKEN_SECONDS = 7200.0
CLOSE = 8
"""The opcode of a close frame (RFC 6455, section 5.5.1)."""

T = TypeVar("T")

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


async def in_turns(items: Iterable[T], work: Callable[[T], Awaitable[object]], at_a_time: int = IN_FLIGHT) -> None:
    """Do the work for each item, so many of them at a time."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_a_time):
            group.create_task(worker())


class Crowd:
    """Clients of a server on this machine that somebody has started.

    Attributes:
        port: where it listens.
        tally: of what all clients have received.
        clients: those that are connected.
        secret: for the tokens.
    """

    def __init__(self, port: int, secret: str = SECRET, dialect: Dialect = STILLHERE) -> None:
        """Nobody yet.

        Args:
            port: where the server listens, on 127.0.0.1.
            secret: for the tokens.
            dialect: what the server speaks.
        """
        self.port = port
        self.tally = Tally()
        self.clients: list[Client] = []
        self.secret = secret
        self._dialect = dialect

    async def crowd(self, names: Sequence[str], room: str | None = None) -> list[Client]:
        """Connect one client per name, ``IN_FLIGHT`` at a time.

        Args:
            names: user ids.
            room: joined right after the welcome; ``{}`` in it is replaced by the name.
        """
        expires_at = time.time() + TOKEN_SECONDS
        fresh = [self._client(name, expires_at) for name in names]

        async def come(client: Client) -> None:
            await client.open(self.port)
            self.clients.append(client)
            if room is not None:
                await client.join(room.format(client.user))

        await in_turns(fresh, come)
        return fresh

    async def visit(self, name: str) -> Client:
        """Connect one client and wait for its welcome."""
        client = self._client(name, time.time() + TOKEN_SECONDS)
        await client.open(self.port)
        self.clients.append(client)
        return client

    def _client(self, name: str, expires_at: float) -> Client:
        token = self._dialect.token(self.secret, name, expires_at)
        return Client(name, self._dialect.head(self.port, name, token), self.tally, self._dialect, token)

    def leave(self, client: Client, code: int | None = None) -> None:
        """End a connection on purpose; :meth:`gone` waits until all such have ended.

        Args:
            client: whose it is.
            code: of the close frame; None cuts the connection without one.
        """
        self.tally.lost -= 1  # its end will count as a loss
        self.clients.remove(client)
        if code is None:
            client.transport.abort()
        else:
            client.say(masked(code.to_bytes(2, "big"), CLOSE))

    async def gone(self, patience: float = 15.0) -> None:
        """Wait until the connections that were ended on purpose have ended.

        Raises:
            Failed: they have not after so many seconds.
        """
        end = time.monotonic() + patience
        while self.tally.lost < 0:
            if time.monotonic() > end:
                raise Failed(f"{-self.tally.lost} connections have not ended {patience:g} s after they were closed")
            await asyncio.sleep(0.01)

    async def quiet(self, seconds: float = 0.6) -> None:
        """Wait until the clients have received nothing for so long, and the server has not been busy meanwhile."""
        seen, spent = -1, 0.0
        # Some servers write nothing before they have read and worked off all there is.
        while seen != self.tally.frames or self.cpu() - spent > seconds / 2:
            seen, spent = self.tally.frames, self.cpu()
            await asyncio.sleep(seconds)
        if self.tally.lost > 0:
            raise Failed(f"the server ended {self.tally.lost} connections{self.said()}")

    def cpu(self) -> float:
        """CPU seconds of the server so far: unknown, and so nothing, unless who started it knows more."""
        return 0.0

    def said(self) -> str:
        """What there is to say about the server when it failed: nothing, unless who started it knows more."""
        return ""

    async def disperse(self) -> None:
        """End all connections at once."""
        for client in self.clients:
            client.transport.abort()
        self.clients.clear()
        await asyncio.sleep(0)


class Stand(Crowd):
    """Starts a server, and ends it with everything that hangs on it: ``async with Stand(…) as stand``."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        port: int,
        cpus: set[int],
        dialect: Dialect = STILLHERE,
    ) -> None:
        """Prepare.

        Args:
            command: of the server; it is to listen on 127.0.0.1.
            env: added to ours.
            port: where it will listen.
            cpus: where it may run.
            dialect: what it speaks.
        """
        super().__init__(port, dialect=dialect)
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
        await self.disperse()

    async def _listening(self) -> None:
        end = time.monotonic() + _START
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                raise Failed(f"the server ended at once with {self._process.returncode}{self.said()}")
            with socket.socket() as probe:
                probe.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(probe, ("127.0.0.1", self.port))
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    await asyncio.sleep(0.3)  # what a server does just after it began to listen
                    return
        raise Failed(f"the server does not listen on port {self.port} after {_START:g} s{self.said()}")

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
        """The end of what the server wrote, on lines of its own."""
        self._output.seek(0)
        return ":\n" + self._output.read()[-3000:].decode(errors="replace")

    # -- figures ----------------------------------------------------------------------------------------------------

    def cpu(self) -> float:
        """CPU seconds of the server so far."""
        assert self._process is not None
        return cpu_seconds(tree(self._process.pid))

    def cpu_fine(self) -> float:
        """CPU seconds of the server so far, to the microsecond, threads that have ended left out."""
        assert self._process is not None
        return cpu_nanoseconds(tree(self._process.pid)) / 1e9

    def memory(self) -> int:
        """Bytes of the server now."""
        assert self._process is not None
        return pss_bytes(tree(self._process.pid))

    @property
    def pid(self) -> int:
        """The process that was started; there may be others below it."""
        assert self._process is not None
        return self._process.pid


def work_dir() -> Path:
    """Where servers may write, removed by whoever asked."""
    return Path(tempfile.mkdtemp(prefix="stillhere-bench-"))
