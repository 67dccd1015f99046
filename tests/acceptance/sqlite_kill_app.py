"""A process that puts a sqlite store under load until it is killed; ``test_sqlite_kill.py`` starts it.

Arguments: the file, the incarnation, a seed. Each line on the standard output is a JSON array::

    ["ready", {user: status}]             the store has started, and this is what it shows
    ["try", user, revision, [connection]] about to be put
    ["ack", user, revision, version]      acknowledged; the last version of what came of it
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

from stillhere.core.events import Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)
from stillhere.store.sqlite import SqliteStore

USERS = [UserId(f"u{number:02}") for number in range(40)]
POLICY = GracePolicy.of(overrides={Cause.NODE_LOST: 0.2})
_ENDS = {Cause.BYE: 0.0, Cause.KICKED: 0.0, Cause.CLIENT_CLOSE: 0.02, Cause.GOING_AWAY: 0.1}


def tell(*line: Any) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")  # unbuffered: what was told stays told


def connect(user: UserId, serial: int, chance: random.Random) -> ConnectionSummary:
    return ConnectionSummary(
        ConnectionId(f"{user}.{os.getpid()}.{serial}"),
        SessionId("s1"),
        TabId(chance.choice("abc")),
        ReadyState.OPEN,
        time.time(),
        chance.choice((None, None, Availability.AWAY, Availability.BUSY, Availability.INVISIBLE)),
        {"filler": "x" * chance.randrange(200)},
        None,
        {RoomName(f"r{number}"): {} for number in range(chance.randrange(4))},
    )


async def live(store: SqliteStore, user: UserId, seed: str) -> None:
    """One user's connections come and go at random, one change after the other."""
    chance = random.Random(f"{seed} {user}")
    there: dict[str, ConnectionSummary] = {}
    revision = 0
    while True:
        revision += 1
        if there and chance.random() < 0.5:
            cause, window = chance.choice(list(_ENDS.items()))
            gone = [there.pop(chance.choice(list(there)))]
        else:
            new = connect(user, revision, chance)
            cause, window = Cause.SUPERSEDED, 0.0
            gone = [there.pop(c.id) for c in list(there.values()) if c.tab == new.tab]
            there[new.id] = new
        endings = tuple(Ending(c.id, c.session, c.tab, cause, window, 0.0, 0, c) for c in gone)
        tell("try", user, revision, list(there))
        outcome = await store.put([Contribution(user, revision, tuple(there.values()), endings)])
        version = max((e.version for e in outcome.events if isinstance(e, Transition)), default=0)
        tell("ack", user, revision, version)
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() * 0.02)


async def main(path: str, incarnation: str, seed: str) -> None:
    store = SqliteStore(path, time.time, policy=POLICY)
    await store.start(Incarnation(incarnation), 15.0)
    tell("ready", {user: shown.status for user, shown in (await store.snapshot(USERS)).users.items()})
    lives = [asyncio.ensure_future(live(store, user, seed)) for user in USERS]
    while True:
        await asyncio.sleep(0.02)
        await store.sweep()
        for task in lives:
            if task.done():
                task.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
