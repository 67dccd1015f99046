"""One command to a browser over its socket, and the answer to it: DevTools and WebDriver BiDi number both alike."""

from __future__ import annotations

import json
import time
from typing import Any, cast

from websockets.sync.client import ClientConnection


def ask(
    socket: ClientConnection, command: dict[str, object], seconds: float, failed: type[AssertionError]
) -> dict[str, Any]:
    """Send one command and wait for its result.

    Args:
        socket: of the browser.
        command: with ``id`` and ``method``.
        seconds: how long to wait.
        failed: what to raise.

    Returns:
        The result's fields.

    Raises:
        AssertionError: `failed`; it was refused, or not answered in time.
    """
    method = command["method"]
    socket.send(json.dumps(command))
    end = time.monotonic() + seconds
    while True:
        try:
            answer = json.loads(socket.recv(max(0.0, end - time.monotonic())))
        except TimeoutError:
            raise failed(f"{method} was not answered within {seconds} s") from None
        if answer.get("id") != command["id"]:
            continue  # an event, or an answer that came too late for whoever asked
        if "error" in answer:  # DevTools tells all in it; BiDi has a message beside
            raise failed(f"{method}: {answer['error']} {answer.get('message', '')}".rstrip())
        return cast(dict[str, Any], answer["result"])
