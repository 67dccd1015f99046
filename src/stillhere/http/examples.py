"""Examples for the API document; a test holds each against its schema."""

from __future__ import annotations

from stillhere.http.answers import ConnectionInfo, Diagnostics, LastTransition
from stillhere.http.operations import Parameter
from stillhere.wire.messages import Member, MemberMeta, UserPresence

EPOCH = "1831872000000512"
AT = 1_790_000_000_123
CURSOR = f"{EPOCH}-42"

USER = Parameter("The id of a user, percent-encoded: 1 to 256 bytes of UTF-8 without control characters.", "alice")
ROOM = Parameter("The name of a room, percent-encoded: 1 to 256 bytes of UTF-8 without control characters.", "lobby")
NODE = Parameter("The name of a node, as `server.node` has it.", "n1")

PRESENCE = UserPresence("alice", "online", EPOCH, 42, AT, devices=2, info={"name": "Alice"})
MEMBER = Member("alice", "online", EPOCH, 43, AT, metas=[MemberMeta("c_7dQxW1mPz0aBcDeF", {"seat": 4})])

KEY = "ali…:s_9…:1790000000123:c_7dQxW1…"

DIAGNOSTICS = Diagnostics(
    user="alice",
    online=True,
    status="online",
    active_connection_count=1,
    connection_keys=[KEY],
    connections=[ConnectionInfo(KEY, "OPEN", AT, AT + 5000, "n1", "t_4f1c", "Chrome 156", "active")],
    grace=None,
    epoch=EPOCH,
    version=42,
    last_transition=LastTransition("PRESENCE_ONLINE", AT, "connection_open"),
    complete=True,
)
