"""A real server in a process of its own, for the acceptance tests.

It listens on loopback, on a port that the kernel chose, keeps its files in a folder of its own, and is ended with the
test, whatever the test did to it: nothing but what was started here is ever signalled.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal
from urllib.parse import urlsplit

import stillhere
from stillhere.server.auth import mint

START = 20.0
"""Seconds for a start on a busy machine."""

Transport = Literal["native", "asgi"]
TRANSPORTS: tuple[Transport, ...] = ("native", "asgi")

_ADDRESS = re.compile(r'"url":"(http://[^"]+)"|\burl=(http://\S+)|^  API +(http://\S+)/docs')
"""The line that says where it serves: as JSON, as key=value, or of ``stillhere dev``."""

_SOURCE = Path(stillhere.__file__).parents[1]


class ServerFailed(AssertionError):
    """The server did not start, or did not do in time what was awaited; the message has what it said."""


def environment(settings: Mapping[str, object] | None = None) -> dict[str, str]:
    """The environment of a process of ours: nobody's settings but these.

    Args:
        settings: ``section.key`` to value; lists and tables become JSON.
    """
    foreign = ("STILLHERE_", "PRESENCE_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_SOURCE), environ.get("PYTHONPATH")]))
    for key, value in (settings or {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        environ[f"STILLHERE_{key.upper().replace('.', '__')}"] = text
    return environ


class ServerProcess:
    """``stillhere serve`` or ``stillhere dev``; a context manager.

    Attributes:
        secret: the HMAC secret.
        api_key: for ``X-API-Key``.
        directory: its working directory; ``sqlite:///x.db`` is a file in it.
        url: ``http://127.0.0.1:<port>``.
        returncode: of the run that ended last, as in :class:`subprocess.Popen`.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        websocket: Transport = "native",
        dev: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; entering the context starts it.

        Args:
            settings: ``section.key`` to value, over the defaults of these tests: a store in memory, a drain of half a
                second, a port of the kernel's choice.
            websocket: which transport.
            dev: the development server; it makes its own secret, so tokens come from itself.
            environ: further variables.
        """
        self.secret = secrets.token_urlsafe(48)
        self.api_key = secrets.token_urlsafe(48)
        self._folder = tempfile.TemporaryDirectory(prefix="stillhere-test-", ignore_cleanup_errors=True)
        self.directory = Path(self._folder.name)
        self._settings: dict[str, object] = {
            "server.port": 0,
            "server.node": "n1",
            "server.drain_s": 0.5,
            "server.log_format": "json",
            "server.websocket": websocket,
            "store.url": "memory:",
            "auth.secret": self.secret,
            "admin.api_keys": [self.api_key],
            **(settings or {}),
        }
        self._dev = dev
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []
        self._said = threading.Condition()
        self._lines: list[dict[str, Any]] = []
        self._output: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._began = 0
        self.returncode: int | None = None
        self.url = ""
        atexit.register(self._end)

    # -- life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> ServerProcess:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> ServerProcess:
        """Start it, on the port that it had before if it ran already, and wait until it is ready."""
        assert self._process is None, "it runs already"
        if self.url:
            self._settings["server.port"] = self.port
        self._began = len(self._lines)
        said = len(self._output["stdout"])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stillhere", *self._arguments()],
            env={**environment(self._settings), **self._environ},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(name, getattr(self._process, name)), daemon=True)
            for name in self._output
        ]
        for reader in self._readers:
            reader.start()
        self._until(lambda: self._find_address(said), START, "say where it serves")
        self._until(lambda: self.get("/readyz")[0] == 200, START, "be ready")
        return self

    def signal(self, number: int) -> None:
        """Send a signal to the server, and to nobody else."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end and for all that it said; returns the exit status, negative for a signal."""
        assert self._process is not None, "it does not run"
        try:
            self.returncode = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"the server did not end within {timeout} s{self._told()}") from None
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process = None
        return self.returncode

    def terminate(self, timeout: float = 20.0) -> int:
        """SIGTERM, and wait for the drain and the end; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> int:
        """SIGKILL, as a crash would be."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def restart(self, *, crash: bool = False) -> ServerProcess:
        """End it, by SIGTERM or as a crash, and start it again on the same port and store."""
        if self._process is not None:
            self.kill() if crash else self.terminate()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its sockets stay."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it whatever its state, and remove its folder."""
        self._end()
        atexit.unregister(self._end)
        self._folder.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.wait()

    # -- how to reach it --------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def ws_url(self) -> str:
        """``ws://127.0.0.1:<port>/ws``."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def token(self, user: str, **claims: Any) -> str:
        """A token that the server accepts.

        Args:
            user: whose.
            claims: as for :func:`stillhere.server.auth.mint`; everybody may be watched and every room joined unless
                they say otherwise.
        """
        if self._dev:
            assert not claims, "the development server chooses the claims"
            token = self.call("POST", "/dev/token", {"user": user})[1]["token"]
            assert isinstance(token, str)
            return token
        return mint(self.secret, user, **{"now": time.time(), "watch": "*", "rooms": "*", **claims})

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """GET with the API key; the status, and the answer as JSON or else as text. (0, the error) if none comes."""
        return self.call("GET", path, headers={"X-API-Key": self.api_key, **headers})

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """POST JSON with the API key; answers as :meth:`get`."""
        return self.call("POST", path, body, headers={"X-API-Key": self.api_key})

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """One call with exactly these headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        sent = dict(headers or {})
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, error
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    # -- what it said -----------------------------------------------------------------------------------------------

    @property
    def stdout(self) -> str:
        """All of it, over all runs."""
        with self._said:
            return "".join(self._output["stdout"])

    @property
    def stderr(self) -> str:
        """All of it, over all runs."""
        with self._said:
            return "".join(self._output["stderr"])

    def log(self, event: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The log lines so far, over all runs, that have this event and these fields."""
        with self._said:
            return [line for line in self._lines if _fits(line, event, fields)]

    def wait_log(self, event: str, *, count: int = 1, timeout: float = 5.0, **fields: object) -> list[dict[str, Any]]:
        """Wait until this run has logged so many such lines; returns them.

        Raises:
            ServerFailed: it did not in that many seconds, or ended before.
        """
        end = time.monotonic() + timeout
        with self._said:
            while True:
                found = [line for line in self._lines[self._began :] if _fits(line, event, fields)]
                if len(found) >= count:
                    return found
                left = end - time.monotonic()
                if left <= 0 or not (self.running or self._reading()):
                    break
                self._said.wait(min(0.1, left))
        wanted = f"{count} × {event} {fields or ''}"
        raise ServerFailed(f"the server logged {len(found)} and not {wanted} within {timeout} s{self._told()}")

    def _arguments(self) -> list[str]:
        if not self._dev:
            return ["serve"]
        return ["dev", "--port", str(self._settings["server.port"]), "--store", str(self._settings["store.url"])]

    def _find_address(self, start: int) -> bool:
        with self._said:
            found = [match for line in self._output["stdout"][start:] if (match := _ADDRESS.search(line))]
        if found:
            self.url = next(filter(None, found[-1].groups()))
        return bool(found)

    def _reading(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        for raw in pipe:
            text = raw.decode(errors="replace")
            try:
                line = json.loads(text) if name == "stdout" else None
            except ValueError:
                line = None
            with self._said:
                self._output[name].append(text)
                if isinstance(line, dict):
                    self._lines.append(line)
                self._said.notify_all()

    def _until(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end or not self.running:
                raise ServerFailed(f"the server did not {what} within {seconds} s{self._told()}")
            time.sleep(0.02)

    def _told(self) -> str:
        return f"\n--- stdout\n{self.stdout[-3000:]}\n--- stderr\n{self.stderr[-3000:]}"


def _fits(line: dict[str, Any], event: str | None, fields: Mapping[str, object]) -> bool:
    if event is not None and line.get("event") != event:
        return False
    return all(line.get(name) == value for name, value in fields.items())
