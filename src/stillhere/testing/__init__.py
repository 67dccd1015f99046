"""Try what users of an application see of each other, in milliseconds, with the real rules and no network::

    async with presence_world() as world:
        alice = await world.connect("alice")
        bob = await world.connect("bob", watches=["alice"])
        alice.reload(gap=2.0)
        await world.advance(10)
        assert bob.saw == []

Nothing in Stillhere imports this. ``stillhere.testing.fixtures`` has fixtures for pytest.
"""

from __future__ import annotations

from stillhere.testing.client import Client, Sight
from stillhere.testing.clock import ManualClock, TimeStandsStill
from stillhere.testing.world import Refused, World, presence_world

__all__ = ["Client", "ManualClock", "Refused", "Sight", "TimeStandsStill", "World", "presence_world"]
