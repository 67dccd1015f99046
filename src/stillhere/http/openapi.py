"""The API document (OpenAPI 3.1), made from the operations and their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

import stillhere
from stillhere.http.answers import ID_SCHEMA
from stillhere.http.errors import MEDIA_TYPE as PROBLEM_MEDIA
from stillhere.http.operations import JSON, Access, Operation, Parameter
from stillhere.server.problems import Problem, problem

_REFERENCE = "#/components/schemas/{name}"
_STATUSES = ["online", "away", "busy", "offline", "unknown"]

_DESCRIPTION = """\
Who is online, why, and since when. Everything here is answered from the same source of truth as what watchers are told
over WebSockets (`GET /ws`).

Times are integers, milliseconds since the Unix epoch, and named `…At`; durations are milliseconds, named `…Ms`. A
reader ignores fields that it does not know. Every error is a problem document (RFC 9457).\
"""

_TAGS = {
    "Users": "How users are shown, and what is known of them.",
    "Rooms": "Who is where.",
    "Events": "Every transition, as it happens.",
    "Webhooks": "Where transitions are posted to, how that goes, and what was given up.",
    "Nodes": "The server processes and their figures.",
    "Policy": "What is set, and what other grace windows would have led to.",
    "Service": "For whoever runs the server.",
    "Development": "Only on the development server.",
}

_PROBLEMS = {
    400: (
        "BadRequest",
        "Something in the request is wrong; the detail says what would be right.",
        "the user id is empty",
    ),
    401: ("Unauthorized", "There are no credentials, or they are not valid.", "the token expired 12 s ago"),
    403: ("Forbidden", "The credentials do not suffice.", "the token does not have the scope admin"),
    404: ("NotFound", "There is no such thing.", "there is no node 'n7' that this one can drain"),
    413: ("TooLarge", "The body is larger than 1 MiB.", "the body has more than 1048576 bytes"),
    415: ("WrongMediaType", "The body is not JSON by its Content-Type.", "the Content-Type is ''"),
    421: ("Misdirected", "The Host header does not name this server.", "the Host 'example.org' is not this server's"),
    500: ("Failed", "The server has a fault.", "a task of the node failed"),
    503: ("Unavailable", "Not at the moment; try again.", "the store cannot answer at the moment"),
}

_CREDENTIALS: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
_SECURITY = {Access.READ: _CREDENTIALS, Access.ADMIN: _CREDENTIALS}


def build_document(operations: Iterable[Operation], *, queries: int, longest_ms: int) -> dict[str, Any]:
    """Describe operations.

    Args:
        operations: hidden ones are left out.
        queries: how many users one query may name.
        longest_ms: the longest window that may be tried, in ms.
    """
    told = [operation for operation in operations if not operation.hidden]
    schemas = _schemas(told, queries)
    paths: dict[str, Any] = {}
    for operation in told:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    _bound_windows(paths, longest_ms)
    tags = {operation.tag for operation in told}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stillhere",
            "version": stillhere.__version__,
            "summary": "Presence that can be trusted",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items() if name in tags],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {name: _problem(status) for status, (name, _, _) in _PROBLEMS.items()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token with the scope `read`, or `admin` for calls that change something.",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "One of `admin.api_keys`; it may do everything.",
                },
            },
        },
    }


def _schemas(operations: Iterable[Operation], queries: int) -> dict[str, Any]:
    types: dict[type, None] = {Problem: None}
    for operation in operations:
        for found in (operation.body, operation.answer.type):
            if isinstance(found, type) and issubclass(found, msgspec.Struct):
                types[found] = None
    _, schemas = msgspec.json.schema_components(tuple(types), ref_template=_REFERENCE)
    for name in ("UserPresence", "Member"):
        if name in schemas:  # in the messages a plain text, for the speed of encoding
            schemas[name]["properties"]["status"] = {"enum": _STATUSES}
    if "QueryUsers" in schemas:
        schemas["QueryUsers"]["properties"]["users"]["maxItems"] = queries
    return schemas


def _bound_windows(paths: dict[str, Any], longest_ms: int) -> None:
    for parameter in paths.get("/v1/policy/replay", {}).get("get", {}).get("parameters", ()):
        if parameter["name"] == "windowMs":
            parameter["schema"]["maximum"] = longest_ms


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation),
        "security": _SECURITY.get(operation.access, []),
    }
    if operation.description:
        found["description"] = operation.description
    if operation.access is Access.ADMIN:
        found["description"] = f"{operation.description} Needs the scope `admin`.".strip()
    parameters = [
        *(_parameter(name, "path", p, ID_SCHEMA) for name, p in operation.parameters.items()),
        *(_parameter(name, "header", p, {}) for name, p in operation.headers.items()),
        *_query_parameters(operation),
    ]
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        content: dict[str, Any] = {"schema": {"$ref": _REFERENCE.format(name=operation.body.__name__)}}
        if operation.body_example is not None:
            content["example"] = msgspec.to_builtins(operation.body_example)
        found["requestBody"] = {"required": operation.body_required, "content": {JSON: content}}
    return found


def _identifier(operation: Operation) -> str:
    """``getUsersUserDiagnostics``: for generators of clients."""
    words = [segment.strip("{}").replace(".", "-") for segment in operation.segments if segment != "v1"]
    parts = [part for word in words for part in word.split("-")]
    return operation.method.lower() + "".join(part[:1].upper() + part[1:] for part in parts)


def _parameter(name: str, where: str, parameter: Parameter, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": parameter.description,
        "schema": {"type": "string", **schema},
        "example": parameter.example,
    }


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    """The fields of the query's struct; lists are repeated parameters."""
    if operation.query is None:
        return []
    _, schemas = msgspec.json.schema_components((operation.query,), ref_template="{name}")
    whole = schemas[operation.query.__name__]
    found = []
    for name, schema in whole["properties"].items():
        plain = _inline(schema, schemas)
        description = plain.pop("description", "")
        found.append({"name": name, "in": "query", "required": False, "description": description, "schema": plain})
    return found


def _inline(schema: Any, schemas: Mapping[str, Any]) -> Any:
    """A schema without references: a parameter is easier to read whole."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            target = schemas[schema["$ref"]]
            return {k: v for k, v in _inline(target, schemas).items() if k not in ("title", "description")}
        return {key: _inline(value, schemas) for key, value in schema.items()}
    return schema


def _responses(operation: Operation) -> dict[str, Any]:
    answer = operation.answer
    content: dict[str, Any] = {"schema": _answer_schema(answer.type)}
    if answer.media != JSON:
        content["schema"] = {"type": "string"}
    if answer.example is not None:
        content["example"] = msgspec.to_builtins(answer.example)
    statuses = {*operation.problems, 421}
    if operation.access in _SECURITY:
        statuses |= {401, 403, 503}
    elif operation.access is Access.LOCAL:
        statuses |= {403}
    if operation.body is not None:
        statuses |= {400, 413, 415}
    if operation.query is not None or operation.parameters:
        statuses |= {400}
    return {
        str(answer.status): {"description": answer.description, "content": {answer.media: content}},
        **{str(status): {"$ref": f"#/components/responses/{_PROBLEMS[status][0]}"} for status in sorted(statuses)},
    }


def _answer_schema(answered: Any) -> dict[str, Any]:
    if isinstance(answered, type) and issubclass(answered, msgspec.Struct):
        return {"$ref": _REFERENCE.format(name=answered.__name__)}
    return {"type": "object"}


def _problem(status: int) -> dict[str, Any]:
    _, description, detail = _PROBLEMS[status]
    return {
        "description": f"{HTTPStatus(status).phrase}. {description}",
        "content": {
            PROBLEM_MEDIA: {
                "schema": {"$ref": _REFERENCE.format(name="Problem")},
                "example": msgspec.json.decode(problem(status, detail)),
            }
        },
    }
