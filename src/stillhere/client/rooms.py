"""A room that this client is in, as an object of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from stillhere.client.errors import ClientError, RequestRefused
from stillhere.client.feed import Feed, room_feed
from stillhere.client.views import MemberView, RoomChange

if TYPE_CHECKING:
    from stillhere.client.live import Client


class Room:
    """A room that was joined; made by :meth:`~stillhere.client.live.Client.join`."""

    def __init__(self, client: Client, name: str) -> None:
        """Belong to a client."""
        self.name = name
        self._client = client
        self._held = True
        self._feeds: WeakSet[Feed[RoomChange]] = WeakSet()

    @property
    def members(self) -> tuple[MemberView, ...]:
        """Who is in it, in the order of their arrival; nobody, if it is ``counted``."""
        return self._client.room(self.name).members

    @property
    def count(self) -> int:
        """How many are in it, also where it is so large that nobody is named."""
        return self._client.room(self.name).count

    @property
    def counted(self) -> bool:
        """Whether it is that large: ``members`` is empty then, and no changes are told until it is smaller."""
        return self._client.room(self.name).counted

    @property
    def stale(self) -> bool:
        """Whether that may be out of date: not connected, or not told yet on this connection."""
        return self._client.room(self.name).stale

    @property
    def refusal(self) -> RequestRefused | None:
        """Why the server does not let this client in; None if it does, or has not said."""
        return self._client.refusal_of(self.name)

    def set_meta(self, meta: Mapping[str, Any]) -> None:
        """Say something else of this connection here.

        Raises:
            BadMeta: nothing is sent.
        """
        self._client.set_room_meta(self.name, meta)

    def leave(self) -> None:
        """Leave it, unless another part of the program is in it as well; a second call does nothing."""
        if self._held:
            self._held = False
            self._client.leave(self.name)
            self.end(None)

    async def __aenter__(self) -> Room:
        """Wait until its members are known.

        Raises:
            RequestRefused: the server does not let this client in.
            Refused, Closed: the client has ended.
        """
        try:
            await self._client.until(lambda: not self.stale or self.refusal is not None, None)
            if self.refusal is not None:
                raise self.refusal
        except BaseException:
            self.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.leave()

    def __aiter__(self) -> Feed[RoomChange]:
        """Iterate over changes, beginning with everybody who is here now as ``joined``; ends as the client's does."""
        feed = room_feed([RoomChange("joined", member) for member in self.members], self)
        self._feeds.add(feed)
        if not self._held or self.refusal is not None:
            feed.end(self.refusal)
            return feed
        return self._client.begun(feed)

    def put(self, changes: Iterable[RoomChange]) -> None:
        """There is news of it."""
        for feed in self._feeds:
            for change in changes:
                feed.put(change)

    def end(self, error: ClientError | None) -> None:
        """Nothing more comes."""
        for feed in self._feeds:
            feed.end(error)
