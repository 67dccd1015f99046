"""The example of the README: presence inside an application of somebody's own, on plain uvicorn."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from stillhere.server.auth import mint
from tests.acceptance.server import environment

ROOT = Path(__file__).parents[2]
SECRET = "a secret of the embedding test, long enough"


@pytest.fixture
def application(tmp_path: Path) -> Iterator[int]:
    """The example under uvicorn; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "examples.starlette_app:app", "--fd", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            cwd=ROOT,
            env={
                **environment(),
                "PRESENCE_SECRET": SECRET,
                "PRESENCE_STORE": f"sqlite:///{tmp_path}/presence.db",
                "PATH": os.environ["PATH"],
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = listener.getsockname()[1]
            _wait_until_it_answers(port)
            yield port
        finally:
            process.terminate()
            try:
                assert process.wait(15) in (0, -15)
            finally:
                process.kill()


def _wait_until_it_answers(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/is-online/nobody", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, "the example does not answer"
        time.sleep(0.05)


def _status(port: int, user: str) -> str:
    status = httpx.get(f"http://127.0.0.1:{port}/is-online/{user}", timeout=5).json()["status"]
    assert isinstance(status, str)
    return status


def _count(port: int, user: str, headers: dict[str, str]) -> int:
    url = f"http://127.0.0.1:{port}/presence/v1/users/{user}/diagnostics"
    count = httpx.get(url, headers=headers, timeout=5).json()["activeConnectionCount"]
    assert isinstance(count, int)
    return count


async def test_an_application_knows_at_once_who_is_connected_to_its_mount(application: int) -> None:
    token = mint(SECRET, "alice", now=time.time(), watch="*", scope="admin")
    headers = {"Authorization": f"Bearer {token}"}
    assert _status(application, "alice") == "offline"
    async with connect(f"ws://127.0.0.1:{application}/presence/ws", additional_headers=headers) as client:
        assert json.loads(await client.recv())["type"] == "welcome"
        assert _status(application, "alice") == "online"
        assert _count(application, "alice", headers) == 1
        await client.send('{"type":"bye"}')
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
    assert _status(application, "alice") == "offline"


async def test_a_websocket_elsewhere_below_the_mount_is_refused(application: int) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{application}/presence/other")
    assert refused.value.response.status_code == 404
