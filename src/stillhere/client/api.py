"""The HTTP API of a server, for servers: :class:`Api`, and :class:`AsyncApi` for programs on asyncio.

The calls, their answers and the rules of repetition are shared (``calls``, ``events``); only the waiting differs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import httpx

from stillhere.client import calls
from stillhere.client.answers import (
    Diagnostics,
    Disconnected,
    Draining,
    Gap,
    NodeInfo,
    PresenceList,
    RoomCount,
    RoomMembers,
    Stats,
    Transition,
)
from stillhere.client.calls import Call
from stillhere.client.errors import ApiError, NoAnswer
from stillhere.client.events import SILENCE, Reader
from stillhere.client.link import retry_after
from stillhere.wire.messages import Member, UserPresence

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds for a connection, and for each read of an answer."""

RETRIES = 2
"""How often a call that may be repeated is sent again."""

PAGE = 500
PATIENCE = 60.0
"""How long the server may be away before a reader of events gives up, in seconds."""

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Settings:
    """What both kinds are made of."""

    def __init__(self, url: str, token: str | None, api_key: str | None, timeout: float, retries: int) -> None:
        self.url = calls.api_url(url)
        self.retries = retries
        self.client: dict[str, Any] = {
            "headers": calls.headers(token, api_key),
            "timeout": timeout,
            "follow_redirects": False,
        }

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """One call, for httpx."""
        found: dict[str, Any] = {"method": call.method, "url": self.url + call.path}
        if call.params:
            found["params"] = call.params
        if call.body is not None:
            found.update(content=call.body, headers={"Content-Type": "application/json"})
        return found

    def stream(self, reader: Reader, timeout: float) -> dict[str, Any]:
        """The next connection of a reader, for httpx."""
        return {
            "method": "GET",
            "url": f"{self.url}/v1/events",
            "params": reader.params,
            "headers": reader.headers(),
            "timeout": httpx.Timeout(timeout, read=SILENCE),
        }

    def judge(self, call: Call[Any], attempt: int, error: ApiError, unsent: bool) -> float:
        """How long to wait before a call that failed is sent again, in seconds; raises the error where it is not."""
        if attempt >= self.retries or not calls.may_repeat(call, error, unsent):
            raise error
        return calls.wait_before(attempt, error)


def _no_answer(call: str, error: httpx.HTTPError) -> NoAnswer:
    found = NoAnswer(f"{call}: {type(error).__name__}{f': {error}' if str(error) else ''}")
    found.__cause__ = error
    return found


class Api:
    """A server's HTTP API; a context manager. Safe to use from several threads.

    Every call raises an :class:`~stillhere.client.errors.ApiError` of a kind that says what to do, and ids that no
    server takes are refused before anything is sent.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        **options: Any,
    ) -> None:
        """Send nothing yet.

        Args:
            url: ``https://example.com``, with the path in front of ``/v1`` if there is one.
            token: with the scope ``read``, or ``admin`` for calls that change something.
            api_key: one of ``admin.api_keys``; decides where both are given.
            timeout: for a connection, and for each read of an answer, in seconds.
            retries: how often a call that may be repeated is sent again.
            options: further ones of :class:`httpx.Client`: ``verify``, ``proxy``, ``trust_env``, …

        Raises:
            BadAddress, BadToken: one of them cannot be.
        """
        self._settings = _Settings(url, token, api_key, timeout, retries)
        self._timeout = timeout
        self._http = httpx.Client(**{**self._settings.client, **options})

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def user(self, user: str) -> UserPresence:
        """How a user is shown; who was never seen is offline, with version 0."""
        return self._call(calls.user(user))

    def query(self, users: Iterable[str]) -> PresenceList:
        """How several users are shown, each once and in order."""
        return self._call(calls.query(users))

    def users(self, *, status: str | None = None, prefix: str = "", page: int = PAGE) -> Iterator[UserPresence]:
        """Iterate over the known users by id, page by page.

        Args:
            status: only those who are shown like this.
            prefix: only those whose id begins so.
            page: how many are fetched at once, at most 1,000.
        """
        cursor: str | None = ""
        while cursor is not None:
            found = self._call(calls.users(status, prefix, cursor, page))
            yield from found.users
            cursor = found.cursor

    def diagnostics(self, user: str) -> Diagnostics:
        """All that is known of a user at this moment. Asking changes nothing."""
        return self._call(calls.diagnostics(user))

    def disconnect(self, user: str, reason: str = "") -> Disconnected:
        """Close every connection of a user with 4004; offline at once. Sent once, whatever happens to the answer."""
        return self._call(calls.disconnect(user, reason))

    def rooms(self, *, page: int = PAGE) -> Iterator[RoomCount]:
        """Iterate over the rooms that somebody is in by name, page by page."""
        cursor: str | None = ""
        while cursor is not None:
            found = self._call(calls.rooms(cursor, page))
            yield from found.rooms
            cursor = found.cursor

    def room(self, room: str) -> RoomMembers:
        """Who is in a room; nobody, if there is none of that name. Of a large one, the count."""
        return self._call(calls.room(room))

    def members(self, room: str, *, page: int = PAGE) -> Iterator[Member]:
        """Iterate over the members of a room of any size by id, page by page."""
        cursor: str | None = ""
        while cursor is not None:
            found = self._call(calls.room(room, cursor, page))
            yield from found.members or ()
            cursor = found.cursor

    def nodes(self) -> list[NodeInfo]:
        """The nodes of the installation."""
        return self._call(calls.nodes()).nodes

    def drain(self, node: str) -> Draining:
        """Move everybody away from a node."""
        return self._call(calls.drain(node))

    def stats(self) -> Stats:
        """Figures of the node that answers."""
        return self._call(calls.stats())

    def events(
        self,
        after: str | None = None,
        *,
        users: Iterable[str] = (),
        rooms: Iterable[str] = (),
        types: Iterable[str] = (),
        patience: float = PATIENCE,
    ) -> Generator[Transition | Gap, None, None]:
        """Iterate over every transition as it happens, in order and once; resumes by itself.

        Args:
            after: the cursor of the last one that was dealt with; None begins now.
            users: only these, if any are given.
            rooms: only in these, if any are given.
            types: only these changes, if any are given.
            patience: how long the server may be away before this gives up, in seconds.
        """
        reader = Reader(after, users, rooms, types, patience)
        while True:
            error: ApiError | None = None
            try:
                with self._http.stream(**self._settings.stream(reader, self._timeout)) as answer:
                    if answer.status_code != 200:
                        raise calls.refusal(answer.status_code, answer.read(), retry_after(answer.headers))
                    for piece in answer.iter_bytes():
                        yield from reader.feed(piece)
            except httpx.HTTPError as failed:
                error = _no_answer("GET /v1/events", failed)
            except ApiError as refused:
                error = refused
            time.sleep(reader.away(error, time.monotonic()))

    def _call(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            unsent = False
            try:
                answer = self._http.request(**self._settings.request(call))
                return calls.read(call, answer.status_code, answer.content, retry_after(answer.headers))
            except httpx.HTTPError as failed:
                error: ApiError = _no_answer(f"{call.method} {call.path}", failed)
                unsent = isinstance(failed, _UNSENT)
            except ApiError as refused:
                error = refused
            time.sleep(self._settings.judge(call, attempt, error, unsent))
            attempt += 1


class AsyncApi:
    """As :class:`Api`, for asyncio; an asynchronous context manager."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        **options: Any,
    ) -> None:
        """See :class:`Api`; ``options`` are those of :class:`httpx.AsyncClient`."""
        self._settings = _Settings(url, token, api_key, timeout, retries)
        self._timeout = timeout
        self._http = httpx.AsyncClient(**{**self._settings.client, **options})

    async def __aenter__(self) -> AsyncApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def user(self, user: str) -> UserPresence:
        """See :meth:`Api.user`."""
        return await self._call(calls.user(user))

    async def query(self, users: Iterable[str]) -> PresenceList:
        """See :meth:`Api.query`."""
        return await self._call(calls.query(users))

    async def users(
        self, *, status: str | None = None, prefix: str = "", page: int = PAGE
    ) -> AsyncIterator[UserPresence]:
        """See :meth:`Api.users`."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._call(calls.users(status, prefix, cursor, page))
            for one in found.users:
                yield one
            cursor = found.cursor

    async def diagnostics(self, user: str) -> Diagnostics:
        """See :meth:`Api.diagnostics`."""
        return await self._call(calls.diagnostics(user))

    async def disconnect(self, user: str, reason: str = "") -> Disconnected:
        """See :meth:`Api.disconnect`."""
        return await self._call(calls.disconnect(user, reason))

    async def rooms(self, *, page: int = PAGE) -> AsyncIterator[RoomCount]:
        """See :meth:`Api.rooms`."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._call(calls.rooms(cursor, page))
            for one in found.rooms:
                yield one
            cursor = found.cursor

    async def room(self, room: str) -> RoomMembers:
        """See :meth:`Api.room`."""
        return await self._call(calls.room(room))

    async def members(self, room: str, *, page: int = PAGE) -> AsyncIterator[Member]:
        """See :meth:`Api.members`."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._call(calls.room(room, cursor, page))
            for one in found.members or ():
                yield one
            cursor = found.cursor

    async def nodes(self) -> list[NodeInfo]:
        """See :meth:`Api.nodes`."""
        return (await self._call(calls.nodes())).nodes

    async def drain(self, node: str) -> Draining:
        """See :meth:`Api.drain`."""
        return await self._call(calls.drain(node))

    async def stats(self) -> Stats:
        """See :meth:`Api.stats`."""
        return await self._call(calls.stats())

    async def events(
        self,
        after: str | None = None,
        *,
        users: Iterable[str] = (),
        rooms: Iterable[str] = (),
        types: Iterable[str] = (),
        patience: float = PATIENCE,
    ) -> AsyncGenerator[Transition | Gap, None]:
        """See :meth:`Api.events`; wrap it in :func:`contextlib.aclosing` if you leave the loop early."""
        reader = Reader(after, users, rooms, types, patience)
        while True:
            error: ApiError | None = None
            try:
                async with self._http.stream(**self._settings.stream(reader, self._timeout)) as answer:
                    if answer.status_code != 200:
                        raise calls.refusal(answer.status_code, await answer.aread(), retry_after(answer.headers))
                    async for piece in answer.aiter_bytes():
                        for event in reader.feed(piece):
                            yield event
            except httpx.HTTPError as failed:
                error = _no_answer("GET /v1/events", failed)
            except ApiError as refused:
                error = refused
            await asyncio.sleep(reader.away(error, time.monotonic()))

    async def _call(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            unsent = False
            try:
                answer = await self._http.request(**self._settings.request(call))
                return calls.read(call, answer.status_code, answer.content, retry_after(answer.headers))
            except httpx.HTTPError as failed:
                error: ApiError = _no_answer(f"{call.method} {call.path}", failed)
                unsent = isinstance(failed, _UNSENT)
            except ApiError as refused:
                error = refused
            await asyncio.sleep(self._settings.judge(call, attempt, error, unsent))
            attempt += 1
