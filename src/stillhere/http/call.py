"""One request to an operation: its parameters and body, checked against their types."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stillhere.core.words import RoomName, UserId
from stillhere.http.errors import Refused
from stillhere.http.operations import JSON, Operation
from stillhere.wire.ids import id_fault
from stillhere.wire.pseudonyms import Masks

if TYPE_CHECKING:
    from stillhere.http.dev import DevMode
    from stillhere.http.events import Streams
    from stillhere.http.stats import Rates
    from stillhere.server.node import Node

S = TypeVar("S", bound=msgspec.Struct)

BODY_BYTES = 1024 * 1024
_QUERY_FIELDS = 256
_SHOWN = 64
_FIELD = re.compile(r" - at `\$\.(\w+)")


class Api:
    """What all calls share."""

    def __init__(self, node: Node, dev: DevMode | None, streams: Streams, rates: Rates) -> None:
        """Put it together.

        Args:
            node: of which the API tells; whoever made it starts and stops it.
            dev: for the development server.
            streams: the listeners to ``/v1/events``.
            rates: for ``/v1/stats``.
        """
        self.node = node
        self.dev = dev
        self.streams = streams
        self.rates = rates
        self.document: dict[str, Any] = {}
        """The OpenAPI document."""
        self.masks = Masks(secrets.token_bytes(32))
        """For recordings: the same all the while this process lives."""
        self.drains = False
        """Whether a drain was asked for."""


class Call:
    """See the module."""

    def __init__(self, api: Api, operation: Operation, request: Request, path: dict[str, bytes]) -> None:
        """Check nothing yet."""
        self.api = api
        self.operation = operation
        self.request = request
        self.expires_at: float | None = None
        """When the caller's token ends, Unix seconds; None for an API key."""
        self._path = path

    def path(self, name: str) -> str:
        """A parameter of the path.

        Raises:
            Refused: it is not UTF-8.
        """
        try:
            return self._path[name].decode()
        except UnicodeDecodeError:
            raise Refused(
                400, f"the {name} in the path is not UTF-8; percent-encode the UTF-8 bytes of the id"
            ) from None

    def user(self) -> UserId:
        """The user of the path.

        Raises:
            Refused: it cannot be the id of a user.
        """
        return UserId(checked_id("the user id", self.path("user")))

    def room(self) -> RoomName:
        """The room of the path.

        Raises:
            Refused: it cannot be the name of a room.
        """
        return RoomName(checked_id("the room name", self.path("room")))

    def query(self, type: type[S]) -> S:
        """The parameters of the query.

        Raises:
            Refused: one of them is wrong.
        """
        given = self._raw_query()
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(type):
            name = field.encode_name
            texts = given.get(name)
            if texts is None:
                continue
            if _is_list(field.type):
                values[name] = texts
            elif len(texts) > 1:
                raise Refused(400, f"the query parameter {name} is given {len(texts)} times; once is right")
            else:
                values[name] = texts[0]
        try:
            return msgspec.convert(values, type, strict=False)
        except msgspec.ValidationError as error:
            raise Refused(400, _explain(type, values, error)) from None

    def _raw_query(self) -> dict[str, list[str]]:
        raw: bytes = self.request.scope.get("query_string", b"")
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS
            )
        except UnicodeDecodeError:
            raise Refused(400, "the query is not percent-encoded UTF-8") from None
        except ValueError:
            raise Refused(400, f"the query has more than {_QUERY_FIELDS} fields") from None
        given: dict[str, list[str]] = {}
        for name, value in pairs:
            given.setdefault(name, []).append(value)
        return given

    async def body(self, type: type[S]) -> S:
        """The body.

        Raises:
            Refused: 413, 415, or 400 where it is not what the type says.
        """
        content = await self._read()
        if not content and not self.operation.body_required:
            return type()
        media = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != JSON:
            raise Refused(415, f"the Content-Type is {media[:_SHOWN]!r}; it must be {JSON}")
        try:
            return msgspec.json.decode(content, type=type)
        except msgspec.ValidationError as error:
            raise Refused(400, f"the body is not right: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"the body is not JSON: {error}") from None
        except RecursionError:
            raise Refused(400, "the body is nested too deeply") from None

    async def _read(self) -> bytes:
        """The bytes of the body; no more of them are taken than are allowed."""
        announced = self.request.headers.get("content-length", "")
        if announced.isdigit() and int(announced[:20]) > BODY_BYTES:
            raise Refused(413, f"the body has {announced[:20]} bytes; it may have {BODY_BYTES}")
        content = bytearray()
        async for chunk in self.request.stream():
            content += chunk
            if len(content) > BODY_BYTES:
                raise Refused(413, f"the body has more than {BODY_BYTES} bytes")
        return bytes(content)


def answer(value: msgspec.Struct, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def checked_id(what: str, text: str) -> str:
    """A user id or a room name.

    Raises:
        Refused: 400 with what is wrong with it.
    """
    fault = id_fault(text)
    if fault is not None:
        raise Refused(400, f"{what} {fault}")
    return text


def checked_bound(what: str, text: str) -> str:
    """The beginning of an id, or a place among the ids: like an id, but it may be empty.

    Raises:
        Refused: 400 with what is wrong with it.
    """
    fault = id_fault(text) if text else None
    if fault is not None:
        raise Refused(400, f"{what} {fault.replace('must have 1 to', 'may have up to')}")
    return text


def _is_list(type: Any) -> bool:
    return get_origin(type.__origin__ if get_origin(type) is Annotated else type) is list


def _explain(type: type[msgspec.Struct], values: dict[str, Any], error: msgspec.ValidationError) -> str:
    """What is wrong with a query, with the value and what would be right."""
    found = _FIELD.search(str(error))
    name = found[1] if found else ""
    _, components = msgspec.json.schema_components((type,), ref_template="{name}")
    schema = components[type.__name__]["properties"].get(name)
    if schema is None:
        return f"the query is not right: {error}"
    value = values[name] if isinstance(values[name], str) else ", ".join(values[name])
    return f"the query parameter {name} is {value[:_SHOWN]!r}; it must be {_describe(schema, components)}"


def _describe(schema: dict[str, Any], components: dict[str, Any]) -> str:
    """A schema, in words."""
    if "items" in schema:
        return _describe(schema["items"], components)
    if "$ref" in schema:
        return _describe(components[schema["$ref"]], components)
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    return f"a whole number from {schema['minimum']} to {schema['maximum']}"
