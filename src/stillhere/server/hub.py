"""The hub: from the log of transitions to the connections of this node that follow a user or a room.

Each transition is encoded once. While the node is calm its frames go out at the end of the loop turn; when flushes
are large and come one after the other, each waits in proportion to the one before, at most ``FOLD`` seconds, and folds:
of each user only the newest state is sent, and a room's burst becomes a few frames.

Following without gaps: a topic is registered first, then loaded from a snapshot, and what the log brings that is not
newer than the snapshot is dropped. A follower is added when its answer is sent, in the same call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence

from stillhere.core.events import Notice, Transition
from stillhere.core.record import NOBODY
from stillhere.core.words import RoomName, UserId
from stillhere.server.metrics import Metrics
from stillhere.server.topics import COUNT_ONLY_ABOVE, Follower, RoomTopic, Topic, UserTopic
from stillhere.store.contract import Cursor, Store, StoreError
from stillhere.wire import frames
from stillhere.wire.messages import encode

FOLD = 0.02
"""Seconds that a change may wait under pressure, at most."""

PACE = 20e-6
"""Seconds that the next flush waits for each frame of the last one: two or three times what a frame costs, so that
flushes leave the larger part of a CPU to all else, and a small one keeps nobody waiting."""

CALM = 64
"""A flush of at most so many frames leaves the node calm."""

RECOVERY_POLL = 0.5
"""Seconds between two looks at what a store that is being told who is there did not know yet."""

_LOG = logging.getLogger("stillhere.hub")

Answer = Callable[[bool], None]
"""Called when what was asked for is loaded; with False where the store could not be reached."""


class Hub:
    """Topics, their followers, and the reader of the log."""

    def __init__(self, store: Store, metrics: Metrics, count_only_above: int = COUNT_ONLY_ABOVE) -> None:
        """Prepare; :meth:`run` does the work.

        Args:
            store: started by the node.
            metrics: counts what is sent.
            count_only_above: members above which a room is told by its count.
        """
        self._store = store
        self._count_only_above = count_only_above
        self._held: dict[RoomTopic, asyncio.TimerHandle] = {}
        """Rooms whose count may not be told again yet."""
        self._metrics = metrics
        self.users: dict[UserId, UserTopic] = {}
        self.rooms: dict[RoomName, RoomTopic] = {}
        self.cursors = [Cursor(0, 0)] * store.partitions
        self._unsure: dict[Topic, None] = {}
        self._look_again: asyncio.TimerHandle | None = None
        self.on_notice: Callable[[Notice], None] = lambda notice: None
        """Told of what nodes have to hear of each other."""
        self.on_gap: Callable[[int], None] = lambda partition: None
        """Told of a partition whose log no longer reached back to this node's place: notices were missed."""
        self._dirty: dict[Topic, None] = {}
        self._wanted: dict[Topic, None] = {}
        self._waiting: list[tuple[Sequence[Topic], Answer]] = []
        self._later: list[deque[tuple[int, Callable[[], None]]]] = [deque() for _ in range(store.partitions)]
        self._wake = asyncio.Event()
        self._news = True
        self._flush_handle: asyncio.Handle | None = None
        self._last_flush = 0.0
        self._last_size = 0
        self.reachable = True

    @property
    def epoch(self) -> str:
        """The epoch, as it stands on the wire; of several partitions, that of the first."""
        return str(self.cursors[0].epoch)

    def epoch_of(self, user: UserId) -> str:
        """The epoch of a user's partition."""
        return str(self.cursors[self._store.partition_of(user)].epoch)

    async def start(self) -> None:
        """Begin at the newest place of each log."""
        self.cursors = [await self._store.tip(p) for p in range(self._store.partitions)]
        self._store.on_news(self._on_news)

    async def run(self) -> None:
        """Read the log and load topics, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._news:
                    self._news = False
                    await self._read()
                if self._wanted or self._waiting:
                    await self._load()
                self.reachable = True
            except StoreError as error:
                self._metrics.store_errors.inc()
                if self.reachable:
                    _LOG.warning("the store cannot be read: %s", error)
                self.reachable = False
                self._answer(False)
                self._news = True
                await asyncio.sleep(0.25)
                self._wake.set()

    # -- following ----------------------------------------------------------------------------------------------

    def user(self, user: UserId) -> UserTopic:
        """The topic of a user; made if it is new."""
        topic = self.users.get(user)
        if topic is None:
            topic = self.users[user] = UserTopic(user)
        return topic

    def room(self, room: RoomName) -> RoomTopic:
        """The topic of a room; made if it is new."""
        topic = self.rooms.get(room)
        if topic is None:
            topic = self.rooms[room] = RoomTopic(room, self._count_only_above)
        return topic

    def when_loaded(self, topics: Sequence[Topic], answer: Answer) -> None:
        """Call back as soon as all topics are loaded: at once if they are, else after one batched look-up."""
        missing = [topic for topic in topics if not topic.loaded]
        if not missing:
            answer(True)
            return
        for topic in topics:
            topic.pins += 1
        self._wanted.update(dict.fromkeys(missing))
        self._waiting.append((topics, answer))
        self._wake.set()

    def when_read(self, partition: int, cursor: Cursor, callback: Callable[[], None]) -> None:
        """Call back when a log has been applied up to a place: at once if it has."""
        here = self.cursors[partition]
        if cursor.epoch != here.epoch or cursor.seq <= here.seq:
            callback()
        else:
            self._later[partition].append((cursor.seq, callback))

    def follow(self, topic: Topic, follower: Follower) -> None:
        """Tell this follower of every change from now on."""
        topic.followers.add(follower)

    def unfollow(self, topic: Topic, follower: Follower) -> None:
        """Tell it no more; a topic without followers is dropped."""
        topic.followers.discard(follower)
        self.release(topic)

    def release(self, topic: Topic) -> None:
        """Drop a topic that nobody needs."""
        if topic.followers or topic.pins:
            return
        if isinstance(topic, UserTopic):
            self.users.pop(topic.user, None)
        else:
            self.rooms.pop(topic.room, None)
            if (held := self._held.pop(topic, None)) is not None:
                held.cancel()
        self._wanted.pop(topic, None)
        self._dirty.pop(topic, None)

    # -- reading ------------------------------------------------------------------------------------------------

    def _on_news(self) -> None:
        self._news = True
        self._wake.set()

    async def _read(self) -> None:
        for partition in range(self._store.partitions):
            await self._read_partition(partition)

    async def _read_partition(self, partition: int) -> None:
        while True:
            page = await self._store.read_log(self.cursors[partition], partition=partition)
            if page.gap:
                _LOG.warning("the log no longer reaches back to %s: fresh snapshots", self.cursors[partition])
                self.cursors[partition] = page.cursor
                self._reload(partition)
                self.on_gap(partition)
                later = self._later[partition]
                while later:  # their place is in the snapshots, or was in an epoch that is over
                    later.popleft()[1]()
                continue
            self.apply(page.entries, page.cursor, partition)
            for notice in page.notices:
                self.on_notice(notice)
            if not (page.entries or page.notices):
                return

    def apply(self, entries: Iterable[Transition], cursor: Cursor, partition: int = 0) -> None:
        """Bring the topics up to date and have their followers told."""
        epoch = str(cursor.epoch)
        users, rooms, dirty = self.users, self.rooms, self._dirty
        for entry in entries:
            if entry.room is not None:
                room = rooms.get(entry.room)
                if room is not None and room.apply(entry, cursor.epoch, partition):
                    dirty[room] = None
            else:
                user = users.get(entry.user)
                if user is not None and entry.shown is not None and user.update(entry.shown, epoch):
                    user.loaded = True
                    if user.followers:
                        dirty[user] = None
        self.cursors[partition] = cursor
        later = self._later[partition]
        while later and later[0][0] <= cursor.seq:
            later.popleft()[1]()
        if dirty:
            self._schedule()

    def _reload(self, partition: int) -> None:
        """Fresh snapshots, as soon as the store knows: what was shown stays until then."""
        of = self._store.partition_of
        self._wanted.update(dict.fromkeys(topic for user, topic in self.users.items() if of(user) == partition))
        self._wanted.update(dict.fromkeys(self.rooms.values()))
        self._wake.set()

    async def _load(self) -> None:
        """One look-up for all users that are wanted, one per room."""
        wanted, self._wanted = self._wanted, {}
        unsure: dict[Topic, None] = {}
        try:
            users = [topic.user for topic in wanted if isinstance(topic, UserTopic)]
            if users:
                snapshot = await self._store.snapshot(users)
                for user, shown in snapshot.users.items():
                    if (followed := self.users.get(user)) is None:
                        continue
                    if user in snapshot.unknown:
                        unsure[followed] = None  # what was shown stays, until the store knows
                    elif user in snapshot.doubtful and followed.seen_off:
                        followed.loaded = True  # gone already, in an epoch that was lost; unless a node tells otherwise
                        unsure[followed] = None
                    else:
                        epoch = str(snapshot.cursors[self._store.partition_of(user)].epoch)
                        self._take(followed, followed.update(shown, epoch))
            for topic in wanted:
                if isinstance(topic, RoomTopic):
                    there = await self._store.room(topic.room)
                    first = not topic.loaded
                    sure = topic.load(there, self._store.partition_of)
                    if not (sure and there.complete):
                        unsure[topic] = None
                    if first:  # whoever follows it already was told that it is not known
                        _broadcast(topic, topic.followers, (topic.snapshot(),))
                    else:
                        self._take(topic, True)
        except StoreError:
            self._wanted.update(wanted)
            raise
        self._answer(True, unsure)
        self._unsure.update(unsure)
        if self._unsure and self._look_again is None:
            self._look_again = asyncio.get_running_loop().call_later(RECOVERY_POLL, self._load_unsure)

    def _load_unsure(self) -> None:
        """The store may know by now: one look-up for all, however much news there is meanwhile."""
        self._look_again = None
        unsure, self._unsure = self._unsure, {}
        self._wanted.update(dict.fromkeys(topic for topic in unsure if topic.followers or topic.pins))
        self._wake.set()

    def _take(self, topic: Topic, changed: bool) -> None:
        topic.loaded = True
        if changed and topic.followers:
            self._dirty[topic] = None
            self._schedule()

    def _answer(self, reachable: bool, unsure: Container[Topic] = ()) -> None:
        waiting, self._waiting = self._waiting, []
        for topics, answer in waiting:
            loaded = all(topic.loaded for topic in topics)
            if reachable and not loaded and not any(topic in unsure for topic in topics):
                self._waiting.append((topics, answer))
                self._wake.set()
                continue
            for topic in topics:
                topic.pins -= 1
            answer(loaded)
            for topic in topics:
                self.release(topic)

    # -- telling ------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._flush_handle is not None:
            return
        loop = asyncio.get_running_loop()
        ready = self._last_flush + min(FOLD, PACE * self._last_size)
        if self._last_size <= CALM or loop.time() >= ready:
            self._flush_handle = loop.call_soon(self.flush)
        else:
            self._flush_handle = loop.call_at(ready, self.flush)

    def flush(self) -> None:
        """Send what changed."""
        self._flush_handle = None
        dirty, self._dirty = self._dirty, {}
        sent = 0
        users = []
        for topic in dirty:
            if isinstance(topic, RoomTopic):
                sent += self._flush_room(topic)
            elif topic.followers:
                users.append(topic)
        if len(users) == 1:
            sent += _broadcast(users[0], users[0].followers, (frames.presence_frame((users[0].part,)),))
        elif users:
            sent += self._flush_users(users)
        self._last_flush = asyncio.get_running_loop().time()
        self._last_size = sent
        if sent:
            self._metrics.frames.labels("change").inc(sent)
            self._metrics.fanout.observe(sent)

    def _flush_room(self, topic: RoomTopic) -> int:
        loop = asyncio.get_running_loop()
        wait = topic.wait(loop.time())
        if wait > 0:
            if topic not in self._held:
                self._held[topic] = loop.call_later(wait, self._tell_count, topic)
            return 0
        changes = topic.changes(loop.time())
        return _broadcast(topic, topic.followers, changes) if changes and topic.followers else 0

    def _tell_count(self, topic: RoomTopic) -> None:
        del self._held[topic]
        self._dirty[topic] = None
        self._schedule()

    def _flush_users(self, topics: list[UserTopic]) -> int:
        """Several users changed: one frame per follower, shared by those who follow the same of them."""
        if all(topic.followers == topics[0].followers for topic in topics[1:]):
            groups: dict[tuple[UserTopic, ...], list[Follower]] = {tuple(topics): list(topics[0].followers)}
        else:
            mine: dict[Follower, list[UserTopic]] = {}
            for topic in topics:
                for follower in topic.followers:
                    mine.setdefault(follower, []).append(topic)
            groups = {}
            for follower, theirs in mine.items():
                groups.setdefault(tuple(theirs), []).append(follower)
        sent = 0
        for followed, followers in groups.items():
            frame = frames.presence_frame([topic.part for topic in followed])
            for follower in followers:
                if follower.congested:
                    for topic in followed:
                        follower.miss(topic)
                else:
                    follower.send(frame)
                    sent += 1
        return sent

    def flush_room(self, topic: RoomTopic) -> None:
        """Tell the followers of a room now, so that a new one's snapshot is the state that all have."""
        self._flush_room(topic)

    def part(self, user: UserId, *, allowed: bool = True) -> bytes:
        """The encoded state of a loaded user, or that of nobody."""
        topic = self.users.get(user) if allowed else None
        if topic is not None and topic.shown is not None:
            return topic.part
        return encode(frames.user_presence(user, NOBODY, self.epoch_of(user)))


def _broadcast(topic: Topic, followers: Iterable[Follower], changes: Sequence[bytes]) -> int:
    """Send the same frames to all who have room for them."""
    sent = 0
    first, more = changes[0], changes[1:]
    for follower in followers:
        if follower.congested:
            follower.miss(topic)
            continue
        if (socket := follower.socket) is not None:  # past Peer.send: whoever follows is live, and has room
            socket.send(first)
        for frame in more:
            follower.send(frame)
        sent += 1
    return sent
