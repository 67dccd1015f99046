"""What an operation of the HTTP API is: one declaration, from which routing, checks and OpenAPI follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from stillhere.http.call import Call

JSON = "application/json"

Handler = Callable[["Call"], Awaitable[Response]]


class Access(StrEnum):
    """Who may call."""

    OPEN = "anybody"
    READ = "scope read or admin, or an API key"
    ADMIN = "scope admin, or an API key"
    LOCAL = "this machine only"


class Answer(msgspec.Struct, frozen=True):
    """What an operation answers when all is well."""

    type: Any = None
    """A struct, or None for an answer that is not JSON."""
    status: int = 200
    description: str = "The answer."
    example: Any = None
    media: str = JSON


class Parameter(msgspec.Struct, frozen=True):
    """A segment of the path, or a header."""

    description: str
    example: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    Attributes:
        path: a template such as ``/v1/users/{user}``; a parameter is one whole segment, percent-decoded.
        query: a struct whose fields are the query parameters; a field of a list type may be repeated.
        body: a struct; ``body_required`` says whether an empty body stands for its defaults.
        problems: statuses of the answers to what is wrong, beside those that follow from the rest.
        hidden: not part of the API document: pages and files.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str = ""
    description: str = ""
    access: Access = Access.OPEN
    parameters: Mapping[str, Parameter] = {}
    query: type[msgspec.Struct] | None = None
    headers: Mapping[str, Parameter] = {}
    body: type[msgspec.Struct] | None = None
    body_required: bool = True
    body_example: Any = None
    answer: Answer = Answer()
    problems: tuple[int, ...] = ()
    hidden: bool = False

    @property
    def segments(self) -> tuple[str, ...]:
        """The path, split."""
        return tuple(self.path.split("/")[1:])
