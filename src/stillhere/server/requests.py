"""What the messages of a client mean: one function per type, readable beside ``docs/protocol.md`` section 1.2.

A handler never awaits. What needs a look-up leaves an answer with the hub; what changes presence is answered when the
store has acknowledged it. Where an application has to be asked first whom a client may see, the message waits for that,
and whatever the client says meanwhile waits behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stillhere.core.words import RoomName, UserId
from stillhere.server.login import authenticate
from stillhere.server.topics import UserTopic
from stillhere.server.visibility import Patterns
from stillhere.wire import messages
from stillhere.wire.codes import CloseCode, ErrorCode
from stillhere.wire.frames import snapshot_frame, unknown_presence
from stillhere.wire.ids import id_fault
from stillhere.wire.messages import Error, Ok, Pong, RequestId, encode

if TYPE_CHECKING:
    from stillhere.server.peer import Peer

_REQUEST_ID = 64
_LOOKUPS = 64
"""How many look-ups of one connection may wait."""
_ASKING = 64
"""How many messages of one connection may wait for the application's word about an earlier one."""


class Refused(Exception):
    """A request is refused; the connection stays."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def handle(peer: Peer, message: bytes) -> None:
    """Understand and answer one message."""
    if peer.asking is not None:
        if len(peer.asking) < _ASKING:
            peer.asking.append(message)
        else:
            peer.reject(None, ErrorCode.TOO_MANY, f"{_ASKING} messages wait for an answer already")
        return
    try:
        request = messages.decode(message)
    except messages.BadMessage as error:
        peer.node.metrics.received.labels("invalid").inc()
        if peer.connection is None:
            peer.close(CloseCode.UNAUTHORIZED, "the first message must be auth")
        else:
            peer.reject(None, ErrorCode.BAD_REQUEST, str(error))
        return
    first = _to_ask(peer, request)
    if first is not None:
        peer.asking = [message]
        peer.node.tasks.spawn(_handle_later(peer, first))
        return
    kind = type(request)
    peer.node.metrics.tell(peer.node.metrics.received, str(kind.__struct_config__.tag))
    id = getattr(request, "id", None)
    if isinstance(id, str) and len(id) > _REQUEST_ID:
        peer.reject(None, ErrorCode.BAD_REQUEST, f"an id of {len(id)} characters; it may have {_REQUEST_ID}")
        return
    if peer.connection is None and kind is not messages.Auth:
        peer.say(Error(ErrorCode.UNAUTHORIZED, "authenticate first: the first message must be auth", id))
        peer.close(CloseCode.UNAUTHORIZED, "the first message must be auth")
        return
    try:
        _HANDLERS[kind](peer, request)
    except Refused as refused:
        peer.reject(id, refused.code, str(refused))
    else:
        peer.accepted()


def _to_ask(peer: Peer, request: object) -> Awaitable[None] | None:
    """What has to be awaited before it is known whom this client may see; what will be refused anyway asks nobody."""
    identity, limits = peer.identity, peer.node.settings.limits
    if identity is None or (
        type(identity.rooms) is Patterns and type(identity.watch) is Patterns
    ):  # a token says it all
        return None
    try:
        match request:
            case messages.Watch():
                return identity.watch.ask(_users(request.users, limits.watch))
            case messages.Query():
                return identity.watch.ask(_users(request.users, limits.queries))
            case messages.Join():
                return identity.rooms.ask([_room(request.room)])
    except Refused:
        pass
    return None


async def _handle_later(peer: Peer, first: Awaitable[None]) -> None:
    """The application has been asked: handle what waited, in order."""
    await first
    waiting, peer.asking = peer.asking or [], None
    for message in waiting:
        if peer.ended:
            return
        handle(peer, message)  # may have to ask anew; the rest then waits behind it


def _auth(peer: Peer, request: messages.Auth) -> None:
    authenticate(peer, request.token, request.id)


def _watch(peer: Peer, request: messages.Watch) -> None:
    most = peer.node.settings.limits.watch
    wanted = _users(request.users, most)
    following = peer.users if peer.users is not None else {}
    new = [user for user in wanted if user not in following]
    if len(following) + len(new) > most:
        raise Refused(
            ErrorCode.TOO_MANY,
            f"{len(following)} users are watched and {len(new)} are new; limits.watch allows {most}",
        )
    _look_up(peer, request.id, wanted, follow=True)


def _unwatch(peer: Peer, request: messages.Unwatch) -> None:
    following = peer.users or {}
    for user in _users(request.users, peer.node.settings.limits.watch):
        topic = following.pop(user, None)
        if topic is not None:
            peer.node.hub.unfollow(topic, peer)
    peer.say(Ok(request.id))


def _query(peer: Peer, request: messages.Query) -> None:
    _look_up(peer, request.id, _users(request.users, peer.node.settings.limits.queries), follow=False)


def _look_up(peer: Peer, id: RequestId, users: list[UserId], *, follow: bool) -> None:
    """Answer with a ``snapshot``; who may not be seen is answered like somebody who does not exist."""
    assert peer.identity is not None
    _count_look_up(peer)
    hub, allows = peer.node.hub, peer.identity.watch.allows
    allowed = {user for user in users if allows(user)}
    topics = [hub.user(user) for user in users if user in allowed]
    if follow:  # noted now, so that the limit counts them and an unwatch finds them; followed with the answer
        if peer.users is None:
            peer.users = {}
        peer.users.update((topic.user, topic) for topic in topics)

    def answer(reachable: bool) -> None:
        peer.pending -= 1
        if peer.ended:
            return
        parts, complete = [], True
        for user in users:
            topic = hub.users.get(user) if user in allowed else None
            if topic is not None and not topic.loaded:
                complete = False
                parts.append(encode(unknown_presence(user, hub.epoch_of(user))))
            else:
                parts.append(hub.part(user, allowed=topic is not None))
        if follow:
            _follow(peer, topics)
        peer.send(snapshot_frame(id, parts, complete))

    hub.when_loaded(topics, answer)
    if not follow:
        for topic in topics:
            hub.release(topic)


def _follow(peer: Peer, topics: Sequence[UserTopic]) -> None:
    following = peer.users or {}
    for topic in topics:
        if following.get(topic.user) is topic:
            peer.node.hub.follow(topic, peer)


def _join(peer: Peer, request: messages.Join) -> None:
    assert peer.identity is not None
    assert peer.connection is not None
    room = _room(request.room)
    if not peer.identity.rooms.allows(room):
        raise Refused(ErrorCode.FORBIDDEN, f"the token does not allow the room {room!r}")
    _check_meta(peer, request.meta)
    connection = peer.connection
    rooms = connection.rooms or {}
    most = peer.node.settings.limits.rooms
    if room not in rooms and len(rooms) >= most:
        raise Refused(ErrorCode.TOO_MANY, f"the connection is in {len(rooms)} rooms; limits.rooms allows {most}")
    _count_look_up(peer)
    hub = peer.node.hub
    topic = hub.room(RoomName(room))
    topic.pins += 1

    def loaded(reachable: bool) -> None:
        topic.pins -= 1
        peer.pending -= 1
        if peer.ended or room not in (connection.rooms or {}):
            hub.release(topic)
            peer.say(Error(ErrorCode.BAD_REQUEST, "the room was left before the join could be answered", request.id))
            return
        if peer.rooms is None:
            peer.rooms = {}
        peer.rooms[topic.room] = topic
        if not topic.loaded:
            peer.say(Error(ErrorCode.UNAVAILABLE, "the members of the room are not known at the moment", request.id))
        else:
            hub.flush_room(topic)
            peer.send(topic.page(request.id))
        hub.follow(topic, peer)

    peer.node.join(peer, topic.room, request.meta, lambda: hub.when_loaded((topic,), loaded))


def _page(peer: Peer, request: messages.Page) -> None:
    topic = (peer.rooms or {}).get(_room(request.room))
    if topic is None:
        raise Refused(ErrorCode.BAD_REQUEST, f"the connection is not in the room {request.room!r}: join it first")
    if not topic.loaded:
        raise Refused(ErrorCode.UNAVAILABLE, "the members of the room are not known at the moment")
    peer.node.hub.flush_room(topic)
    peer.send(topic.page(request.id, request.cursor, request.limit))


def _leave(peer: Peer, request: messages.Leave) -> None:
    room = _room(request.room)
    topic = (peer.rooms or {}).pop(room, None)
    if topic is not None:
        peer.node.hub.unfollow(topic, peer)
    peer.node.leave(peer, room, lambda: peer.say(Ok(request.id)))


def _state(peer: Peer, request: messages.State) -> None:
    assert peer.connection is not None
    if request.availability is None and request.meta is None:
        raise Refused(ErrorCode.BAD_REQUEST, "state needs availability, meta or both")
    if request.meta is not None:
        merged = {**(peer.connection.meta or {}), **request.meta}
        _check_meta(peer, {key: value for key, value in merged.items() if value is not None})
    peer.node.state(peer, request.availability, request.meta, lambda: peer.say(Ok(request.id)))


def _bye(peer: Peer, request: messages.Bye) -> None:
    if request.id is not None:
        peer.say(Ok(request.id))
    peer.close(CloseCode.NORMAL, "bye")


def _ping(peer: Peer, request: messages.Ping) -> None:
    peer.say(Pong(request.id))


def _probe(peer: Peer, request: messages.Probe) -> None:
    peer.probed()


_HANDLERS: dict[type, Callable[[Peer, Any], None]] = {
    messages.Auth: _auth,
    messages.Watch: _watch,
    messages.Unwatch: _unwatch,
    messages.Query: _query,
    messages.Join: _join,
    messages.Leave: _leave,
    messages.Page: _page,
    messages.State: _state,
    messages.Bye: _bye,
    messages.Ping: _ping,
    messages.Probe: _probe,
}


def _users(names: Sequence[str], most: int) -> list[UserId]:
    """The ids, each once, in order."""
    if len(names) > most:
        raise Refused(ErrorCode.TOO_MANY, f"{len(names)} users in one message; {most} are allowed")
    for name in names:
        fault = id_fault(name)
        if fault is not None:
            raise Refused(ErrorCode.BAD_REQUEST, f"a user id {fault}")
    return [UserId(name) for name in dict.fromkeys(names)]


def _room(name: str) -> RoomName:
    fault = id_fault(name)
    if fault is not None:
        raise Refused(ErrorCode.BAD_REQUEST, f"the room name {fault}")
    return RoomName(name)


def _check_meta(peer: Peer, meta: dict[str, Any]) -> None:
    most = peer.node.settings.limits.meta_bytes
    size = len(msgspec.json.encode(meta)) if meta else 0
    if size > most:
        raise Refused(ErrorCode.TOO_LARGE, f"meta would have {size} bytes; limits.meta_bytes allows {most}")


def _count_look_up(peer: Peer) -> None:
    if peer.pending >= _LOOKUPS:
        raise Refused(ErrorCode.TOO_MANY, f"{peer.pending} requests wait for an answer already")
    peer.pending += 1
