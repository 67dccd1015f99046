"""From a request to an operation.

Paths are matched segment by segment on what the client sent, before percent-decoding: a user id may hold a slash, and
``/v1/users/a%2Fb`` is about the user ``a/b``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Message, Receive, Scope, Send

from stillhere.http.access import admit
from stillhere.http.call import Api, Call
from stillhere.http.errors import Refused
from stillhere.http.events import EventStream
from stillhere.http.operations import Operation

Found = tuple[Operation, dict[str, bytes]]

_KEY = "stillhere.found"


def path_segments(scope: Scope) -> list[bytes]:
    """The path below the place where the application is mounted, split at its slashes, then percent-decoded."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path, safe="/:@!$&'()*+,;=~").encode()
    segments = raw.partition(b"?")[0].split(b"/")[1:]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        segments = segments[root.count("/") :]
    return [unquote_to_bytes(segment) for segment in segments]


class Table(BaseRoute):
    """All operations, as one Starlette route."""

    def __init__(self, api: Api, operations: Iterable[Operation]) -> None:
        """Take the operations; where two paths fit, the one with a literal segment goes before the one without."""
        self._api = api
        named = [(tuple(map(_literal, operation.segments)), operation) for operation in operations]
        named.sort(key=lambda pair: [literal is None for literal in pair[0]])
        self._entries = named

    def find(self, segments: Sequence[bytes]) -> list[Found]:
        """The operations whose path fits, whatever their method."""
        found = []
        for literals, operation in self._entries:
            if len(literals) == len(segments) and all(
                bool(given) if literal is None else given == literal
                for literal, given in zip(literals, segments, strict=True)
            ):
                pairs = zip(operation.segments, segments, strict=True)
                found.append((operation, {name[1:-1]: given for name, given in pairs if name.startswith("{")}))
        return found

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Starlette."""
        found = self.find(path_segments(scope)) if scope["type"] == "http" else []
        return (Match.FULL, {_KEY: found}) if found else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        found: list[Found] = scope[_KEY]
        method: str = scope["method"]
        wanted = "GET" if method == "HEAD" else method
        chosen = next((pair for pair in found if pair[0].method == wanted), None)
        if chosen is None:
            answer = _answer_without(method, found)
        else:
            operation, path = chosen
            call = Call(self._api, operation, Request(scope, receive, send), path)
            await admit(call)
            answer = await operation.handler(call)
        if method == "HEAD":
            if isinstance(answer, EventStream):
                answer = Response(headers=dict(answer.headers))
            send = _without_body(send)
        await answer(scope, receive, send)


def _literal(segment: str) -> bytes | None:
    return None if segment.startswith("{") else segment.encode()


def _answer_without(method: str, found: Sequence[Found]) -> Response:
    """For OPTIONS, and for a method that the path does not have."""
    methods = {operation.method for operation, _ in found}
    allowed = ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
    if method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    raise Refused(405, f"{method[:16]} is not possible here; {allowed} are", {"Allow": allowed})


def _without_body(send: Send) -> Send:
    async def head_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return head_only
