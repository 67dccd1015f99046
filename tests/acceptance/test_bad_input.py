"""What anybody may send, and what comes of it: the answer that docs/protocol.md names, and nothing for anybody else.

Every row is sent while a bystander is connected and watched. After it, the bystander is still answered promptly, and
nobody was shown a change of it.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.acceptance.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    HandshakeRefused,
    Raw,
    close_payload,
    dial,
    encode_frame,
    text_frame,
    upgrade_head,
)
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import Watcher, enter, wait_until, watch

AUDIENCE = "stillhere-tests"
AUTH_TIMEOUT, HANDSHAKE_TIMEOUT = 1000, 1200
PROMPT = 2.0
"""Seconds within which a bystander is answered even on a busy machine: far below every time-out of a client."""

LIMITS: dict[str, object] = {
    "auth.audience": AUDIENCE,
    "auth.leeway_ms": 0,
    "limits.auth_timeout_ms": AUTH_TIMEOUT,
    "limits.handshake_timeout_ms": HANDSHAKE_TIMEOUT,
    "limits.connections_per_user": 3,
    "limits.watch": 100,
    "limits.queries": 100,
    "limits.rooms": 3,
    # enough for every row but the floods
    "limits.messages_per_second": 20,
    "limits.messages_burst": 200,
}


class House:
    """The server, a bystander on it, and somebody who watches the bystander."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.bystander = enter(server, "bystander", "t", aud=None, audience=AUDIENCE)
        self.watcher = Watcher(lambda: enter(server, "watcher", audience=AUDIENCE), ["bystander"], ["lobby"])
        self.bystander.ask({"type": "join", "id": "j", "room": "lobby"}, "room")
