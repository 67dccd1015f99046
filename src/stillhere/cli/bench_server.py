"""The server that ``stillhere bench`` starts for itself: a process of its own, on loopback, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec

from stillhere.cli.failure import Failure

START = 20.0
"""Seconds for the server to answer."""


@contextlib.contextmanager
def own_server(connections: int, config: Path | None, assignments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Run a server that takes so many connections.

    Args:
        connections: how many will come.
        config: a TOML file for the server.
        assignments: further settings.

    Yields:
        Its address and its secret.
    """
    secret = secrets.token_urlsafe(48)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STILLHERE_", "PRESENCE_"))}
    environ["STILLHERE_AUTH__SECRET"] = secret
    settings = {
        "server.host": "127.0.0.1",
        "server.port": "0",
        "server.drain_s": "0",
        "store.url": "memory:",
        "limits.connections": str(connections + 100),
        "limits.connections_per_ip": str(connections + 100),
        **assignments,
        "server.log_format": "json",
        "server.log_level": "info",
    }
    flags = [f"--set={key}={value}" for key, value in settings.items()]
    if config is not None:
        flags.append(f"--config={config}")
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "stillhere", "serve", *flags],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            assert process.stdout is not None
            # a server that says nothing is ended, which ends the wait for its first line
            timer = threading.Timer(START, process.kill)
            timer.start()
            url = _address(process.stdout)
            timer.cancel()
            if url is None:
                complaints.seek(0)
                said = complaints.read(2000).decode(errors="replace").strip()
                raise Failure("the server for the measurement did not start", *said.splitlines())
            threading.Thread(target=_discard, args=(process.stdout,), daemon=True).start()
            yield url, secret
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(lines: IO[bytes]) -> str | None:
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            entry = msgspec.json.decode(line)
            if isinstance(entry, dict) and entry.get("event") == "serving":
                return str(entry["url"])
    return None


def _discard(lines: IO[bytes]) -> None:
    """Read on, or the server would wait for room in the pipe."""
    for _ in lines:
        pass
