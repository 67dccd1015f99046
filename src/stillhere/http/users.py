"""Calls about users: how they are shown, what is known of them, and putting them out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from stillhere.core.record import NOBODY, Record, Shown
from stillhere.core.words import Status, UserId
from stillhere.http.answers import (
    REASON_CHARACTERS,
    Diagnostics,
    Disconnect,
    Disconnected,
    PresenceList,
    PresencePage,
    QueryUsers,
    UsersQuery,
)
from stillhere.http.call import Call, answer, checked_bound
from stillhere.http.diagnostics import diagnose, known_record, local_status
from stillhere.http.errors import RETRY_AFTER, Refused
from stillhere.http.examples import DIAGNOSTICS, PRESENCE, USER
from stillhere.http.operations import Access, Answer, Operation
from stillhere.server.node import Node
from stillhere.store.contract import StoreError
from stillhere.wire.frames import user_presence
from stillhere.wire.ids import id_fault
from stillhere.wire.messages import UserPresence

ACKNOWLEDGE = 5.0
"""How long a kick waits for the store, in seconds."""

_CLOSE_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, section 5.5)."""

_CHARACTER_BYTES = 4
"""The longest UTF-8 sequence."""


def presence(user: UserId, record: Record | None, epoch: str) -> UserPresence:
    """How a user is shown, and on how many tabs and devices: those of an invisible user are not counted."""
    if record is None:
        return user_presence(user, NOBODY, epoch)
    shown = record.shown
    devices = None
    if shown.status is not Status.OFFLINE:
        devices = len({c.tab for _, c in record.connections() if c.ready.active})
    return user_presence(user, shown, epoch, devices)


async def look_up(node: Node, users: Sequence[UserId]) -> tuple[list[UserPresence], bool]:
    """How users are shown, and whether that could be told of each."""
    found: list[UserPresence] = []
    complete = True
    for user in users:
        epoch = node.hub.epoch_of(user)
        try:
            record = await known_record(node, user)
        except StoreError:
            known = without_store(node, user)
            complete = complete and known.status is not Status.UNKNOWN
            found.append(user_presence(user, known, epoch))
        else:
            found.append(presence(user, record, epoch))
    return found, complete


def without_store(node: Node, user: UserId) -> Shown:
    """The store is out of reach: a user of this node is online all the same, of another one nobody can tell."""
    opened = [c.opened_at for c in node.roster.of(user) if c.ready.active]
    return Shown(local_status(node, user), 0, min(opened, default=0.0))


async def _user(call: Call) -> Response:
    users, _ = await look_up(call.api.node, [call.user()])
    return answer(users[0])


async def _query(call: Call) -> Response:
    node = call.api.node
    users = (await call.body(QueryUsers)).users
    most = node.settings.limits.queries
    if len(users) > most:
        raise Refused(400, f"users holds {len(users)} ids; at most {most} can be asked for at once (limits.queries)")
    for position, user in enumerate(users):
        if (fault := id_fault(user)) is not None:
            raise Refused(400, f"users[{position}] {fault}")
    found, complete = await look_up(node, [UserId(user) for user in dict.fromkeys(users)])
    return answer(PresenceList(found, complete))


async def _page(call: Call) -> Response:
    node = call.api.node
    wanted = call.query(UsersQuery)
    status = None if wanted.status is msgspec.UNSET else Status(wanted.status)
    prefix, after = checked_bound("the prefix", wanted.prefix), checked_bound("the cursor", wanted.cursor)
    page = await node.store.page(after, wanted.limit, prefix, status)
    epoch_of = node.hub.epoch_of
    return answer(PresencePage([presence(user, record, epoch_of(user)) for user, record in page.users], page.cursor))


async def _diagnostics(call: Call) -> Response:
    return answer(await diagnose(call.api.node, call.user()))


async def _disconnect(call: Call) -> Response:
    node, user = call.api.node, call.user()
    reason = (await call.body(Disconnect)).reason
    if reason and (fault := id_fault(reason, _CHARACTER_BYTES * REASON_CHARACTERS)) is not None:
        raise Refused(400, f"the reason {fault}")
    acknowledged = asyncio.Event()
    count = await node.dismiss(user, _cut(reason), acknowledged.set)
    try:
        async with asyncio.timeout(ACKNOWLEDGE):
            await acknowledged.wait()
    except TimeoutError:
        raise Refused(
            503, f"{count} connections were closed, but the store has not acknowledged it; try again", RETRY_AFTER
        ) from None
    return answer(Disconnected(user, count))


def _cut(reason: str) -> str:
    """As much of a reason as a close frame has room for, whole characters only."""
    return reason.encode()[:_CLOSE_REASON_BYTES].decode(errors="ignore")


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/users/{user}",
        handler=_user,
        tag="Users",
        summary="How a user is shown",
        description="Who was never seen is offline, with version 0. `devices` counts tabs and devices.",
        access=Access.READ,
        parameters={"user": USER},
        answer=Answer(UserPresence, example=PRESENCE, description="How the user is shown."),
    ),
    Operation(
        method="POST",
        path="/v1/users/query",
        handler=_query,
        tag="Users",
        summary="How several users are shown",
        access=Access.READ,
        body=QueryUsers,
        body_example=QueryUsers(["alice", "bob"]),
        answer=Answer(PresenceList, example=PresenceList([PRESENCE], True), description="Each user once, in order."),
    ),
    Operation(
        method="GET",
        path="/v1/users",
        handler=_page,
        tag="Users",
        summary="The known users, page by page",
        description="Known are those who were shown online at least once and have not been forgotten since.",
        access=Access.READ,
        query=UsersQuery,
        answer=Answer(PresencePage, example=PresencePage([PRESENCE], "alice"), description="A page, by id."),
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user}/diagnostics",
        handler=_diagnostics,
        tag="Users",
        summary="All that is known of a user at this moment",
        description=(
            "Connections with their ready states, the grace window, the last transition. Reading it changes nothing. "
            "An unknown user has zero counts."
        ),
        access=Access.READ,
        parameters={"user": USER},
        answer=Answer(Diagnostics, example=DIAGNOSTICS, description="What is known."),
    ),
    Operation(
        method="POST",
        path="/v1/users/{user}/disconnect",
        handler=_disconnect,
        tag="Users",
        summary="Disconnect a user",
        description="Every connection is closed with 4004, windows end, and the user is offline at once.",
        access=Access.ADMIN,
        parameters={"user": USER},
        body=Disconnect,
        body_required=False,
        body_example=Disconnect("signed out everywhere"),
        answer=Answer(Disconnected, example=Disconnected("alice", 2), description="Done, and acknowledged."),
        problems=(503,),
    ),
)
