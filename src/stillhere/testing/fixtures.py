"""Fixtures for pytest: write ``pytest_plugins = ["stillhere.testing.fixtures"]`` into your top ``conftest.py``.

They need a plugin that runs async fixtures: pytest-asyncio with ``asyncio_mode = "auto"``, or anyio's. To configure
the presence of ``world``, override ``presence_options``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stillhere.testing.world import World, presence_world


@pytest.fixture
def presence_options() -> dict[str, Any]:
    """What :func:`stillhere.testing.presence_world` is given; override it."""
    return {}


@pytest.fixture
async def world(presence_options: dict[str, Any]) -> AsyncIterator[World]:
    """A world of its own for each test."""
    async with presence_world(**presence_options) as world:
        yield world
