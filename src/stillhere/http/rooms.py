"""Calls about rooms."""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest

from msgspec import UNSET
from starlette.responses import Response

from stillhere.http.answers import PAGE, RoomCount, RoomMembers, RoomPage, RoomQuery, RoomsQuery
from stillhere.http.call import Call, answer, checked_bound
from stillhere.http.examples import EPOCH, MEMBER, ROOM
from stillhere.http.operations import Access, Answer, Operation
from stillhere.wire.frames import member


async def _rooms(call: Call) -> Response:
    wanted = call.query(RoomsQuery)
    found = await call.api.node.store.rooms(checked_bound("the cursor", wanted.cursor), wanted.limit + 1)
    rooms = [RoomCount(room, members) for room, members in found[: wanted.limit]]
    return answer(RoomPage(rooms, rooms[-1].room if len(found) > wanted.limit else None))


async def _room(call: Call) -> Response:
    node, room = call.api.node, call.room()
    there = await node.store.room(room)
    count, epoch = len(there.members), str(there.cursor.epoch)
    wanted = call.query(RoomQuery)
    after = checked_bound("the cursor", wanted.cursor)
    statuses = dict(sorted(Counter(m.status.value for m in there.members.values()).items()))
    if after or wanted.limit is not UNSET:
        limit = PAGE if wanted.limit is UNSET else wanted.limit
        users = nsmallest(limit + 1, (user for user in there.members if user > after))
        page = [member(user, there.members[user], epoch) for user in users[:limit]]
        return answer(RoomMembers(room, epoch, count, page, statuses, users[limit - 1] if len(users) > limit else None))
    if count > node.settings.rooms.count_only_above:
        return answer(RoomMembers(room, epoch, count, UNSET, statuses))
    return answer(RoomMembers(room, epoch, count, [member(user, m, epoch) for user, m in there.members.items()]))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/rooms",
        handler=_rooms,
        tag="Rooms",
        summary="The rooms that somebody is in",
        access=Access.READ,
        query=RoomsQuery,
        answer=Answer(RoomPage, example=RoomPage([RoomCount("lobby", 3)], None), description="A page, by name."),
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/rooms/{room}",
        handler=_room,
        tag="Rooms",
        summary="Who is in a room",
        description=(
            "A room that nobody is in has a count of 0. Of a room with more than `rooms.count_only_above` members only "
            "the count is told. With `cursor` or `limit`, some members of any room, in the order of their ids."
        ),
        access=Access.READ,
        parameters={"room": ROOM},
        query=RoomQuery,
        answer=Answer(RoomMembers, example=RoomMembers("lobby", EPOCH, 1, [MEMBER]), description="The members."),
        problems=(503,),
    ),
)
