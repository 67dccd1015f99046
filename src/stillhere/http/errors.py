"""Errors of the HTTP API, each told as a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stillhere.server.problems import problem
from stillhere.store.contract import StoreError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "2"}


class Refused(Exception):
    """A request is refused.

    Args:
        status: of the answer.
        detail: a sentence that says what was wrong, with the value, and what would be right.
        headers: further ones.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers

    def answer(self) -> Response:
        """The answer that tells it."""
        body = problem(self.status, self.detail)
        return Response(body, self.status, dict(self.headers or {}), MEDIA_TYPE)


async def tell(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for all that is expected to go wrong."""
    if isinstance(error, Refused):
        return error.answer()
    if isinstance(error, HTTPException):
        nothing = f"there is nothing at {request.url.path[:128]!r}; /docs lists what there is"
        return Refused(error.status_code, nothing if error.status_code == 404 else error.detail, error.headers).answer()
    assert isinstance(error, StoreError)
    return Refused(503, "the store cannot answer at the moment; try again", RETRY_AFTER).answer()
