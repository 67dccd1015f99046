"""People in Debian's Firefox, driven by WebDriver BiDi: the protocol that Firefox speaks without a driver beside it.

Only what the tests here need of https://www.w3.org/TR/webdriver-bidi/: windows of their own, tabs, navigation,
history, and scripts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.acceptance.browser_socket import ask

START = 30.0
"""Seconds for a start on a busy machine."""
ANSWER = 20.0
"""Seconds for a command, a navigation included."""

_LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")

_PREFERENCES: dict[str, bool | int | str] = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.tabs.warnOnClose": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.disable_open_during_load": False,  # a page may open a tab by itself
    "extensions.update.enabled": False,
    "fission.bfcacheInParent": True,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "remote.prefs.recommended": False,  # they turn off the back/forward cache
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class BidiError(AssertionError):
    """Firefox did not start, refused a command, or threw an exception in the page; the message has its words."""


def firefox_path() -> str | None:
    """Where Firefox is, if it is installed; its extended support release comes first.

    Ubuntu's, a snap or the script that asks for it, does not count: it sees no profile in the temporary folder.
    """
    for name in ("firefox-esr", "firefox"):
        path = shutil.which(name)
        if path is None:
            continue
        with Path(path).open("rb") as program:
            beginning = program.read(4096)
        is_snap = "snap" in Path(path).resolve().parts or Path(path).resolve().name == "snap" or b"/snap/" in beginning
        if not is_snap:
            return path
    return None


class Firefox:
    """A headless Firefox with a profile of its own; a context manager."""

    def __enter__(self) -> Firefox:
        path = firefox_path()
        assert path is not None, "Firefox is not installed: apt-get install firefox-esr"
        self._folder = tempfile.TemporaryDirectory(prefix="stillhere-firefox-", ignore_cleanup_errors=True)
        profile = Path(self._folder.name) / "profile"
        profile.mkdir()
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        self._words: deque[str] = deque(maxlen=50)
        self._address = ""
        self._listening = threading.Event()
        self._next_id = 0
        self._socket: ClientConnection | None = None
        self._process = subprocess.Popen(
            [path, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile)],
            env={**os.environ, "HOME": self._folder.name, "MOZ_CRASHREPORTER_DISABLE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            if not self._listening.wait(START) or not self._address:
                raise BidiError(f"Firefox did not listen within {START} s:\n" + "".join(self._words))
            self._socket = connect(f"{self._address}/session", max_size=None, compression=None, proxy=None).__enter__()
            session = self.call("session.new", capabilities={})
            self.version = str(session["capabilities"]["browserVersion"])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it, whatever its state, and remove its profile."""
        self._process.terminate()  # `browser.close` would take seconds to tidy up a profile that nobody wants
        if self._socket is not None:
            self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._folder.cleanup()

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command and wait for its result.

        Args:
            method: ``module.command``.
            parameters: as the specification names them.

        Returns:
            The result's fields.

        Raises:
            BidiError: it was refused, or not answered in time.
        """
        assert self._socket is not None, "it does not run"
        self._next_id += 1
        command: dict[str, object] = {"id": self._next_id, "method": method, "params": parameters}
        return ask(self._socket, command, ANSWER, BidiError)

    def window(self) -> Window:
        """A window whose storage and cookies nobody else has."""
        return Window(self, self.call("browser.createUserContext")["userContext"])

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._words.append(line)
            found = _LISTENS.search(line)
            if found:
                self._address = found[1]
                self._listening.set()
        self._listening.set()  # it has ended, and nobody need wait


class Window:
    """Somebody's part of the browser: tabs that share their storage."""

    def __init__(self, firefox: Firefox, user_context: str) -> None:
        """Made by :meth:`Firefox.window`."""
        self._firefox = firefox
        self._id = user_context

    def tab(self) -> Tab:
        """A new, empty tab."""
        created = self._firefox.call("browsingContext.create", type="tab", userContext=self._id)
        return Tab(self._firefox, created["context"])

    def tabs(self) -> list[Tab]:
        """All of its tabs."""
        tree = self._firefox.call("browsingContext.getTree", maxDepth=0)["contexts"]
        return [Tab(self._firefox, context["context"]) for context in tree if context["userContext"] == self._id]

    def close(self) -> None:
        """Close all of its tabs."""
        self._firefox.call("browser.removeUserContext", userContext=self._id)


class Tab:
    """One tab."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        """Made by a window."""
        self._firefox = firefox
        self.context = context

    def goto(self, address: str) -> None:
        """Navigate, and wait until the page has loaded."""
        self._firefox.call("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def follow(self, address: str) -> None:
        """Begin to navigate, as a click on a link does, and wait for nothing."""
        self.evaluate(f"void setTimeout(() => (location.href = {json.dumps(address)}))", touched=True)

    def reload(self) -> None:
        """Reload, and wait until the page has loaded."""
        self._firefox.call("browsingContext.reload", context=self.context, wait="complete")

    def back(self) -> None:
        """One step back in the history; where the page comes from decides the browser."""
        self._firefox.call("browsingContext.traverseHistory", context=self.context, delta=-1)

    def close(self) -> None:
        """Close the tab, as a click on its cross does."""
        self._firefox.call("browsingContext.close", context=self.context)

    def evaluate(self, expression: str, *, touched: bool = False) -> Any:
        """The value of a JavaScript expression in the page, as JSON gives it; a promise is awaited.

        Args:
            expression: an expression; one that has no value gives None.
            touched: whether it counts as a click of the user's, which opening a tab asks for.
        """
        answer = self._firefox.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self.context},
            awaitPromise=True,
            userActivation=touched,
        )
        if answer["type"] == "exception":
            raise BidiError(f"{expression}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"]) if "value" in answer["result"] else None

    def wait_for(self, expression: str, timeout: float = 15.0) -> None:
        """Wait until an expression is true; a page that is just being replaced is asked again.

        Args:
            expression: as for :meth:`evaluate`.
            timeout: seconds.
        """
        end = time.monotonic() + timeout
        last: object = None
        while time.monotonic() < end:
            try:
                last = self.evaluate(expression)
            except BidiError as error:
                last = error
            else:
                if last:
                    return
            time.sleep(0.02)
        raise BidiError(f"not within {timeout} s: {expression}; last: {last}")
