"""Debian's Chromium as people run it: tabs that are not in front are hidden, and their timers throttled.

Playwright keeps every page of a browser that it launches awake: it turns throttling off by flags, and lets each page
believe that it has the focus. So the browser is started here, without any of that, and whoever likes attaches to it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.acceptance.browser_socket import ask
from tests.acceptance.browsing import ARGUMENTS

START = 40.0
"""Seconds for a start on a busy machine."""
ANSWER = 40.0
"""Seconds for a command on a busy machine."""

_LISTENS = re.compile(r"DevTools listening on (ws://\S+)")


class ChromiumFailed(AssertionError):
    """Chromium did not start, refused a command, or threw an exception in a page; the message has its words."""


class Chromium:
    """A headless Chromium with a profile of its own; a context manager.

    Attributes:
        address: of its DevTools protocol, for Playwright's ``connect_over_cdp`` or :class:`DevTools`.
        directory: of its profile.
    """

    def __init__(self, *arguments: str) -> None:
        """Prepare.

        Args:
            arguments: further flags.
        """
        self._arguments = arguments
        self.address = ""

    def __enter__(self) -> Chromium:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        assert path is not None, "Chromium is not installed: apt-get install chromium"
        self._folder = tempfile.TemporaryDirectory(prefix="stillhere-chromium-", ignore_cleanup_errors=True)
        self.directory = Path(self._folder.name)
        self._words: deque[str] = deque(maxlen=50)
        self._listening = threading.Event()
        self._process = subprocess.Popen(
            [
                path,
                "--headless",
                "--remote-debugging-port=0",
                f"--user-data-dir={self.directory / 'profile'}",
                "--no-default-browser-check",
                "--password-store=basic",
                "--disable-dev-shm-usage",  # small in containers
                *ARGUMENTS,
                *self._arguments,
                "about:blank",
            ],
            env={**os.environ, "HOME": self._folder.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(START) or not self.address:
            self.__exit__(None, None, None)
            raise ChromiumFailed(f"Chromium did not listen within {START} s:\n" + "".join(self._words))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._folder.cleanup()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._words.append(line)
            found = _LISTENS.search(line)
            if found:
                self.address = found[1]
                self._listening.set()
        self._listening.set()  # it has ended, and nobody need wait


class DevTools:
    """The DevTools protocol over one socket: as little of it as many tabs need, and nothing that wakes them.

    A context manager. https://chromedevtools.github.io/devtools-protocol/
    """

    def __init__(self, address: str) -> None:
        """Prepare.

        Args:
            address: of the browser.
        """
        self._address = address
        self._next_id = 0

    def __enter__(self) -> DevTools:
        self._socket: ClientConnection = connect(self._address, max_size=None, compression=None, proxy=None).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send one command and wait for its result.

        Args:
            method: ``Domain.command``.
            session: of which tab; None for the browser.
            parameters: as the protocol names them.

        Returns:
            The result's fields.

        Raises:
            ChromiumFailed: it was refused, or not answered in time.
        """
        self._next_id += 1
        command: dict[str, object] = {"id": self._next_id, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        return ask(self._socket, command, ANSWER, ChromiumFailed)

    def open(self, address: str) -> str:
        """Open an address in a tab that does not come to the front; returns the tab's id."""
        return str(self.call("Target.createTarget", url=address, background=True)["targetId"])

    def evaluate(self, tab: str, expression: str) -> Any:
        """The value of a JavaScript expression in a tab, as JSON gives it.

        Args:
            tab: from :meth:`open`.
            expression: its value must fit into JSON.
        """
        session = str(self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"])
        try:
            answer = self.call("Runtime.evaluate", session, expression=expression, returnByValue=True)
        finally:
            self.call("Target.detachFromTarget", sessionId=session)
        if "exceptionDetails" in answer:
            raise ChromiumFailed(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")
