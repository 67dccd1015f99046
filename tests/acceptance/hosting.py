"""An application under an ASGI server that is not ours, in a process of its own, on a port that the kernel chose."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from tests.acceptance.raw import Raw
from tests.acceptance.server import environment

ROOT = Path(__file__).parents[2]
START = 30.0
"""Seconds for a start on a busy machine."""

AsgiServer = Literal["uvicorn", "hypercorn", "granian"]
SERVERS: tuple[AsgiServer, ...] = ("uvicorn", "hypercorn", "granian")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With its workers, which Granian has, and which would outlive it."""
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


class Host:
    """A context manager: the process runs inside of it."""

    def __init__(
        self, application: str, server: AsgiServer = "uvicorn", *, environ: Mapping[str, str] | None = None
    ) -> None:
        """Prepare.

        Args:
            application: ``module:name``.
            server: what serves it.
            environ: further variables.
        """
        self._application = application
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="stillhere-host-", ignore_cleanup_errors=True)
        self.directory = Path(self._folder.name)
        self._environ = {
            "PRESENCE_STORE": f"sqlite:///{self.directory}/presence.db",
            "DJANGO_DATABASE": f"{self.directory}/site.db",
            **(environ or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._said = self.directory / "output"
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _kill(self._process)
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers HTTP."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # its former run's connections linger
            listener.bind(("127.0.0.1", self.port))
            self.port = listener.getsockname()[1]
            listener.listen(64)
            descriptor = listener.fileno()
            if self._server == "granian":
                listener.close()  # it opens its own; nobody else is given the port within this moment
            with self._said.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", *self._arguments(descriptor)],
                    pass_fds=[] if self._server == "granian" else [descriptor],
                    cwd=ROOT,
                    env={**environment(), **self._environ, "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        self._until_it_answers()

    def _arguments(self, descriptor: int) -> list[str]:
        match self._server:
            case "uvicorn":
                return ["uvicorn", self._application, "--fd", str(descriptor)]
            case "hypercorn":
                return ["hypercorn", self._application, "--bind", f"fd://{descriptor}", "--graceful-timeout", "2"]
            case "granian":
                return ["granian", "--interface", "asgi", "--port", str(self.port), self._application]

    def _until_it_answers(self) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, f"it ended at once: {self.said()}"
            try:
                self.get("/")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"it does not answer: {self.said()}")

    def stop(self) -> int:
        """SIGTERM, and wait for the end; returns the exit status."""
        assert self._process is not None
        process, self._process = self._process, None
        process.terminate()
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise AssertionError(f"it did not end: {self.said()}") from None

    def said(self) -> str:
        """All that it has written so far."""
        return self._said.read_text(errors="replace")

    def get(self, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> tuple[int, Any]:
        """Ask by HTTP; with a body, by POST. Returns the status, and the content: read as JSON if it is that."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=dict(headers or {}))
        try:
            with urllib.request.build_opener(_Stay()).open(request, timeout=10) as answer:
                return answer.status, _content(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _content(error.read())

    def cookie(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> dict[str, str]:
        """Log in by POST; returns the cookies that were set."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=dict(headers or {}))
        try:
            answer = urllib.request.build_opener(_Stay()).open(request, timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            pairs = [line.split(";")[0].partition("=") for line in answer.headers.get_all("Set-Cookie") or ()]
        return {name: value for name, _, value in pairs}

    def client(
        self,
        path: str,
        cookies: Mapping[str, str] | None = None,
        *,
        tab: str | None = None,
        origin: str | None = "",
        token: str | None = None,
    ) -> Raw:
        """Connect as a page of the application does.

        Args:
            path: of the WebSocket.
            cookies: which go along.
            tab: the id of the tab.
            origin: of the page; empty for the application's own, None for none.
            token: if there is one.
        """
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
        if origin is not None:
            headers["Origin"] = origin or f"http://127.0.0.1:{self.port}"
        client = Raw.open(
            f"ws://127.0.0.1:{self.port}{path}",
            token,
            tab=tab,
            welcome=False,
            headers={k: v for k, v in headers.items() if v},
        )
        client.expect("welcome")
        return client


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _content(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
