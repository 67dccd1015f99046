"""The document of the WebSocket protocol (AsyncAPI 3.0), made from the types of its messages.

https://www.asyncapi.com/docs/reference/specification/v3.0.0; "receive" and "send" are seen from the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import msgspec
from starlette.responses import Response

import stillhere
from stillhere.http.answers import ID_SCHEMA
from stillhere.http.call import Call
from stillhere.http.examples import AT, EPOCH, MEMBER
from stillhere.http.operations import JSON, Answer, Operation
from stillhere.wire import messages as wire
from stillhere.wire.codes import CAUSE_OF, CloseCode, ErrorCode, advice

_SCHEMAS = "#/components/schemas/{name}"
_STATUSES = ["online", "away", "busy", "offline", "unknown"]

CLIENT_MESSAGES: tuple[type[wire.ClientMessage], ...] = wire.Request.__args__

_DESCRIPTION = """\
Who is online, as it changes. One connection is one tab or device of one user; the subprotocol is `stillhere.v1`.

Times are integers, milliseconds since the Unix epoch, and named `…At`; durations are milliseconds, named `…Ms`. A
reader ignores fields that it does not know. An `id` is chosen by the client and repeated in the answer.\
"""

_CHANNEL = """\
Authenticate with `Authorization: Bearer <token>`, with the subprotocols `stillhere.v1, bearer.<token>`, or with `auth`
as the first message. The first message of the server is `welcome`. Drop every state whose (`epoch`, `version`) is not
greater than what you hold; another `epoch` than yours is always newer.\
"""

_PRESENCE = wire.UserPresence("bob", "online", EPOCH, 42, AT, info={"name": "Bob"}, meta={"mood": "busy bee"})
_GONE = wire.UserPresence("bob", "offline", EPOCH, 47, AT + 9000, AT + 1000)

EXAMPLES: Mapping[type[msgspec.Struct], Sequence[msgspec.Struct]] = {
    wire.Auth: [wire.Auth("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.signature")],
    wire.Watch: [wire.Watch(["bob", "carol"], 1)],
    wire.Unwatch: [wire.Unwatch(["carol"], 2)],
    wire.Query: [wire.Query(["bob"], 3)],
    wire.Join: [wire.Join("lobby", {"seat": 4}, 4)],
    wire.Leave: [wire.Leave("lobby", 5)],
    wire.Page: [wire.Page("stadium", "bob", 100, 8)],
    wire.State: [wire.State("away", {"mood": "busy bee"}, 6)],  # type: ignore[arg-type]  # as on the wire
    wire.Bye: [wire.Bye()],
    wire.Ping: [wire.Ping(7)],
    wire.Probe: [wire.Probe(3)],
    wire.WelcomeMessage: [
        wire.WelcomeMessage("c_7dQxW1mPz0aBcDeF", "s_9", "alice", EPOCH, "n1", 20_000, AT, AT + 3_600_000)
    ],
    wire.Snapshot: [wire.Snapshot([_PRESENCE], True, 1)],
    wire.Presence: [wire.Presence([_GONE])],
    wire.Room: [
        wire.Room("lobby", 4, [MEMBER]),
        wire.Room("lobby", joins=[MEMBER], leaves=[wire.Member("bob", "offline", EPOCH, 48)]),
        wire.Room("stadium", count=1234, statuses={"away": 34, "online": 1200}),
        wire.Room("stadium", 8, count=1234, statuses={"away": 34, "online": 1200}, page=[MEMBER], cursor="alice"),
    ],
    wire.Ok: [wire.Ok(2)],
    wire.Pong: [wire.Pong(7)],
    wire.ServerProbe: [wire.ServerProbe(3)],
    wire.Error: [wire.Error("too_many", "more than 1000 users are watched", 1)],
    wire.Moving: [wire.Moving(2400)],
}
"""At least one of every message; tests hold them against their schemas."""

_REPLIES: Mapping[type[wire.ClientMessage], Sequence[type[wire.ServerMessage]]] = {
    wire.Auth: (wire.WelcomeMessage, wire.Ok, wire.Error),
    wire.Watch: (wire.Snapshot, wire.Error),
    wire.Unwatch: (wire.Ok, wire.Error),
    wire.Query: (wire.Snapshot, wire.Error),
    wire.Join: (wire.Room, wire.Error),
    wire.Leave: (wire.Ok, wire.Error),
    wire.Page: (wire.Room, wire.Error),
    wire.State: (wire.Ok, wire.Error),
    wire.Ping: (wire.Pong,),
}
"""What a message is answered with; ``bye`` by a close with 1000, ``probe`` by nothing."""

_UNASKED: Mapping[type[wire.ServerMessage], str] = {
    wire.WelcomeMessage: "Once, when the store has acknowledged the connection.",
    wire.Presence: "Whenever a watched user changes.",
    wire.Room: "Whenever somebody joins, leaves or changes in a room that this connection is in; "
    "of a room with more than `rooms.count_only_above` members the count, once a second at most.",
    wire.ServerProbe: "Every `heartbeat.probe_interval_ms`, to clients that connected with `probe=1`.",
    wire.Error: "Whenever a message cannot be understood.",
    wire.Moving: "When the node is about to go.",
}


def build_asyncapi() -> dict[str, Any]:
    """Describe the protocol; the server is filled in where it is told."""
    every = (*CLIENT_MESSAGES, *wire.SERVER_MESSAGES)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stillhere WebSocket protocol",
            "version": stillhere.__version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {"here": _server("127.0.0.1:7400", "ws", "")},
        "channels": {
            "connection": {
                "address": "/ws",
                "title": "A connection",
                "description": _CHANNEL,
                "messages": {_key(kind): {"$ref": f"#/components/messages/{_key(kind)}"} for kind in every},
                "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
                "x-close-codes": [_close_code(code) for code in CloseCode],
            }
        },
        "operations": {
            **{f"receive{_title(kind)}": _received(kind) for kind in CLIENT_MESSAGES},
            **{f"send{_title(kind)}": _sent(kind, text) for kind, text in _UNASKED.items()},
        },
        "components": {
            "messages": {_key(kind): _message(kind) for kind in every},
            "schemas": _schemas(every),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In the header, as the subprotocol `bearer.<token>`, or in the message `auth`.",
                }
            },
        },
    }


_QUERY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tab": {
            "type": "string",
            "maxLength": 128,
            "description": "The id of the client, kept across reloads: a newer connection supersedes an older one.",
        },
        "probe": {"type": "string", "enum": ["1"], "description": "The client answers `probe` messages."},
        "availability": {
            "type": "string",
            "enum": ["active", "away", "busy", "invisible"],
            "description": "What the connection says of itself from the beginning.",
        },
        "token": {"type": "string", "description": "Only with `auth.allow_query_token`."},
    },
}


def _server(host: str, protocol: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "host": host,
        "protocol": protocol,
        "description": "This server.",
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }
    return found | ({"pathname": path} if path else {})


def _tag(kind: type[msgspec.Struct]) -> str:
    """The ``type`` on the wire."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str), "every message has one"
    return tag


def _key(kind: type[msgspec.Struct]) -> str:
    """The name in the document: the tag, but for the one that both sides send."""
    return "serverProbe" if kind is wire.ServerProbe else _tag(kind)


def _title(kind: type[msgspec.Struct]) -> str:
    key = _key(kind)
    return key[:1].upper() + key[1:]


def _summary(kind: type[msgspec.Struct]) -> str:
    return (kind.__doc__ or "").split("\n\n")[0].replace("``", "`").replace("\n    ", " ").strip()


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": _tag(kind),
        "title": _tag(kind),
        "summary": _summary(kind),
        "payload": {"$ref": _SCHEMAS.format(name=kind.__name__)},
        "examples": [{"payload": msgspec.to_builtins(example)} for example in EXAMPLES[kind]],
    }


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/channels/connection/messages/{_key(kind)}"}


def _received(kind: type[wire.ClientMessage]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "action": "receive",
        "channel": {"$ref": "#/channels/connection"},
        "summary": _summary(kind),
        "messages": [_reference(kind)],
    }
    if kind in _REPLIES:
        found["reply"] = {
            "channel": {"$ref": "#/channels/connection"},
            "messages": [_reference(answer) for answer in _REPLIES[kind]],
        }
    return found


def _sent(kind: type[wire.ServerMessage], when: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": "#/channels/connection"},
        "summary": when,
        "messages": [_reference(kind)],
    }


def _close_code(code: CloseCode) -> dict[str, Any]:
    return {"code": code.value, "name": code.name.lower(), "cause": CAUSE_OF[code].value, "client": advice(code).value}


def _schemas(types: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    for name in ("UserPresence", "Member"):  # plain texts there, for the speed of encoding
        schemas[name]["properties"]["status"] = {"type": "string", "enum": _STATUSES}
    schemas["Error"]["properties"]["code"] = {"type": "string", "enum": [code.value for code in ErrorCode]}
    for name in ("Watch", "Unwatch", "Query"):
        schemas[name]["properties"]["users"]["items"] = {"type": "string", **ID_SCHEMA}
    for name in ("Join", "Leave", "Page"):
        schemas[name]["properties"]["room"] = {"type": "string", **ID_SCHEMA}
    return schemas


DOCUMENT = build_asyncapi()


async def _asyncapi(call: Call) -> Response:
    request = call.request
    protocol = "wss" if request.url.scheme in ("https", "wss") else "ws"
    host = request.headers.get("host") or "127.0.0.1:7400"
    server = _server(host, protocol, request.scope.get("root_path", ""))
    return Response(msgspec.json.encode({**DOCUMENT, "servers": {"here": server}}), media_type=JSON)


def list_messages() -> str:
    """The document as plain HTML, for where the pages are not built."""
    parts = [
        f"<p>{escape(DOCUMENT['info']['description']).replace(chr(10) * 2, '</p><p>')}</p>",
        '<p>The whole document: <a href="../asyncapi.json">asyncapi.json</a>. The <a href="../docs">HTTP API</a>.</p>',
    ]
    for title, kinds in (("Client to server", CLIENT_MESSAGES), ("Server to client", wire.SERVER_MESSAGES)):
        parts.append(f"<h2>{title}</h2><dl>")
        for kind in kinds:
            message = DOCUMENT["components"]["messages"][_key(kind)]
            examples = "".join(
                f"<pre><code>{escape(msgspec.json.encode(example['payload']).decode())}</code></pre>"
                for example in message["examples"]
            )
            parts.append(f"<dt><code>{_tag(kind)}</code></dt><dd>{escape(message['summary'])}{examples}</dd>")
        parts.append("</dl>")
    return "".join(parts)


OPERATIONS = (
    Operation(
        method="GET",
        path="/asyncapi.json",
        handler=_asyncapi,
        tag="Service",
        summary="The WebSocket protocol as a document",
        answer=Answer(dict, description="AsyncAPI 3.0."),
    ),
)
