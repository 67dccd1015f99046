"""A real Redis in a process of its own that a test may kill, stop, fill up, empty and start again on the same port."""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START = 10.0
"""Seconds for a start on a busy machine."""

BINARY = "redis-server"


def free_port() -> int:
    """A port of the kernel's choice that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require(program: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on PATH (on Debian and Ubuntu: apt-get install redis-server)")
    return found


def client(port: int, timeout: float) -> redis.Redis:
    """A client that waits so many seconds for an answer, and tries nothing more than once again."""
    return client_of("127.0.0.1", port, timeout)


def client_of(host: str, port: int, timeout: float) -> redis.Redis:
    """The same, of a server elsewhere."""
    return redis.Redis(host, port, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 1))


class RedisProcess:
    """``redis-server`` on loopback, on one port for all its lives; a context manager.

    Attributes:
        port: where it listens.
        admin: a client for the test itself; it connects anew by itself.
    """

    def __init__(
        self,
        *arguments: str,
        persistent: bool = False,
        environ: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """Prepare; entering the context starts it.

        Args:
            arguments: further options, as on the command line.
            persistent: with an append-only file that is written with every command.
            environ: its environment; None for the test's own.
            port: None for one that the kernel chooses.
        """
        self._binary = require(BINARY)
        self._folder = tempfile.TemporaryDirectory(prefix="stillhere-redis-", ignore_cleanup_errors=True)
        self._arguments = [*(("--appendonly yes --appendfsync always" if persistent else "").split()), *arguments]
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        self.admin = client(self.port, 10.0)
        atexit.register(self._end)

    @property
    def directory(self) -> Path:
        """Where it keeps its files."""
        return Path(self._folder.name)

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:<port>``."""
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> RedisProcess:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> RedisProcess:
        """Start it, with the data that it left if it is persistent, and wait until it answers."""
        assert self._process is None, "it runs already"
        options = f"--port {self.port} --bind 127.0.0.1 --logfile redis.log --repl-diskless-sync-delay 0 --save"
        self._process = subprocess.Popen(
            [self._binary, *options.split(), "", "--dir", str(self.directory), *self._arguments],
            cwd=self.directory,
            env=None if self._environ is None else dict(self._environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.wait_for(self._answers, "answer")
        return self

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        assert self._process is not None, "it does not run"
        self._process.kill()
        self._process.wait(10)
        self._process = None
        self.admin.connection_pool.disconnect()

    def wipe(self) -> None:
        """Remove its files, while it does not run: it will come back empty."""
        assert self._process is None, "it runs"
        for path in self.directory.iterdir():
            if path.name != "redis.log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def pause(self) -> None:
        """SIGSTOP: it stands still, its sockets stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def wait_for(self, true: Callable[[], bool], what: str, seconds: float = START) -> None:
        """Wait until something holds, as long as it lives.

        Raises:
            AssertionError: it does not in so many seconds; with the end of the log.
        """
        end = time.monotonic() + seconds
        while not true():
            alive = self._process is not None and self._process.poll() is None
            assert alive and time.monotonic() < end, f"Redis did not {what} within {seconds:g} s:\n{self._said()}"
            time.sleep(0.02)

    def info(self, section: str) -> dict[str, Any]:
        """``INFO`` of a section."""
        found: dict[str, Any] = self.admin.info(section)
        return found

    def close(self) -> None:
        """End it whatever its state, and remove its folder."""
        self._end()
        self.admin.close()
        atexit.unregister(self._end)
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False

    def _signal(self, number: int) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _said(self) -> str:
        log = self.directory / "redis.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"


def follow(replica: RedisProcess, port: int) -> None:
    """Make one a replica of what listens on a port of loopback, and wait until it is in step."""
    replica.admin.replicaof("127.0.0.1", str(port))
    replica.wait_for(lambda: replica.info("replication").get("master_link_status") == "up", "be in step")


def promote(replica: RedisProcess) -> None:
    """Make it a master."""
    replica.admin.replicaof("NO", "ONE")
    replica.wait_for(lambda: replica.info("replication")["role"] == "master", "become a master")
